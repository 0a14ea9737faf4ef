"""A cache in front of a database, that never outlives what it copies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from ...oauth.token import Token, seconds
from .base import local_lock

_logger = logging.getLogger(__name__)

#: Seconds that a cache may take; after that the database answers.
DEADLINE = 0.25
#: Seconds that absence, and a change under way, are remembered.
MARKER_TTL = 30
#: Seconds after which what was read is too old to be put into the cache. Well below
#: `MARKER_TTL`: a reader that began before a change ends before its marker.
READ_DEADLINE = 10

_CHANGING = json.dumps({"changing": True})
_ABSENT = json.dumps({"token": None})


class AsyncCache(Protocol):
    """What we ask of a cache; aiocache's are like this."""

    async def get(self, key: str) -> Any: ...

    async def set(self, key: str, value: Any, *, ttl: int) -> Any: ...

    async def add(self, key: str, value: Any, *, ttl: int) -> Any: ...


class TokenCache:
    """Tokens in a cache: read from there, written to the database first.

    Args:
        cache: The cache.
        ttl: Seconds that a token is kept at most.
    """

    def __init__(self, cache: AsyncCache, ttl: int) -> None:
        self._cache = cache
        self._ttl = ttl

    @staticmethod
    def key(*parts: Any) -> str:
        """Return a key that no other parts share, in characters all caches take."""
        text = json.dumps(parts, default=str)
        return "quart_dance:" + hashlib.sha256(text.encode()).hexdigest()

    async def read(
        self, key: str, load: Callable[[], Awaitable[Token | None]]
    ) -> Token | None:
        """Return what the cache holds, else what `load` returns."""
        found = _decode(await self._call(self._cache.get(key)))
        if found is not None and "token" in found:
            token = found["token"]
            return None if token is None else Token(token)
        began = self._clock()
        token = await load()
        # A marker may stand there, or a newer token: a reader never replaces.
        if found is None and self._clock() - began < READ_DEADLINE:
            value, ttl = self._entry(token)
            if ttl > 0:
                await self._call(self._cache.add(key, value, ttl=ttl), taken=True)
        return token

    async def change(
        self,
        key: str,
        save: Callable[[], Awaitable[bool]],
        token: Token | None,
    ) -> bool:
        """Save to the database, then to the cache, one at a time for each key.

        A marker goes before: if all ends in between, it keeps readers on the database
        until what they might have held is gone.

        Args:
            key: The account's.
            save: Returns whether the token is now what the database holds.
            token: What is saved; None deletes.
        """
        async with local_lock(self._cache, key):  # other storages may share it
            await self._call(self._cache.set(key, _CHANGING, ttl=MARKER_TTL))
            saved = await save()
            if saved:
                value, ttl = self._entry(token)
                # What ends before the marker would let older readers in.
                if ttl >= MARKER_TTL:
                    await self._call(self._cache.set(key, value, ttl=ttl), must=True)
        return saved

    def _entry(self, token: Token | None) -> tuple[str, int]:
        if token is None:
            return _ABSENT, MARKER_TTL
        end = seconds(token.get("expires_at"))
        life = self._ttl if end is None else int(end - time.time())
        return json.dumps({"token": token}), min(self._ttl, life)

    async def _call(
        self, call: Awaitable[Any], *, taken: bool = False, must: bool = False
    ) -> Any:
        """Wait for a cache, but not long, and never fail with it."""
        try:
            return await self._answer(call)
        except Exception as error:
            if taken and isinstance(error, ValueError):
                return None  # how aiocache says that the key exists
            level = logging.ERROR if must else logging.WARNING
            _logger.log(
                level,
                "The token cache failed (%s)%s",
                type(error).__name__,
                f": an old token may be seen for {self._ttl} s" if must else "",
            )
            return None

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    async def _answer(self, call: Awaitable[Any]) -> Any:
        async with asyncio.timeout(DEADLINE):
            return await call


def _decode(value: Any) -> dict[str, Any] | None:
    """Return an entry, None for none; what we did not write counts as a change."""
    if value is None:
        return None
    try:
        entry = json.loads(value)
    except (TypeError, ValueError):
        entry = None
    token = entry.get("token", ...) if isinstance(entry, dict) else ...
    return entry if token is None or isinstance(token, dict) else {"changing": True}
