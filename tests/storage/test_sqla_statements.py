"""How many statements, and tables as Flask-Dance made them."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from databases import (
    GITHUB,
    GOOGLE,
    Base,
    DictCache,
    OAuth,
    PlainBase,
    PlainOAuth,
    add_row,
    database,
    execute,
    make_flask_dance_table,
    rows,
    statements,
    token,
)
from sqlalchemy import event
from sqlalchemy.ext.asyncio import async_sessionmaker

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.cache import MARKER_TTL
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError

USERS = [1, 0, NOBODY]


@pytest_asyncio.fixture
async def engine(tmp_path):
    async with database(tmp_path / "tokens.db") as engine:
        yield engine


@pytest_asyncio.fixture
async def old_engine(tmp_path):
    """A database with a token table that Flask-Dance 7.1 has made."""
    async with database(tmp_path / "old.db", None) as engine:
        await make_flask_dance_table(engine)
        yield engine


async def test_the_indexes_are_looked_up_once(engine):
    """Each engine is asked once whether it has our indexes, at the first set."""
    storage = SQLAlchemyStorage(OAuth, async_sessionmaker(engine))
    with statements(engine) as sent:
        await storage.get(GITHUB, user_id=1)
    assert len(sent) == 1
    with statements(engine) as sent:
        await storage.set(GITHUB, token("x"), user_id=1)
    assert len(sent) > 1 and sent[-1].startswith("INSERT")
    with statements(engine) as sent:
        await storage.set(GITHUB, token("x"), user_id=1)
    assert [s.split()[0] for s in sent] == ["INSERT"]


@pytest.mark.parametrize("user_id", USERS)
async def test_one_statement_each(engine, user_id):
    """With our indexes get, set and delete are one statement, whoever it is."""
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.set(GOOGLE, token("the look-up"))
    for call in (
        lambda: storage.get(GITHUB, user_id=user_id),
        lambda: storage.set(GITHUB, token("first"), user_id=user_id),
        lambda: storage.set(GITHUB, token("second"), user_id=user_id),
        lambda: storage.get(GITHUB, user_id=user_id),
        lambda: storage.delete(GITHUB, user_id=user_id),
        lambda: storage.delete(GITHUB, user_id=user_id),
    ):
        with statements(engine) as sent:
            await call()
        assert len(sent) == 1, sent


async def test_one_statement_each_without_users(tmp_path):
    """The same holds for a model without users."""
    async with database(tmp_path / "plain.db", PlainBase) as engine:
        storage = SQLAlchemyStorage(PlainOAuth, engine)
        await storage.set(GOOGLE, token("the look-up"))
        with statements(engine) as sent:
            await storage.set(GITHUB, token("first"))
            await storage.set(GITHUB, token("second"))
            assert await storage.get(GITHUB) == token("second")
            await storage.delete(GITHUB)
        assert len(sent) == 4, sent


@pytest.mark.parametrize("user_id", USERS)
async def test_no_statement_with_a_warm_cache(engine, user_id):
    """With a warm cache get sends no statement, also where there is no token."""
    cache = DictCache()
    storage = SQLAlchemyStorage(OAuth, engine, cache=cache)
    for change, stored in (
        (lambda: storage.delete(GITHUB, user_id=user_id), None),
        (lambda: storage.set(GITHUB, token("x"), user_id=user_id), token("x")),
        (lambda: storage.delete(GITHUB, user_id=user_id), None),
    ):
        await change()
        cache.end(MARKER_TTL)
        assert await storage.get(GITHUB, user_id=user_id) == stored
        with statements(engine) as sent:
            assert await storage.get(GITHUB, user_id=user_id) == stored
        assert sent == []


async def test_past_the_cache(engine):
    """What is read under the refresh lock, and compared, comes from the database."""
    cache = DictCache()
    storage = SQLAlchemyStorage(OAuth, engine, cache=cache)
    await storage.set(GITHUB, token("x"))
    cache.end(MARKER_TTL)
    assert await storage.get(GITHUB) == token("x")
    await execute(engine, "UPDATE flask_dance_oauth SET token = :t", t='{"a": 1}')
    assert await storage.get(GITHUB) == token("x")
    with statements(engine) as sent:
        assert await storage.reread(GITHUB) == {"a": 1}
    assert len(sent) == 1
    assert await storage.replace(GITHUB, token("x"), None) is False
    assert await storage.replace(GITHUB, {"a": 1}, token("y")) is True
    assert await storage.get(GITHUB) == token("y")


async def add_duplicates(engine):
    at = "2024-01-0{} 00:00:00.000000"
    for user in (None, 1, 2):
        await add_row(engine, f"older {user}", user_id=user, at=at.format(2))
        await add_row(engine, f"newest {user}", user_id=user, at=at.format(3))
        await add_row(engine, f"oldest {user}", user_id=user, at=at.format(1))
        await add_row(engine, f"as old {user}", user_id=user, at=at.format(1))
    await add_row(engine, "google's", user_id=1, provider="google", at=at.format(9))


@pytest.mark.parametrize(("user_id", "row"), [(1, 1), (NOBODY, None)])
async def test_duplicates(old_engine, user_id, row):
    """S6: Of duplicates the newest counts; the next set removes the others."""
    await add_duplicates(old_engine)
    before = await rows(old_engine)
    storage = SQLAlchemyStorage(OAuth, old_engine)
    assert await storage.get(GITHUB, user_id=user_id) == token(f"newest {row}")
    assert await rows(old_engine) == before
    await storage.set(GITHUB, token("new"), user_id=user_id)
    assert await storage.get(GITHUB, user_id=user_id) == token("new")
    after = await rows(old_engine)
    assert [r for r in after if r[:2] == ("github", row)] == [("github", row, "new")]
    others = [r for r in before if r[:2] != ("github", row)]
    assert [r for r in after if r[:2] != ("github", row)] == others


@pytest.mark.parametrize("way", ["delete", "replace"])
async def test_duplicates_are_deleted_together(old_engine, way):
    """S6: After a deletion no older duplicate comes back."""
    await add_duplicates(old_engine)
    storage = SQLAlchemyStorage(OAuth, old_engine)
    if way == "delete":
        await storage.delete(GITHUB, user_id=1)
    else:
        assert await storage.replace(GITHUB, token("newest 1"), None, user_id=1)
    assert await storage.get(GITHUB, user_id=1) is None
    assert await storage.get(GITHUB, user_id=2) == token("newest 2")
    assert await storage.get(GOOGLE, user_id=1) == token("google's")


async def test_replace_among_duplicates(old_engine):
    """S6: A refreshed token takes the place of the newest duplicate and stays ahead."""
    await add_duplicates(old_engine)
    storage = SQLAlchemyStorage(OAuth, old_engine)
    for older in ("older 1", "oldest 1", "as old 1", "newest 2"):
        assert not await storage.replace(GITHUB, token(older), token("x"), user_id=1)
    assert await storage.replace(GITHUB, token("newest 1"), token("new"), user_id=1)
    assert await storage.get(GITHUB, user_id=1) == token("new")


async def test_duplicates_of_one_moment(old_engine):
    """S6: Of duplicates of one moment the one stored last counts."""
    await add_row(old_engine, "first")
    await add_row(old_engine, "last")
    assert await SQLAlchemyStorage(OAuth, old_engine).get(GITHUB) == token("last")


async def test_first_logins_at_once_on_an_old_table(old_engine):
    """S6: Without indexes too 50 first logins at once make one row, and all succeed."""
    storage = SQLAlchemyStorage(OAuth, old_engine)
    await asyncio.gather(
        *(storage.set(GITHUB, token(f"t{n}"), user_id=1) for n in range(50))
    )
    assert len(await rows(old_engine)) == 1


async def test_statements_on_an_old_table(old_engine):
    """Without indexes a set is a short transaction; get and delete are one statement.

    What a set sends: a write that takes the lock, a look for duplicates, the token.
    Where the table of the locks is missing it is made once.
    """
    storage = SQLAlchemyStorage(OAuth, old_engine)
    await storage.set(GITHUB, token("the look-up"), user_id=1)
    with statements(old_engine) as sent:
        await storage.set(GITHUB, token("x"), user_id=1)
    assert [s.split()[0] for s in sent] == ["INSERT", "SELECT", "UPDATE"]
    with statements(old_engine) as sent:
        await storage.get(GITHUB, user_id=1)
        await storage.delete(GITHUB, user_id=1)
    assert [s.split()[0] for s in sent] == ["SELECT", "DELETE"]


async def test_indexes_that_come_later(old_engine):
    """A new storage finds the indexes that a migration has made."""
    await add_duplicates(old_engine)
    storage = SQLAlchemyStorage(OAuth, old_engine)
    for user in (NOBODY, 1, 2):
        await storage.set(GITHUB, token("new"), user_id=user)

    def migrate(connection):
        for index in OAuth.__table__.indexes:
            index.create(connection)

    async with old_engine.begin() as connection:
        await connection.run_sync(migrate)
    storage = SQLAlchemyStorage(OAuth, old_engine)
    await storage.set(GITHUB, token("the look-up"), user_id=3)
    with statements(old_engine) as sent:
        await storage.set(GITHUB, token("x"), user_id=1)
    assert len(sent) == 1


async def test_indexes_that_go(engine):
    """Where the indexes are gone one set fails, and the next one works without."""
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.set(GITHUB, token("old"), user_id=1)
    await execute(engine, "DROP INDEX uq_flask_dance_oauth_provider_user")
    with pytest.raises(StorageError, match="ON CONFLICT"):
        await storage.set(GITHUB, token("new"), user_id=1)
    await storage.set(GITHUB, token("new"), user_id=1)
    assert await rows(engine) == [("github", 1, "new")]


async def test_indexes_of_another_kind(old_engine):
    """Indexes that only have the names of ours are not taken for them."""
    for name in ("user", "nobody"):
        await execute(
            old_engine,
            f"CREATE INDEX uq_flask_dance_oauth_provider_{name}"
            " ON flask_dance_oauth (provider, created_at)",
        )
    storage = SQLAlchemyStorage(OAuth, old_engine)
    for name in ("old", "new"):
        await storage.set(GITHUB, token(name), user_id=1)
    assert await rows(old_engine) == [("github", 1, "new")]


@pytest.mark.parametrize("old", [False, True])
async def test_transactions_that_the_application_begins(tmp_path, old):
    """S6: Nothing is locked out on an engine whose transactions begin with BEGIN.

    SQLAlchemy's documentation shows how to make pysqlite do so; from then on a read
    is part of the transaction, and a write after it may find the file locked.
    """
    base = None if old else Base
    async with database(tmp_path / "tokens.db", base) as engine:

        @event.listens_for(engine.sync_engine, "connect")
        def connect(connection, record):
            connection.isolation_level = None

        @event.listens_for(engine.sync_engine, "begin")
        def begin(connection):
            connection.exec_driver_sql("BEGIN")

        if old:
            await make_flask_dance_table(engine)
        storage = SQLAlchemyStorage(OAuth, engine)
        await asyncio.gather(
            *(storage.set(GITHUB, token("old"), user_id=1) for n in range(10))
        )
        won = await asyncio.gather(
            *(
                storage.replace(GITHUB, token("old"), token(f"{n}"), user_id=1)
                for n in range(10)
            )
        )
        assert won.count(True) == 1
