"""What a table, its engine or its users may be like: nothing is lost, nobody waits."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from opening import Base, OAuth, make_tables, opened, place_of
from sqlalchemy import event, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.schema import CreateIndex
from sqlalchemy.util import await_only

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError
from quart_dance.oauth.token import Token

OWNER = SimpleNamespace(name="dev")
OLD, NEW = {"access_token": "the old one"}, {"access_token": "the new one"}
SERVERS = ["postgresql", "mariadb"]
DATABASES = [*SERVERS, "sqlite"]
WITHOUT = [f"{name} without indexes" for name in DATABASES]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """Give an empty table."""
    return place_of(request.param, request, tmp_path)


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty database."""
    found: str = request.getfixturevalue(f"{request.param}_url")
    return found


def count(storage: Any) -> Any:
    """Count the rows of tokens."""

    async def ask() -> Any:
        async with storage.session.connect() as connection:
            return await connection.scalar(select(func.count()).select_from(OAuth))

    return ask()


@pytest.mark.parametrize("place", DATABASES, indirect=True)
async def test_first_refreshes_of_many_accounts(place):
    """F5: 60 accounts refresh for the first time, in a table of leases that is empty.

    Where a row would be MariaDB locks a gap; nobody waits there for anybody.
    """
    async with opened(**place, pool=20) as one, opened(**place, pool=20) as other:
        storages: Any = (one, other)
        deadlocks: list[Any] = []
        for storage in storages:
            engine = storage.session.sync_engine
            event.listen(engine, "handle_error", deadlocks.append)

        async def refresh(user_id: int) -> None:
            async with storages[user_id % 2].refresh_lock(OWNER, user_id=user_id):
                await asyncio.sleep(0)

        await asyncio.gather(*(refresh(user_id) for user_id in range(60)))
        assert [str(d.original_exception) for d in deadlocks] == []


@pytest.mark.parametrize("place", WITHOUT, indirect=True)
async def test_many_accounts_without_indexes(place):
    """S6: 60 accounts log in at once in a table without indexes: a row for each."""
    async with opened(**place, pool=20) as storage:
        anyhow: Any = storage
        users = [*range(30), *range(30)]
        await asyncio.gather(*(anyhow.set(OWNER, NEW, user_id=u) for u in users))
        assert await count(storage) == 30


