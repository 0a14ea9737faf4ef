"""`cache=` of a storage in a database."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio
from aiocache import SimpleMemoryCache
from databases import GITHUB, DictCache, PlainBase, PlainOAuth, database, token

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage.cache import MARKER_TTL
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError


@pytest_asyncio.fixture
async def engine(tmp_path):
    async with database(tmp_path / "tokens.db", PlainBase) as engine:
        yield engine


async def test_values_are_copies(engine):
    """What is done to a token that was read, or set, does not reach the cache."""
    cache = SimpleMemoryCache()
    storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache)
    given = token("x", scope=["a"])
    await storage.set(GITHUB, given)
    given["scope"].append("admin")
    for _ in range(3):
        got = await storage.get(GITHUB)
        assert got == token("x", scope=["a"])
        got["scope"].append("admin")
        got["access_token"] = "other"


async def test_what_the_cache_holds_is_text(engine):
    """Any cache can keep it, and no key tells whose it is."""
    cache = DictCache()
    storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache)
    await storage.set(GITHUB, token("x"))
    ((key, value),) = cache.values.items()
    assert json.loads(value) == {"changing": True}
    cache.end(MARKER_TTL)
    await storage.get(GITHUB)
    ((key, value),) = cache.values.items()
    assert json.loads(value) == {"of": key, "token": {"access_token": "x"}}
    assert key.startswith("quart_dance:") and "github" not in key


async def test_an_answer_to_another_question(engine):
    """S11: An entry of another account's, wherever it comes from, is not believed."""
    cache = DictCache()
    storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache)
    other = OAuth2ConsumerBlueprint("other", __name__)
    await storage.set(other, token("theirs"))
    cache.end(MARKER_TTL)
    assert await storage.get(other) == token("theirs")
    ((_, theirs),) = cache.values.items()
    assert await storage.get(GITHUB) is None
    cache.values = dict.fromkeys(cache.values, theirs)
    assert await storage.get(GITHUB) is None
    assert await storage.get(other) == token("theirs")


async def test_cache_ttl(engine):
    """`cache_ttl` is how many seconds a token is kept at most."""
    cache = DictCache()
    storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache, cache_ttl=77)
    await storage.set(GITHUB, token("x"))
    cache.end(MARKER_TTL)
    await storage.get(GITHUB)
    assert list(cache.ttls.values()) == [77]


@pytest.mark.parametrize("broken", ["failing", "hanging"])
async def test_a_cache_that_does_not_answer(engine, broken):
    """S12: get, set and delete work, each within two deadlines of 0.25 s."""
    cache = DictCache()
    getattr(cache, broken).update({"get", "add", "set"})
    storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache)
    await storage.set(GITHUB, token("x"))
    assert await storage.get(GITHUB) == token("x")
    await storage.delete(GITHUB)


async def test_a_database_that_is_down(tmp_path):
    """S8: With a cold cache and no database there is an error, not "no token"."""
    async with database(tmp_path / "empty.db", None) as engine:
        cache = DictCache()
        storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache)
        for _ in range(2):
            with pytest.raises(StorageError, match="no such table"):
                await storage.get(GITHUB)
        assert cache.values == {}


async def test_two_providers_in_one_cache(engine):
    """S11: Providers share a cache, and no entry of it."""
    cache = DictCache()
    storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache)
    names = ["a", "a|1", "a:1", "A"]
    blueprints = [OAuth2ConsumerBlueprint(name, __name__) for name in names]
    for blueprint in blueprints:
        await storage.set(blueprint, token(blueprint.name))
    for blueprint in blueprints:
        assert await storage.get(blueprint) == token(blueprint.name)
    assert len(cache.values) == 4
