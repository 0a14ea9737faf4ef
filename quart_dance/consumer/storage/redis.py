"""Leases in Redis, for an application that prefers them to its database's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.lock import Lock
from redis.exceptions import RedisError

from .base import saved, until

__all__ = ["RedisLease"]

#: Seconds that Redis may take to answer.
DEADLINE = 5


class RedisLease:
    """Keeps processes from refreshing one token at the same time, through Redis.

    For ``SQLAlchemyStorage(lease=…)``, or for the `refresh_lock` of a storage of your
    own. A lease has an owner, and nobody else can give it back. Where Redis is down no
    token is refreshed, and those that have not expired work on.

    Args:
        redis: A client of the event loop that will use it.
        seconds: How long a process that is killed holds up its account. It must be
            longer than the token endpoint may take, and the save after it.
        prefix: How the keys begin: two applications that share a Redis, but no table
            of tokens, need two.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        seconds: float = 30.0,
        prefix: str = "quart_dance:lease:",
    ) -> None:
        self._redis = redis
        self._seconds = seconds
        self._prefix = prefix

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Wait for the lease of that name, hold it, and give it back.

        Raises:
            StorageError: Redis does not answer.
        """
        lock: Lock = self._redis.lock(
            self._prefix + name, timeout=self._seconds, thread_local=False
        )
        try:
            await until(partial(_attempt, lock))
            yield
        finally:
            # If it fails, or is over: the lease has ended by itself, or will.
            with suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(DEADLINE):
                    await lock.release()


async def _attempt(lock: Lock) -> bool:
    async def acquire() -> Any:
        async with asyncio.timeout(DEADLINE):
            return await lock.acquire(blocking=False)

    return bool(await saved(acquire()))
