"""Upgrades while others write, hold locks or have more rights."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pymysql
import pytest
import pytest_asyncio
from databases import GITHUB, OAuth, token
from old_tables import DATABASES, OLD, START, WAITING, add, opened, run, tokens, url_of
from sqlalchemy import event, insert, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from quart_dance.consumer.storage.database import ATTEMPTS
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.consumer.storage.upgrade import Upgrade, upgrade
from quart_dance.errors import UpgradeError

ROW = {"provider": "github", "user_id": 1, "token": {"access_token": "late"}}
LATE = insert(OLD).values(**ROW, created_at=START)


@pytest_asyncio.fixture(params=DATABASES)
async def engine(request, tmp_path):
    async with opened(url_of(request.param, request, tmp_path)) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        yield engine


async def somebody_waits(engine):
    """Wait until somebody waits; in SQLite it cannot be seen."""
    if query := WAITING.get(engine.dialect.name):
        while not await run(engine, lambda c: c.scalar(text(query))):
            pass


async def test_a_duplicate_that_is_on_its_way(engine):
    """What somebody has written, and not yet committed, is waited for and removed."""
    async with engine.connect() as writer:
        await writer.execute(LATE.values(created_at=START.replace(year=2025)))
        work = run(engine, lambda connection: upgrade(connection, OLD.name))
        upgrading = asyncio.create_task(work)
        await somebody_waits(engine)
        await writer.commit()
        done = await upgrading
    assert [account.count for account in done.surplus] == [2]
    assert await tokens(engine) == [("github", 1, "late")]


IMPATIENT = {
    "postgresql": "SET LOCAL lock_timeout = '50ms'",
    "mysql": "SET lock_wait_timeout = 1, innodb_lock_wait_timeout = 1",
    "sqlite": "PRAGMA busy_timeout = 50",
}


async def test_somebody_who_does_not_let_go(engine):
    """Where the table stays locked, what the connection says ends the waiting."""

    def impatiently(connection):
        connection.exec_driver_sql(IMPATIENT[engine.dialect.name])
        upgrade(connection, OLD.name)

    async with engine.connect() as writer:
        await writer.execute(LATE)
        with pytest.raises(UpgradeError, match="the database says: .*[Ll]ock"):
            await run(engine, impatiently)
        await writer.rollback()
    assert len(await tokens(engine)) == 2
    assert (await run(engine, lambda c: upgrade(c, OLD.name))).surplus


async def test_our_writers_notice_nothing(engine):
    """Who writes with our storage meanwhile neither fails nor makes a duplicate."""
    storages = [SQLAlchemyStorage(OAuth, engine) for _ in range(2)]
    await storages[0].set(GITHUB, token("the look-up"), user_id=9)
    stop, progress = asyncio.Event(), asyncio.Semaphore(0)

    async def write(storage, user_id):
        while not stop.is_set():
            await storage.set(GITHUB, token("x"), user_id=user_id)
            progress.release()

    async with asyncio.TaskGroup() as group:
        for user_id in (1, 2, 3):
            for storage in storages:
                group.create_task(write(storage, user_id))
        for _ in range(20):
            await progress.acquire()
        await run(engine, lambda connection: upgrade(connection, OLD.name))
        for _ in range(20):
            await progress.acquire()
        stop.set()
    accounts = [row[1] for row in await tokens(engine)]
    assert sorted(accounts) == [1, 2, 3, 9]


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
async def test_an_index_that_a_storage_does_not_know_of(kind, request):
    """A storage that has looked before an upgrade meets the index, and goes on."""
    url, met = request.getfixturevalue(f"{kind}_url"), []

    async def store_elsewhere():
        other = create_async_engine(url)
        await SQLAlchemyStorage(OAuth, other).set(GITHUB, token("first"), user_id=2)
        await other.dispose()

    def be_faster(connection, cursor, statement, *_):
        if statement.startswith(f"INSERT INTO {OLD.name} (") and not met:
            met.append(pool.submit(asyncio.run, store_elsewhere()).result())

    async with opened(url) as engine:
        storage = SQLAlchemyStorage(OAuth, engine)
        await storage.set(GITHUB, token("the look-up"), user_id=9)
        await run(engine, lambda connection: upgrade(connection, OLD.name))
        with ThreadPoolExecutor() as pool:
            event.listen(engine.sync_engine, "before_cursor_execute", be_faster)
            await storage.set(GITHUB, token("second"), user_id=2)
        assert met
        assert (await tokens(engine))[1:] == [("github", 2, "second")]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_two_upgrades_at_once(kind, request, tmp_path):
    """Of two that begin together one does it, and the other one has nothing to do."""
    async with opened(url_of(kind, request, tmp_path)) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        works = [run(engine, lambda c: upgrade(c, OLD.name)) for _ in range(2)]
        done = await asyncio.gather(*works)
        assert Upgrade() in done
        assert [len(each.surplus) for each in done if each.surplus] == [1]


@contextmanager
def late_rows(engine, times):
    """Let a row be written between the cleaning and an index, so many times.

    Its writer waits for our lock, and has it as soon as the index is begun.
    """
    where = make_url(engine.url)
    given = {"host": where.host, "port": where.port, "database": where.database}
    writing: list[Future[None]] = []

    def write():
        with pymysql.connect(**given, user=where.username, autocommit=True) as own:
            own.cursor().execute(
                f"INSERT INTO {OLD.name} (provider, user_id, created_at, token) "
                "VALUES ('github', 1, now(), '{\"access_token\": \"late\"}')"
            )

    with ThreadPoolExecutor() as pool:

        def be_late(connection, cursor, statement, *_):
            if statement.startswith("CREATE UNIQUE INDEX") and len(writing) < times:
                writing.append(pool.submit(write))
                with pymysql.connect(**given, user=where.username) as own:
                    seen = own.cursor()
                    while not seen.execute(WAITING["mysql"]) or not seen.fetchone()[0]:
                        time.sleep(0.15)  # asked sooner, it repeats its last answer

        event.listen(engine.sync_engine, "before_cursor_execute", be_late)
        yield writing


@pytest.mark.parametrize("times", [1, ATTEMPTS - 1])
async def test_a_duplicate_between_cleaning_and_index(mariadb_url, times):
    """Where the index cannot be in the same transaction, it is all done once more."""
    async with opened(mariadb_url) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        with late_rows(engine, times) as writing:
            done = await run(engine, lambda c: upgrade(c, OLD.name))
        assert [each.result() for each in writing] == [None] * times
        assert [account.count for account in done.surplus] == [1] * (times + 1)
        assert await tokens(engine) == [("github", 1, "late")]


async def test_duplicates_without_end(mariadb_url):
    """Where others are faster every time, it says to do it later; nothing is lost."""
    async with opened(mariadb_url) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        with late_rows(engine, ATTEMPTS):
            with pytest.raises(UpgradeError, match="run this again, when there is"):
                await run(engine, lambda c: upgrade(c, OLD.name))
        assert ("github", 1, "late") in await tokens(engine)
        await run(engine, lambda c: upgrade(c, OLD.name))
        assert await tokens(engine) == [("github", 1, "late")]


async def test_no_rights_in_postgresql(postgresql_url):
    """Who may only read is told so by the database."""

    def as_reader(connection):
        for statement in (
            "CREATE ROLE quart_dance_reader",
            "GRANT USAGE ON SCHEMA public TO quart_dance_reader",
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO quart_dance_reader",
            "SET LOCAL ROLE quart_dance_reader",
        ):
            connection.exec_driver_sql(statement)
        upgrade(connection, OLD.name)

    async with opened(postgresql_url) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        with pytest.raises(UpgradeError, match="says: permission denied for table"):
            await run(engine, as_reader)
        assert len(await tokens(engine)) == 2


async def test_no_rights_in_mariadb(mariadb_url):
    """Who may only read is told so by the database."""
    async with opened(mariadb_url) as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        place = engine.url.database
        make = f"GRANT SELECT ON {place}.* TO {place} IDENTIFIED BY 'the password'"
        await run(engine, lambda c: c.execute(text(make)))
        url = engine.url.set(username=place, password="the password")
        reader = create_async_engine(url)
        try:
            with pytest.raises(UpgradeError, match="says: ALTER command denied") as no:
                await run(reader, lambda c: upgrade(c, OLD.name))
            assert "the password" not in str(no.value)
        finally:
            await reader.dispose()
            await run(engine, lambda c: c.execute(text(f"DROP USER {place}")))
        assert len(await tokens(engine)) == 2


async def test_a_file_that_may_only_be_read(tmp_path):
    """A database that may only be read is not changed, and it says why."""
    file = tmp_path / "tokens.db"
    async with opened(f"sqlite+aiosqlite:///{file}") as engine:
        await add(engine, (1, "new", 2), (1, "old", 1))
        reader = create_async_engine(
            f"sqlite+aiosqlite:///file:{file}?mode=ro&uri=true"
        )
        with pytest.raises(UpgradeError, match="attempt to write a readonly database"):
            await run(reader, lambda c: upgrade(c, OLD.name))
        await reader.dispose()
        assert len(await tokens(engine)) == 2