@pytest.mark.parametrize("place", WITHOUT, indirect=True)
async def test_login_while_the_old_token_is_revoked(place):
    """F6: A login stays, if its row is deleted just before it is written there."""
    async with opened(**place) as one, opened(**place) as other:
        storage: Any = one
        revoking: Any = other
        await storage.set(OWNER, OLD, user_id=1)
        revoked: list[bool] = []

        @event.listens_for(storage.session.sync_engine, "before_cursor_execute")
        def revoke(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("UPDATE flask_dance_oauth SET") and not revoked:
                revoked.append(True)
                if connection.dialect.name != "sqlite":  # there a writer is alone
                    gone = revoking.replace(OWNER, OLD, None, user_id=1)
                    revoked[0] = await_only(gone)

        await storage.set(OWNER, NEW, user_id=1)
        assert revoked == [True]
        assert await storage.reread(OWNER, user_id=1) == NEW


@pytest.mark.parametrize("level", ["AUTOCOMMIT", "REPEATABLE READ", "SERIALIZABLE"])
async def test_an_engine_with_an_isolation_level_of_its_own(url, level):
    """S6: Whatever an engine is set to, of 50 sets at once none fails; there is a row.

    The table has no indexes, so that it takes several statements.
    """
    await make_tables(url, indexed=False)
    engine = create_async_engine(url, isolation_level=level, pool_size=20)
    storage = SQLAlchemyStorage(OAuth, engine)
    for _ in range(3):
        sets = (storage.set(OWNER, NEW, user_id=1) for _ in range(50))
        await asyncio.gather(*sets)
        assert await count(storage) == 1
        assert await storage.replace(OWNER, NEW, OLD, user_id=1)
        await storage.delete(OWNER, user_id=1)
    await engine.dispose()


@pytest.mark.parametrize("place", [*DATABASES, *WITHOUT], indirect=True)
async def test_locals_of_a_failure(place):
    """L2: No frame of ours that a failure shows holds a token that can be read."""

    def fail(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "flask_dance_oauth " in statement and not statement.startswith("SELECT"):
            raise RuntimeError("no")

    async with opened(**place) as shared:
        storage: Any = shared
        await storage.set(OWNER, OLD, user_id=1)
        event.listen(storage.session.sync_engine, "before_cursor_execute", fail)
        for call in (
            storage.set(OWNER, Token(NEW), user_id=1),
            storage.replace(OWNER, Token(OLD), Token(NEW), user_id=1),
            storage.replace(OWNER, Token(OLD), None, user_id=1),
        ):
            with pytest.raises(StorageError) as caught:
                await call
            frames, trace = [], caught.value.__traceback__
            while trace := trace and trace.tb_next:  # the first one is this test
                frames.append(repr(trace.tb_frame.f_locals))
            assert len(frames) >= 3
            assert "the old one" not in "".join(frames)
            assert "the new one" not in "".join(frames)
        event.remove(storage.session.sync_engine, "before_cursor_execute", fail)


async def in_use(engine: Any, connections: int) -> None:
    """Wait until so many connections are in use."""
    async with asyncio.timeout(10):
        for _ in itertools.count():
            if engine.pool.checkedout() == connections:
                return
            await asyncio.sleep(0.01)


async def test_cancelled_while_the_database_stands_still(url):
    """S13: Who is cancelled does not wait until the database goes on."""
    await make_tables(url)
    waiting, admin = create_async_engine(url), create_async_engine(url)
    storage = SQLAlchemyStorage(OAuth, waiting)
    await storage.set(OWNER, OLD, user_id=1)
    async with admin.connect() as connection:
        await connection.execute(select(OAuth.id).with_for_update())
        setting = asyncio.create_task(storage.set(OWNER, NEW, user_id=1))
        await in_use(waiting, 1)
        setting.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await setting
        assert waiting.pool.checkedout() == 1
        await connection.rollback()
    await in_use(waiting, 0)
    assert await storage.get(OWNER, user_id=1) in (OLD, NEW)
    await waiting.dispose()
    await admin.dispose()


async def test_an_index_that_postgresql_gave_up(postgresql_url):
    """S6: An index that is invalid is none; a login takes the longer way."""
    await make_tables(postgresql_url, indexed=False)
    engine = create_async_engine(postgresql_url, isolation_level="AUTOCOMMIT")
    storage = SQLAlchemyStorage(OAuth, engine)
    async with engine.connect() as connection:
        row = insert(OAuth).values(provider="dev", user_id=1, token=OLD)
        await connection.execute(row)
        await connection.execute(row)
        for index in OAuth.metadata.tables[OAuth.__tablename__].indexes:
            statement = CreateIndex(index).compile(dialect=engine.dialect)
            concurrently = str(statement).replace("INDEX", "INDEX CONCURRENTLY", 1)
            with suppress(IntegrityError):
                await connection.exec_driver_sql(concurrently)
    await storage.set(OWNER, NEW, user_id=1)
    assert await storage.get(OWNER, user_id=1) == NEW
    assert await count(storage) == 1
    await engine.dispose()


async def test_tables_in_a_database_that_a_map_names(mariadb_url, _mariadb):
    """S6: `schema_translate_map` says where the tables are, all of what they have."""
    site, name = _mariadb
    tenant = f"{name}_tenant"
    site.clear(tenant)
    engine = create_async_engine(mariadb_url)
    translated = engine.execution_options(schema_translate_map={None: tenant})
    async with translated.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    storage = SQLAlchemyStorage(OAuth, translated)
    await asyncio.gather(*(storage.set(OWNER, NEW) for _ in range(10)))
    assert await count(storage) == 1
    async with storage.refresh_lock(OWNER):
        pass
    await engine.dispose()
    site.remove(tenant)
