"""Leases in Redis, for an application that prefers them to its database's."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis

from ...errors import StorageError
from .base import saved
from .forks import check_ours
from .waiting import finished, leased, within

__all__ = ["RedisLease"]

#: Seconds that Redis may take to answer.
DEADLINE = 5

#: Takes a lease that is free, or ours: the client may have asked before, and lost the
#: answer. What stands there for longer than any lease lasts is none, and makes room.
_TAKE = """
local left = redis.call('pttl', KEYS[1])
local theirs = redis.pcall('get', KEYS[1]) ~= ARGV[1]
if left >= 0 and left <= 100 * ARGV[2] and theirs then return 0 end
redis.call('set', KEYS[1], ARGV[1], 'px', ARGV[2])
return 1
"""
#: Gives a lease back, if it is still ours.
_GIVE_BACK = """
if redis.pcall('get', KEYS[1]) == ARGV[1] then redis.call('del', KEYS[1]) end
"""


class RedisLease:
    """Keeps processes from refreshing one token at the same time, through Redis.

    For ``SQLAlchemyStorage(lease=…)``, or for the `refresh_lock` of a storage of your
    own. A lease has an owner, and nobody else can give it back. Where Redis is down no
    token is refreshed, and those that have not expired work on.

    Args:
        redis: A client of the event loop that will use it.
        seconds: How long a process that is killed holds up its account. It must be
            longer than a refresh may take: some 25 s.
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
            StorageError: Redis does not answer, or is too slow.
        """
        key, owner = self._prefix + name, secrets.token_hex(16)

        async def take() -> float | None:
            asked = time.monotonic()
            taken = await self._run(_TAKE, key, owner, int(self._seconds * 1000))
            return asked if taken else None

        try:
            await leased(take, self._seconds)
            yield
        finally:  # also if that failed: it may have been taken
            with suppress(StorageError):  # then it ends by itself
                await self._run(_GIVE_BACK, key, owner)

    async def _run(self, script: str, key: str, *values: Any) -> Any:
        return await finished(saved(self._ask(script, key, *values)))

    async def _ask(self, script: str, key: str, *values: Any) -> Any:
        # Clients may share a pool; that of a cluster has none.
        pool = getattr(self._redis, "connection_pool", self._redis)
        check_ours("the client of the RedisLease", self._redis, pool)
        answer: Any = self._redis.eval(script, 1, key, *values)
        return await within(DEADLINE, answer)
