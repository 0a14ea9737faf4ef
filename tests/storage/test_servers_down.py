"""Databases that fail: a typed error, nothing lost, and no restart of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from databases import GITHUB, execute, token
from sqlalchemy import event, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from support import Visitor
from world import Base, OAuth, World, host_user, stored, text

from quart_dance.consumer.storage.database import Work
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError
from quart_dance.testing import faults


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[AsyncEngine]:
    """Open a database and make its tables."""
    engine = create_async_engine(url, **options)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield engine
    finally:
        await engine.dispose()


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request):
    """Give a server of the test's own, with an empty database."""
    return request.getfixturevalue(f"own_{request.param}")


@pytest_asyncio.fixture
async def here(server):
    """Give an application on that server's database."""
    async with connected(server.url, pool_size=2, max_overflow=0) as engine:
        storage = SQLAlchemyStorage(OAuth, engine, user_id=host_user)
        yield World(storage, engine)


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request):
    """Give the URL of an empty database."""
    return request.getfixturevalue(f"{request.param}_url")


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_down_and_up(here, server, way):
    """S8: While the database is down a page fails, and nobody counts as logged out.

    A login fails with a page and leaves the old token. When the database is up again
    all goes on, with the connections that were in the pool then.
    """
    visitor = await here.login()
    before = await stored(visitor)
    begun = await visitor.start()
    await asyncio.to_thread(getattr(server, way))
    for path in ("/user", "/authorized", "/token"):
        assert (await visitor.get(path)).status_code == 500
    callback = await here.provider.approve(begun)
    response = await visitor.get(callback)
    page = await response.get_data(as_text=True)
    assert response.status_code == 500
    assert "Your login could not be kept" in page
    with pytest.raises(StorageError, match="the storage failed"):
        await here.storage.get(here.blueprint, user_id=1)
    await asyncio.to_thread(server.start)
    assert await text(visitor) == "alice"
    assert await stored(visitor) == before
    assert (await visitor.login(here.provider)).status_code == 302
    assert here.busy() == 0


async def test_down_when_a_new_token_is_to_be_saved(here, server):
    """F3, S8: A token that was rotated while the database went down is not lost."""
    visitor = await here.login()
    here.clock.now += 3600
    here.provider.fault("token", faults.Hang(after=True))
    request = asyncio.create_task(visitor.get("/user"))
    await here.provider.held()
    await asyncio.to_thread(server.kill)
    here.provider.release()
    assert (await request).status_code == 500
    await asyncio.to_thread(server.start)
    assert await text(visitor) == "alice"
    token = await stored(visitor)
    assert token["refresh_token"] == here.provider.tokens[-1].refresh_token
    assert here.provider.count("token") == 2
    assert here.provider.reuse_detected == []


async def test_pool_exhausted(url):
    """S8: Who gets no connection hears so, and the next one who asks gets one."""
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.1}
    async with connected(url, **options) as engine:
        storage = SQLAlchemyStorage(OAuth, engine)
        await storage.set(GITHUB, token("old"), user_id=1)
        async with engine.connect():
            for call in (
                storage.get(GITHUB, user_id=1),
                storage.set(GITHUB, token("new"), user_id=1),
                storage.delete(GITHUB, user_id=1),
                storage.replace(GITHUB, token("old"), None, user_id=1),
            ):
                with pytest.raises(StorageError, match="QueuePool limit"):
                    await call
            with pytest.raises(StorageError, match="QueuePool limit"):
                async with storage.refresh_lock(GITHUB, user_id=1):
                    pass
        assert await storage.get(GITHUB, user_id=1) == token("old")
        async with storage.refresh_lock(GITHUB, user_id=1):
            await storage.set(GITHUB, token("new"), user_id=1)


