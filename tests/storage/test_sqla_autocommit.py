"""Connections on which the application commits nothing stay as it has made them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from databases import GITHUB, OAuth, token
from old_tables import OLD, opened, run, url_of
from sqlalchemy import create_engine, event, text
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.ext.asyncio import create_async_engine

from quart_dance.consumer.storage import database
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.consumer.storage.upgrade import upgrade
from quart_dance.errors import StorageError

#: A database, its driver, and how the driver is told to commit each statement.
DRIVERS: list[tuple[str, str, dict[str, Any]]] = [
    ("sqlite", "sqlite+aiosqlite", {"isolation_level": None}),
    ("postgresql", "postgresql+psycopg", {"autocommit": True}),
    ("mariadb", "mysql+aiomysql", {"autocommit": True}),
    ("sqlite", "sqlite+aiosqlite", {}),
    ("postgresql", "postgresql+psycopg", {}),
    ("postgresql", "postgresql+asyncpg", {}),
    ("mariadb", "mysql+aiomysql", {}),
]


@pytest.fixture(
    params=DRIVERS, ids=lambda p: f"{p[1]} {'connect_args' if p[2] else 'event'}"
)
def driver(request):
    return request.param


@pytest_asyncio.fixture
async def plain(driver, request, tmp_path):
    """Give an engine as any other, for what the test needs there."""
    async with opened(url_of(driver[0], request, tmp_path)) as plain:
        await run(plain, lambda c: c.execute(text("CREATE TABLE visit (n INTEGER)")))
        yield plain


@pytest_asyncio.fixture
async def engine(driver, plain):
    """Give an engine of one connection, that commits each statement by itself."""
    _, name, connect_args = driver
    url = plain.url.set(drivername=name)
    engine = create_async_engine(
        url, pool_size=1, max_overflow=0, connect_args=connect_args
    )

    @event.listens_for(engine.sync_engine, "connect")
    def tell(connection, record):
        if not connect_args:
            engine.sync_engine.dialect.set_isolation_level(connection, "AUTOCOMMIT")

    yield engine
    await engine.dispose()


@asynccontextmanager
async def kept(engine):
    """See that what the application writes is there, without a commit of its own."""

    async def visits():
        async with engine.connect() as connection:
            return await connection.scalar(text("SELECT count(*) FROM visit"))

    before = await visits()
    yield
    async with engine.connect() as connection:
        await connection.execute(text("INSERT INTO visit VALUES (1)"))
    assert await visits() == before + 1


@pytest.mark.parametrize("indexed", [True, False])
async def test_the_application_writes_on(engine, plain, indexed):
    """S8: After each call what the application writes is committed as before."""
    if indexed:
        await run(plain, lambda connection: upgrade(connection, OLD.name))
    storage = SQLAlchemyStorage(OAuth, engine)
    async with kept(engine):
        assert await storage.get(GITHUB, user_id=1) is None
    async with kept(engine):
        await storage.set(GITHUB, token("old"), user_id=1)
    async with kept(engine), storage.refresh_lock(GITHUB, user_id=1):
        pass
    async with kept(engine):
        assert await storage.replace(GITHUB, token("old"), token("new"), user_id=1)
    assert await storage.get(GITHUB, user_id=1) == token("new")
    async with kept(engine):
        await storage.delete(GITHUB, user_id=1)
    assert await storage.get(GITHUB, user_id=1) is None


async def test_a_transaction_that_fails(engine):
    """S8: It is a transaction all the same, and what comes after it is none."""
    storage = SQLAlchemyStorage(OAuth, engine)
    async with storage.refresh_lock(GITHUB, user_id=2):
        pass  # now there are leases

    async def leases():
        async with engine.connect() as connection:
            query = text(f"SELECT count(*) FROM {OLD.name}_lease")
            return await connection.scalar(query)

    def fail(connection, cursor, statement, *_):
        if statement.startswith(f"INSERT INTO {OLD.name} "):
            raise RuntimeError("no")

    assert await leases() == 1
    event.listen(engine.sync_engine, "before_cursor_execute", fail)
    async with kept(engine):
        with pytest.raises(StorageError):
            await storage.set(GITHUB, token("x"), user_id=1)
    assert await leases() == 1


class Unknown(SQLiteDialect_pysqlite):
    """A dialect that cannot say whether a connection commits by itself."""

    supports_statement_cache = True

    def detect_autocommit_setting(self, dbapi_conn):
        raise NotImplementedError


class Stuck(SQLiteDialect_pysqlite):
    """A dialect that cannot set a connection back."""

    supports_statement_cache = True

    def reset_isolation_level(self, dbapi_conn):
        raise RuntimeError("no")


@pytest.fixture
def odd_engine(request, tmp_path):
    """Give an engine with a dialect of the tests', that commits each statement."""
    registry.register("sqlite.odd", __name__, request.param)
    engine = create_engine(
        f"sqlite+odd:///{tmp_path}/odd.db", connect_args={"isolation_level": None}
    )
    yield engine
    engine.dispose()


@pytest.mark.parametrize("odd_engine", ["Unknown"], indirect=True)
@pytest.mark.parametrize("kind", database.Work)
def test_a_driver_that_does_not_say(odd_engine, kind):
    """A driver that does not say so is taken for one that commits nothing by itself."""
    assert database.run(odd_engine, kind, lambda c: c.scalar(text("SELECT 1"))) == 1


@pytest.mark.parametrize("odd_engine", ["Stuck"], indirect=True)
def test_a_connection_that_cannot_be_set_back(odd_engine):
    """S8: A connection of which nobody knows how it stands is not used again."""
    used = []

    def work(connection):
        used.append(connection.connection.dbapi_connection)

    with pytest.raises(RuntimeError):
        database.run(odd_engine, database.Work.TRANSACTION, work)
    with odd_engine.connect() as connection:
        assert connection.connection.dbapi_connection.isolation_level is None
        assert connection.connection.dbapi_connection is not used[0]
