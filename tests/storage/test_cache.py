"""The cache in front of a database: what fails there, and what it may hold."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from databases import DictCache, token
from scheduler import Scheduler

from quart_dance.consumer.storage.cache import MARKER_TTL, READ_DEADLINE, TokenCache
from quart_dance.consumer.storage.waiting import GRACE, finished
from quart_dance.oauth.token import Token


class Store:
    """What the cache stands before: one token, read and saved in no time or in some."""

    def __init__(self, stored=None, seconds=0):
        self.stored = stored and Token(stored)
        self.seconds = seconds
        self.reads = 0

    async def load(self):
        self.reads += 1
        found = self.stored
        await asyncio.sleep(self.seconds)
        return found

    def save(self, new):
        async def save():
            self.stored = new and Token(new)
            return True

        return save


def run(test):
    """Run a coroutine where waiting takes no time; return how long it waited."""

    async def timed():
        loop = asyncio.get_running_loop()
        began = loop.time()
        await test()
        waited = loop.time() - began
        await asyncio.sleep(0)  # what was told to end does so now
        return waited

    return Scheduler(0).run(timed())


@pytest.mark.parametrize("stored", [token("x"), None])
@pytest.mark.parametrize("broken", ["failing", "hanging"])
def test_a_cache_that_does_not_answer(broken, stored):
    """S12: Slow or down, the database answers within the deadline; nobody is let in."""
    cache, store = DictCache(), Store(stored)
    getattr(cache, broken).update({"get", "add", "set"})
    tokens = TokenCache(cache, 300)

    async def test():
        assert await tokens.read("key", store.load) == stored

    assert run(test) < 0.3  # one deadline of 0.25: what fails is not asked again
    assert store.reads == 1


@pytest.mark.parametrize("broken", ["failing", "hanging"])
def test_a_change_while_the_cache_does_not_answer(broken, caplog):
    """S12: The change counts; that the cache was not told is logged, without tokens."""
    cache, store = DictCache(), Store(token("old-secret"))
    tokens = TokenCache(cache, 300)

    async def test():
        await tokens.read("key", store.load)
        getattr(cache, broken).add("set")
        assert await tokens.change("key", store.save(None)) is True
        assert store.stored is None
        assert await tokens.change("key", store.save(token("new-secret")))

    assert run(test) < 1.1
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 2
    assert all("an old token may be seen for 300 s" in text for text in errors)
    assert "secret" not in caplog.text


@pytest.mark.parametrize("stored", [token("x"), None])
@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "nonsense",
        b"\xff\xfe",
        7,
        True,
        [],
        "[]",
        "{}",
        "7",
        "null",
        '"token"',
        '{"of": "key", "token": 7}',
        '{"of": "key", "token": "x"}',
        '{"of": "key", "token": [1]}',
        '{"of": "key"}',
        '{"token": {"access_token": "forged"}}',
        '{"of": "another", "token": {"access_token": "forged"}}',
        '{"tok": {}}',
        {"token": {"access_token": "forged"}},
    ],
    ids=str,
)
async def test_garbage_in_the_cache(garbage, stored):
    """S12: What we did not write there makes the database answer, and is no token."""
    cache, store = DictCache(), Store(stored)
    cache.values["key"] = garbage
    tokens = TokenCache(cache, 300)
    assert await tokens.read("key", store.load) == stored
    await tokens.change("key", store.save(token("new")))
    assert await tokens.read("key", store.load) == token("new")
    cache.end(MARKER_TTL)
    for _ in range(2):
        assert await tokens.read("key", store.load) == token("new")
    assert store.reads == 3


async def test_bytes_from_the_cache():
    """A cache that hands out what it was given as bytes, as Redis does, is fine."""
    cache, store = DictCache(), Store(token("ü"))
    tokens = TokenCache(cache, 300)
    await tokens.read("key", store.load)
    cache.values["key"] = cache.values["key"].encode()
    assert await tokens.read("key", store.load) == token("ü")
    assert store.reads == 1


@pytest.mark.parametrize("new", [token("new"), None])
async def test_killed_between_database_and_cache(new):
    """S12: A writer that ends in between leaves a marker: the database answers."""
    cache, store = DictCache(), Store(token("old"))
    tokens = TokenCache(cache, 300)
    await tokens.read("key", store.load)

    async def killed():
        await store.save(new)()
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await tokens.change("key", killed)
    reads = store.reads
    for _ in range(2):
        assert await tokens.read("key", store.load) == new
    assert store.reads == reads + 2
    assert cache.ttls["key"] == MARKER_TTL


def test_a_log_out_that_outlives_its_caller():
    """S10: Who is cancelled leaves no old token, however late the database ends.

    The log-out waits there; its visitor goes away, and the first marker ends before it.
    """
    cache, store = DictCache(), Store(token("old"))
    tokens = TokenCache(cache, 300)

    async def test():
        waits, go_on = asyncio.Event(), asyncio.Event()

        async def statement():
            waits.set()
            await go_on.wait()
            await store.save(None)()

        deleting = asyncio.create_task(
            tokens.change("key", lambda: finished(statement()))
        )
        await waits.wait()
        deleting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await deleting
        cache.end(MARKER_TTL)
        assert await tokens.read("key", store.load) == token("old")  # it still stands
        go_on.set()
        await asyncio.wait(asyncio.all_tasks() - {asyncio.current_task()})
        assert await tokens.read("key", store.load) is None

    assert run(test) == pytest.approx(GRACE)  # so long it is waited for


async def test_a_change_that_fails():
    """What the database refused is not in the cache."""
    cache, store = DictCache(), Store(token("old"))
    tokens = TokenCache(cache, 300)

    async def refuse():
        return False

    async def fail():
        raise KeyError("the database is down")

    assert await tokens.change("key", refuse) is False
    assert await tokens.read("key", store.load) == token("old")
    with pytest.raises(KeyError):
        await tokens.change("key", fail)
    assert await tokens.read("key", store.load) == token("old")


async def test_absence_is_cached_for_half_a_minute():
    """S11: That there is no token is remembered briefly, and ends with the next set."""
    cache, store = DictCache(), Store()
    tokens = TokenCache(cache, 300)
    for _ in range(3):
        assert await tokens.read("key", store.load) is None
    assert store.reads == 1
    assert cache.ttls == {"key": 30}
    await tokens.change("key", store.save(token("x")))
    assert await tokens.read("key", store.load) == token("x")
    await tokens.change("key", store.save(None))
    assert await tokens.read("key", store.load) is None
    cache.end(MARKER_TTL)
    assert await tokens.read("key", store.load) is None
    assert cache.ttls == {"key": 30}


@pytest.mark.parametrize(
    ("life", "ttl", "least", "most"),
    [
        (None, 300, 300, 300),
        (None, 60, 60, 60),
        (3600, 300, 300, 300),
        (200, 300, 190, 200),
        (60, 300, 50, 60),
    ],
)
async def test_no_longer_than_the_token_lives(life, ttl, least, most):
    """S11: An entry lives `cache_ttl` seconds, or as long as the token, if shorter."""
    given = token("x") if life is None else token("x", expires_at=time.time() + life)
    cache, store = DictCache(), Store(given)
    tokens = TokenCache(cache, ttl)
    await tokens.read("key", store.load)
    assert least <= cache.ttls["key"] <= most


async def test_a_token_that_is_over_is_not_cached():
    """S11: A token that has expired, or is about to, is the database's business."""
    given = token("x", expires_at=int(time.time()) - 1)
    cache, store = DictCache(), Store(given)
    tokens = TokenCache(cache, 300)
    for _ in range(2):
        assert await tokens.read("key", store.load) == given
    assert store.reads == 2


