"""What a forked process takes for its parent's, and what for its own."""

from __future__ import annotations

import asyncio
import os
import signal
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import ref

import pytest

from quart_dance.consumer.storage import forks
from quart_dance.consumer.storage.cache import TokenCache

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")


class Plain:
    """A cache that holds nothing, and counts who asks."""

    __slots__ = ("__weakref__",)
    asked = 0

    async def get(self, key: str) -> None:
        type(self).asked += 1

    async def set(self, key: str, value: Any, *, ttl: int) -> None:
        """Forget it."""

    add = set


@dataclass
class Unhashable(Plain):
    """A cache without a hash."""


@dataclass(frozen=True)
class Equal(Plain):
    """A cache that has the hash of all others, and is equal to them."""


class Bare:
    """A cache that nobody can refer to weakly."""

    __slots__ = ()
    asked = 0
    get, set, add = Plain.get, Plain.set, Plain.add


def reaches(cache: Any) -> bool:
    """Say whether a new `TokenCache` asks a cache for a token."""

    async def load() -> None:
        return None

    before = type(cache).asked
    asyncio.run(TokenCache(cache, 300).read("key", load))
    return type(cache).asked > before


def in_child(check: Callable[[], bool]) -> bool:
    """Say what a forked process finds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
        child = os.fork()
    if child == 0:
        signal.alarm(10)
        os._exit(0 if check() else 1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("kind", [Plain, Unhashable, Equal, Bare])
def test_whose_a_cache_is(kind: Callable[[], Any]) -> None:
    """S14: A child uses no cache that its parent has used, whoever has; a new one, yes.

    That is asked of the cache, not of what is equal to it.
    """
    used, unused = kind(), kind()
    assert reaches(used)
    assert in_child(lambda: not reaches(used) and reaches(unused) and reaches(kind()))
    assert reaches(used)
    assert reaches(unused)


def test_a_cache_that_is_no_more() -> None:
    """S14: Nothing is kept for the sake of a fork, nor taken for what it replaces."""
    used = Plain()
    assert reaches(used)
    where, watch = id(used), ref(used)
    assert where in forks._used
    del used
    assert watch() is None
    assert where not in forks._used
