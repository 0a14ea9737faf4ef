"""What shares an account, a cache or a table, and must not disturb each other."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from aiocache import SimpleMemoryCache
from databases import GITHUB, Base, OAuth, database, make_flask_dance_table, token
from quart import g
from sqlalchemy import event, insert
from sqlalchemy.ext.asyncio import create_async_engine
from support import Visitor, make_app

from quart_dance.consumer import oauth_refreshed
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.model import utcnow
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.testing import faults

INVALID = faults.Answer(401, b"", {"WWW-Authenticate": 'Bearer error="invalid_token"'})


async def test_a_receiver_that_has_to_refresh(dev_provider, tmp_path):
    """F5: a receiver of oauth_refreshed that meets a 401 does not wait for itself."""
    storage = FileStorage(tmp_path / "{user_id}.json", user_id="1")
    app, blueprint = make_app(dev_provider, storage=storage)
    seen: list[int] = []

    async def receiver(sender: Any, token: Any) -> None:
        seen.append((await sender.session.get("user")).status_code)

    old = {**dev_provider.issue_token(), "expires_at": 1}
    await storage.set(blueprint, old)
    dev_provider.fault("user", INVALID)
    with oauth_refreshed.connected_to(receiver, blueprint):
        async with asyncio.timeout(30):  # else the test itself would hang
            assert (await Visitor(app).get("/me")).status_code == 200
    assert seen == [200, 200]
    assert dev_provider.count("token") == 2
    assert dev_provider.reuse_detected == []


async def test_receivers_without_end(dev_provider, tmp_path):
    """F5: if the API refuses every new token, the refreshes come to an end."""
    storage = FileStorage(tmp_path / "{user_id}.json", user_id="1")
    app, blueprint = make_app(dev_provider, storage=storage)

    async def receiver(sender: Any, token: Any) -> None:
        await sender.session.get("user")

    await storage.set(blueprint, {**dev_provider.issue_token(), "expires_at": 1})
    dev_provider.fault("user", INVALID, times=100)
    with oauth_refreshed.connected_to(receiver, blueprint):
        async with asyncio.timeout(30):
            await Visitor(app).get("/me")
            await runtime(app).aclose()
    assert dev_provider.count("token") < 10


async def test_the_account_of_a_flight_stays(dev_provider, tmp_path):
    """F3: who is logged in when a refresh ends does not change whose token it is."""

    def user() -> str | None:
        return g.get("uid")

    path = tmp_path / "{bp.name}.{user_id}.json"
    storage = FileStorage(path, user_id=user)
    app, blueprint = make_app(dev_provider, storage=storage)
    old = {**dev_provider.issue_token(), "expires_at": 1}
    await storage.set(blueprint, old, user_id="1")
    other = dev_provider.issue_token("bob")
    await storage.set(blueprint, other, user_id="2")
    dev_provider.fault("token", faults.Hang())
    async with app.app_context():
        g.uid = "1"
        call = asyncio.create_task(blueprint.session.get("user"))
        await dev_provider.held()
        call.cancel()
        g.uid = "2"
        dev_provider.release()
        await runtime(app).aclose()
    stored = await storage.get(blueprint, user_id="1")
    assert stored is not None
    assert stored["refresh_token"] != old["refresh_token"]
    assert await storage.get(blueprint, user_id="2") == other


class Gated(SimpleMemoryCache):  # type: ignore[misc]
    """A cache whose second `set` waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waits, self.sets = asyncio.Event(), asyncio.Event(), 0

    async def set(self, key: str, value: Any, **kwargs: Any) -> Any:
        self.sets += 1
        if self.sets == 2:
            self.waits.set()
            await self.gate.wait()
        return await super().set(key, value, **kwargs)


async def test_two_storages_with_one_cache(tmp_path):
    """S10: what one storage deletes does not come back out of another one's set."""
    cache = Gated()
    async with database(tmp_path / "a.db") as engine:
        one = SQLAlchemyStorage(OAuth, engine, cache=cache, user_required=False)
        two = SQLAlchemyStorage(OAuth, engine, cache=cache, user_required=False)
        setting = asyncio.create_task(one.set(GITHUB, token("late")))
        await cache.waits.wait()  # the token is in the database
        await two.delete(GITHUB)
        assert await one.get(GITHUB) is None
        cache.gate.set()
        await setting
        assert await two.get(GITHUB) is None
        assert await one.get(GITHUB) is None


async def test_tenants_in_schemas_of_their_own(tmp_path):
    """S11: with one cache and one database, a schema's tokens are its own."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/main.db")

    @event.listens_for(engine.sync_engine, "connect")
    def attach(connection: Any, record: Any) -> None:
        for name in ("north", "south"):
            connection.execute(f"ATTACH '{tmp_path}/{name}.db' AS {name}")

    cache, storages = SimpleMemoryCache(), {}
    for name in ("north", "south"):
        tenant = engine.execution_options(schema_translate_map={None: name})
        async with tenant.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        storages[name] = SQLAlchemyStorage(OAuth, tenant, cache=cache)
    await storages["north"].set(GITHUB, token("of the north"))
    assert await storages["south"].get(GITHUB) is None
    assert await storages["north"].get(GITHUB) == token("of the north")
    await engine.dispose()


async def test_duplicates_of_the_future(tmp_path):
    """S6: after a replacement no duplicate is newer, whatever clock wrote it."""
    async with database(tmp_path / "a.db", None) as engine:
        await make_flask_dance_table(engine)
        async with engine.begin() as connection:
            for hours, name in ((1.9, "older"), (2, "old")):
                later = utcnow() + timedelta(hours=hours)
                row = {"provider": "github", "created_at": later, "token": token(name)}
                await connection.execute(insert(OAuth).values(user_id=1, **row))
        storage = SQLAlchemyStorage(OAuth, engine)
        assert await storage.replace(GITHUB, token("old"), token("new"), user_id=1)
        assert await storage.get(GITHUB, user_id=1) == token("new")
