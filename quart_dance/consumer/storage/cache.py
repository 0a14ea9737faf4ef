"""A cache in front of a database, that never outlives what it copies."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from ...oauth.token import Token, seconds
from .forks import check_ours
from .waiting import finished, within

T = TypeVar("T")
_logger = logging.getLogger(__name__)

#: Seconds that a cache may take; after that the database answers.
DEADLINE = 0.25
#: Seconds that it is remembered that there is no token.
ABSENCE_TTL = 30
#: Seconds after a change in which the cache stays out of use.
MARKER_TTL = 10
#: Seconds after which what was read is too old to be put into the cache. Well below
#: `MARKER_TTL`: a reader that began before a change ends before its marker.
READ_DEADLINE = 5

_CHANGING = json.dumps({"changing": True})


class AsyncCache(Protocol):
    """What we ask of a cache; aiocache's are like this."""

    async def get(self, key: str) -> Any: ...

    async def set(self, key: str, value: Any, *, ttl: int) -> Any: ...

    async def add(self, key: str, value: Any, *, ttl: int) -> Any: ...


class TokenCache:
    """Tokens in a cache that several processes may share.

    Only readers put tokens there, and only where there is nothing. Whoever changes a
    token leaves a marker that outlives what readers hold, and readers go to the
    database as long as it stands. So it does not matter in which order processes that
    change one token at the same time come to the cache.

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
        answered, value = await self._call(partial(self._cache.get, key))
        found = _decode(value, key)
        if found is not None and "token" in found:
            token = found["token"]
            return None if token is None else Token(token)
        began = self._clock()
        token = await load()
        # Nothing stood there; a marker may by now, so a reader never replaces.
        if answered and found is None and self._clock() - began < READ_DEADLINE:
            entry = json.dumps({"of": key, "token": token})
            if (ttl := self._life(token)) > 0:
                add = partial(self._cache.add, key, entry, ttl=ttl)
                await self._call(add, taken=True)
        return token

    async def change(self, key: str, save: Callable[[], Awaitable[T]]) -> T:
        """Save to the database, with a marker in the cache before and after.

        The first one is for those who end in between. It goes on where its caller is
        cancelled: so does the statement, and the last marker has to come after it.

        Args:
            key: The account's.
            save: What saves.
        """
        return await self._whole(self._change(key, save))

    async def _change(self, key: str, save: Callable[[], Awaitable[T]]) -> T:
        mark = partial(self._cache.set, key, _CHANGING, ttl=MARKER_TTL)
        await self._call(mark)
        try:
            return await save()
        finally:
            await self._call(mark, must=True)

    def _life(self, token: Token | None) -> int:
        """Return for how many seconds an entry may stand."""
        if token is None:
            return min(self._ttl, ABSENCE_TTL)
        end = seconds(token.get("expires_at"))
        return self._ttl if end is None else min(self._ttl, int(end - time.time()))

    async def _call(
        self,
        call: Callable[[], Awaitable[Any]],
        *,
        taken: bool = False,
        must: bool = False,
    ) -> tuple[bool, Any]:
        """Wait for a cache, but not long; return whether it answered, and what."""
        try:
            return True, await self._answer(call)
        except Exception as error:
            if taken and isinstance(error, ValueError):
                return True, None  # how aiocache says that the key exists
            level = logging.ERROR if must else logging.WARNING
            _logger.log(
                level,
                "The token cache failed (%s)%s",
                type(error).__name__,
                f": an old token may be seen for {self._ttl} s" if must else "",
            )
            return False, None

    def _clock(self) -> float:
        return asyncio.get_running_loop().time()

    async def _whole(self, change: Awaitable[T]) -> T:
        return await finished(change)

    async def _answer(self, call: Callable[[], Awaitable[Any]]) -> Any:
        check_ours("the cache", self._cache)
        return await within(DEADLINE, call())


def _decode(value: Any, key: str) -> dict[str, Any] | None:
    """Return an entry, None for none; what we did not write counts as a change.

    An entry says itself where it belongs: clients have been known to hand out the
    answer to somebody else's question.
    """
    if value is None:
        return None
    try:
        entry = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        entry = None
    if not isinstance(entry, dict) or entry.get("of") != key:
        return {"changing": True}
    token = entry.get("token", ...)
    return entry if token is None or isinstance(token, dict) else {"changing": True}
