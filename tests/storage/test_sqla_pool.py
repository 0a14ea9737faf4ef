"""Cancelled at every await: no connection is lost, and no token half-stored."""

from __future__ import annotations

import asyncio
import gc
from itertools import count
from random import Random

import pytest
import pytest_asyncio
from databases import GITHUB, DictCache, PlainBase, PlainOAuth, database, token
from stepping import cancelled_at
from support import Visitor, make_app

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.testing import DevProvider

OLD, NEW = token("old"), token("new")
CALLS = {
    "get": (lambda storage: storage.get(GITHUB), [OLD]),
    "reread": (lambda storage: storage.reread(GITHUB), [OLD]),
    "set": (lambda storage: storage.set(GITHUB, NEW), [OLD, NEW]),
    "replace": (lambda storage: storage.replace(GITHUB, OLD, NEW), [OLD, NEW]),
    "delete": (lambda storage: storage.delete(GITHUB), [OLD, None]),
    "end": (lambda storage: storage.replace(GITHUB, OLD, None), [OLD, None]),
}


@pytest_asyncio.fixture
async def engine(tmp_path):
    """A database to which there is one connection, and no second one."""
    options = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 5}
    async with database(tmp_path / "tokens.db", PlainBase, **options) as engine:
        yield engine
        assert engine.pool.checkedout() == 0
    gc.collect()  # a connection that was lost would warn now


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("verb", CALLS)
async def test_cancelled_at_every_await(engine, verb, cached):
    """S8: The token is the old or the new one, and the connection is back."""
    call, allowed = CALLS[verb]
    seen = []
    for number in count(1):
        await SQLAlchemyStorage(PlainOAuth, engine).set(GITHUB, OLD)
        cache = DictCache() if cached else None
        storage = SQLAlchemyStorage(PlainOAuth, engine, cache=cache)
        cancelled = await cancelled_at(call(storage), number)
        assert engine.pool.checkedout() == 0
        stored = await storage.reread(GITHUB)
        assert await storage.get(GITHUB) == stored  # the cache says the same
        assert stored in allowed
        seen.append(stored)
        if not cancelled:
            break
    assert number > 1
    assert seen[-1] == allowed[-1]


@pytest.mark.parametrize("verb", CALLS)
async def test_cancelled_while_connecting(tmp_path, verb):
    """S8: Nor is a connection lost that was about to be opened."""
    call, allowed = CALLS[verb]
    path = tmp_path / "tokens.db"
    async with database(path, PlainBase) as engine:
        await SQLAlchemyStorage(PlainOAuth, engine).set(GITHUB, OLD)
    for number in count(1):
        async with database(path, None, pool_size=1, max_overflow=0) as engine:
            storage = SQLAlchemyStorage(PlainOAuth, engine)
            cancelled = await cancelled_at(call(storage), number)
            assert engine.pool.checkedout() == 0
            assert await storage.get(GITHUB) in allowed
            await storage.set(GITHUB, OLD)
        gc.collect()
        if not cancelled:
            break
    assert number > 1


async def test_a_hundred_cancelled_calls(engine):
    """S8: A hundred calls that wait for one connection, and are cancelled, free it."""
    storage = SQLAlchemyStorage(PlainOAuth, engine)
    await storage.set(GITHUB, OLD)
    random = Random(7)
    for verb in ("get", "set", "replace"):
        call, allowed = CALLS[verb]
        tasks = [asyncio.create_task(call(storage)) for _ in range(100)]
        for task in random.sample(tasks, 100):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait(tasks)
        assert any(task.cancelled() for task in tasks)
        assert await storage.get(GITHUB) in (OLD, NEW)
        await storage.set(GITHUB, OLD)
    assert engine.pool.checkedout() == 0


async def test_cancelled_callbacks(engine):
    """S8, S13: A visitor who leaves in the middle of the callback costs nothing.

    The token is stored whole or not at all, no task fails unheard, and the one
    connection is there for the next visitor.
    """
    provider = DevProvider()
    app, blueprint = make_app(provider, storage=SQLAlchemyStorage(PlainOAuth, engine))
    storage = blueprint.storage
    complaints = []
    asyncio.get_running_loop().set_exception_handler(
        lambda loop, context: complaints.append(context)
    )
    stored = []
    for number in count(1):
        await storage.set(blueprint, OLD)
        visitor = Visitor(app)
        callback = await provider.approve(await visitor.start())
        cookies = "; ".join(f"{k}={v}" for k, v in visitor.cookies.items())
        async with app.test_request_context(
            callback.removeprefix("https://app.test"),
            scheme="https",
            headers={"Host": "app.test", "Cookie": cookies},
        ):
            cancelled = await cancelled_at(blueprint.authorized(), number)
        assert engine.pool.checkedout() == 0
        found = await storage.get(blueprint)
        stored.append(found["access_token"])
        assert found["access_token"] == "old" or found["refresh_token"]
        if not cancelled:
            break
    assert number > 2
    assert stored[0] == "old" and stored[-1] != "old"
    assert provider.count("token") <= number
    gc.collect()
    assert complaints == []
    async with app.app_context():
        await blueprint.aclose()