@pytest.mark.parametrize("ttl", [1, 5, 300])
async def test_the_marker_outlives_readers(ttl):
    """S10: However short entries live, no slow reader puts an older token there."""
    cache, store = DictCache(), Store(token("old"))
    tokens = TokenCache(cache, ttl)

    async def slow():
        found = await store.load()
        await tokens.change("key", store.save(token("new")))
        cache.end(READ_DEADLINE)
        return found

    await tokens.read("key", slow)
    assert await tokens.read("key", store.load) == token("new")


@pytest.mark.parametrize(("seconds", "cached"), [(4, True), (6, False)])
def test_what_took_too_long_is_not_cached(seconds, cached):
    """S10: A reader that took longer than a marker surely lives adds nothing."""
    cache, store = DictCache(), Store(token("x"), seconds)
    tokens = TokenCache(cache, 300)

    async def test():
        assert await tokens.read("key", store.load) == token("x")

    assert run(test) == pytest.approx(seconds, abs=0.5)
    assert bool(cache.values) is cached


async def test_the_cache_comes_back_into_use():
    """After a change the database answers until the marker ends, then the cache."""
    cache, store = DictCache(), Store(token("old"))
    tokens = TokenCache(cache, 300)
    await tokens.read("key", store.load)
    await tokens.change("key", store.save(token("new")))
    for _ in range(3):
        assert await tokens.read("key", store.load) == token("new")
    assert store.reads == 4
    cache.end(MARKER_TTL)
    for _ in range(3):
        assert await tokens.read("key", store.load) == token("new")
    assert store.reads == 5


async def test_an_existing_key_is_no_complaint(caplog):
    """That a key exists, which aiocache says with a ValueError, is not logged."""
    cache, store = DictCache(), Store(token("x"))
    tokens = TokenCache(cache, 300)

    async def load():
        await tokens.read("key", store.load)
        return await store.load()

    assert await tokens.read("key", load) == token("x")
    assert caplog.records == []


def test_keys():
    """S11: No two accounts, providers or tables come to one key."""
    parts = [
        ("t", "a|1", "2"),
        ("t", "a", "1|2"),
        ("t", "a", "1", "2"),
        ("t", "a", 12),
        ("t", "a", "12"),
        ("t", "a", None),
        ("t", "a", "None"),
        ("t", "a", 0),
        ("t", "a", "null"),
        ("t", "A", None),
        ("u", "a", None),
        ('t", "a', None),
    ]
    keys = {TokenCache.key(*each) for each in parts}
    assert len(keys) == len(parts)
    assert all(key.isascii() and " " not in key and len(key) < 250 for key in keys)