class Killing:
    """Kills connections of a database in the middle of a statement.

    The statement waits for a row that another transaction has locked.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.postgresql = engine.dialect.name == "postgresql"

    async def kill(self) -> int:
        """Kill whoever waits for a row; return how many there were."""
        if self.postgresql:
            waiting = (
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            kill = "SELECT pg_terminate_backend(:number)"
        else:
            waiting = (
                "SELECT id FROM information_schema.processlist"
                " WHERE db = database() AND id <> connection_id()"
                " AND command = 'Query' AND time_ms > 20"
            )
            kill = "KILL :number"
        found = await execute(self.engine, waiting)
        killed = 0
        for (number,) in found:
            with suppress(OperationalError):  # MariaDB: it has gone by itself
                await execute(self.engine, kill, number=number)
                killed += 1
        return killed

    async def until_killed(self, times: int = 1) -> None:
        """Kill so many who wait."""
        while times > 0:
            times -= await self.kill()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def locked(engine: AsyncEngine) -> AsyncIterator[None]:
    """Lock all tokens for a while."""
    async with engine.connect() as connection:
        await connection.exec_driver_sql("SELECT * FROM flask_dance_oauth FOR UPDATE")
        yield
        await connection.rollback()


async def test_killed_in_the_middle_of_a_statement(url):
    """S8: A statement whose connection is killed is carried out on another one."""
    async with connected(url) as admin, connected(url, pool_size=2) as engine:
        storage = SQLAlchemyStorage(OAuth, engine)
        await storage.set(GITHUB, token("old"), user_id=1)
        async with locked(admin):
            setting = asyncio.create_task(storage.set(GITHUB, token("new"), user_id=1))
            async with asyncio.timeout(30):
                await Killing(admin).until_killed()
            assert not setting.done()
        await setting
        assert await storage.get(GITHUB, user_id=1) == token("new")


async def test_killed_again_and_again(url):
    """S8: In the end it is a typed error; the old token stays, then all is well."""
    async with connected(url) as admin, connected(url, pool_size=2) as engine:
        storage = SQLAlchemyStorage(OAuth, engine)
        await storage.set(GITHUB, token("old"), user_id=1)
        async with locked(admin):
            setting = asyncio.create_task(storage.set(GITHUB, token("new"), user_id=1))
            killing = asyncio.create_task(Killing(admin).until_killed(10**6))
            with pytest.raises(StorageError, match="the storage failed"):
                await setting
            killing.cancel()
            with suppress(asyncio.CancelledError):
                await killing
        assert await storage.get(GITHUB, user_id=1) == token("old")
        await storage.set(GITHUB, token("new"), user_id=1)
        assert await storage.get(GITHUB, user_id=1) == token("new")


async def test_deadlock(url):
    """S8: Whoever a deadlock strikes is tried again, and nobody hears of it."""
    async with connected(url) as engine:
        storage = SQLAlchemyStorage(OAuth, engine)
        for user_id in (1, 2):
            await storage.set(GITHUB, token("old"), user_id=user_id)
        struck: list[Any] = []
        event.listen(engine.sync_engine, "handle_error", struck.append)
        sleep = "pg_sleep" if engine.dialect.name == "postgresql" else "sleep"
        table, done = storage._table.rows.table, []

        def changing(*order: int) -> Any:
            def work(connection: Any) -> None:
                for user_id in order:
                    mine = (table.c.provider == "github", table.c.user_id == user_id)
                    change = update(table).where(*mine)
                    connection.execute(change.values(token=token(f"{order}")))
                    connection.exec_driver_sql(f"SELECT {sleep}(0.1)")
                done.append(order)

            return storage._table.run(Work.TRANSACTION, work)

        await asyncio.gather(changing(1, 2), changing(2, 1))
        assert len(struck) == 1
        assert sorted(done) == [(1, 2), (2, 1)]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_read_only(kind, tmp_path, request):
    """S2: Where nothing may be written the error is typed, and tokens can be read."""
    path = tmp_path / "tokens.db"
    url = f"sqlite+aiosqlite:///{path}"
    if kind == "postgresql":
        url = request.getfixturevalue("postgresql_url")
    async with connected(url) as engine:
        await SQLAlchemyStorage(OAuth, engine).set(GITHUB, token("old"), user_id=1)
    read_only = read_only_engine(url, path)
    storage = SQLAlchemyStorage(OAuth, read_only)
    await fails_to_write(storage, "read-?only")
    await read_only.dispose()


def read_only_engine(url: str, path: Path) -> AsyncEngine:
    """Open a database in which nothing can be written."""
    if url.startswith("sqlite"):
        url = f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true"
        return create_async_engine(url)
    settings = {"default_transaction_read_only": "on"}
    return create_async_engine(url, connect_args={"server_settings": settings})


async def fails_to_write(storage: SQLAlchemyStorage, match: str) -> None:
    """See that what changes a token raises, and leaves it."""
    for call in (
        storage.set(GITHUB, token("new", padding="p" * 100_000), user_id=1),
        storage.set(GITHUB, token("new", padding="p" * 100_000), user_id=2),
    ):
        with pytest.raises(StorageError, match=match):
            await call
    assert await storage.get(GITHUB, user_id=1) == token("old")
    assert await storage.get(GITHUB, user_id=2) is None


async def test_disk_full(tmp_path):
    """S2: Where the disk is full the error is typed, and the old token stays."""
    async with connected(f"sqlite+aiosqlite:///{tmp_path}/tokens.db") as engine:
        limit = [0]

        @event.listens_for(engine.sync_engine, "checkout")
        def set_limit(connection: Any, *_: Any) -> None:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA max_page_count = {limit[0] or 10**6}")
            cursor.close()

        storage = SQLAlchemyStorage(OAuth, engine)
        await storage.set(GITHUB, token("old"), user_id=1)
        limit[0] = 8
        await fails_to_write(storage, "full")
        limit[0] = 0
        await storage.set(GITHUB, token("new"), user_id=1)
        assert await storage.get(GITHUB, user_id=1) == token("new")


async def test_no_table(url):
    """S16: Without its table it says which one is missing; nobody is let in."""
    engine = create_async_engine(url)
    storage = SQLAlchemyStorage(OAuth, engine, user_id=1)
    here = World(storage, None)
    for call in (storage.get(GITHUB), storage.set(GITHUB, token("x"))):
        with pytest.raises(StorageError, match="flask_dance_oauth"):
            await call
    assert (await Visitor(here.app).get("/authorized")).status_code == 500
    await engine.dispose()
