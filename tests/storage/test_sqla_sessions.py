"""Whatever is passed as session: our own connections, and nobody else's work."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio
from databases import GITHUB, OAuth, User, add_users, database, execute, rows, token
from sqlalchemy import create_engine, select
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import Session, sessionmaker

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage


@pytest_asyncio.fixture
async def engine(tmp_path):
    async with database(tmp_path / "tokens.db") as engine:
        yield engine


KINDS = {
    "async_sessionmaker": async_sessionmaker,
    "async_scoped_session": lambda engine: async_scoped_session(
        async_sessionmaker(engine), scopefunc=asyncio.current_task
    ),
    "AsyncSession": AsyncSession,
    "AsyncEngine": lambda engine: engine,
    "binds": lambda engine: async_sessionmaker(binds={OAuth: engine}),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=list(KINDS))
async def test_every_kind_of_session(engine, make):
    """Each kind of `session` leads to the engine behind it."""
    storage = SQLAlchemyStorage(OAuth, make(engine))
    await storage.set(GITHUB, token("x"))
    assert await storage.get(GITHUB) == token("x")
    assert await rows(engine) == [("github", None, "x")]
    assert await storage.replace(GITHUB, token("x"), token("y")) is True
    await storage.delete(GITHUB)
    assert await rows(engine) == []


@pytest.mark.parametrize(
    "session",
    [None, "sqlite://", Session(), sessionmaker(), create_engine("sqlite://")],
    ids=["None", "a URL", "Session", "sessionmaker", "Engine"],
)
def test_what_is_no_async_session_is_refused(session):
    """What cannot be awaited is refused where the storage is made."""
    with pytest.raises(TypeError, match="async_sessionmaker"):
        SQLAlchemyStorage(OAuth, session)


async def test_one_session_serves_many_tasks(engine):
    """An AsyncSession, which is for one task at a time, is not used itself."""
    async with AsyncSession(engine) as session:
        storage = SQLAlchemyStorage(OAuth, session)
        await asyncio.gather(
            *(storage.set(GITHUB, token(f"t{n}"), user_id=n) for n in range(10)),
            *(storage.get(GITHUB, user_id=n) for n in range(10)),
            session.scalars(select(User)),
        )
        assert not session.new and not session.dirty
    assert len(await rows(engine)) == 10


async def test_a_session_in_use_stays_as_it_is(engine):
    """What the application has loaded is not expired, nor its transaction ended."""
    await add_users(engine, "ada")
    async with AsyncSession(engine) as session:
        ada = await session.scalar(select(User))
        transaction = session.get_transaction()
        storage = SQLAlchemyStorage(OAuth, session, user=ada)
        await storage.set(GITHUB, token("x"))
        assert await storage.get(GITHUB) == token("x")
        await storage.delete(GITHUB)
        assert session.get_transaction() is transaction
        assert transaction.is_active
        assert ada.name == "ada"  # would ask the database if it had expired


@pytest.mark.parametrize("verb", ["get", "set", "delete", "replace"])
@pytest.mark.parametrize("kind", ["AsyncSession", "async_scoped_session"])
async def test_the_applications_transaction_is_not_committed(engine, kind, verb):
    """What the application has not committed stays uncommitted, and can be undone."""
    session = KINDS[kind](engine)
    storage = SQLAlchemyStorage(OAuth, session)
    await storage.set(GITHUB, token("old"))
    session.add(User(name="mallory"))
    await _call(storage, verb)
    assert await execute(engine, "SELECT name FROM user") == []
    assert [user.name for user in session.new] == ["mallory"]
    await session.rollback()
    await session.close()
    assert await execute(engine, "SELECT name FROM user") == []


async def test_what_was_flushed_is_not_committed(engine):
    """Even where the application's own transaction has written, it stays open."""
    async with AsyncSession(engine) as session:
        storage = SQLAlchemyStorage(OAuth, session)
        await storage.set(GITHUB, token("old"))
        session.add(User(name="mallory"))
        await session.flush()
        assert await storage.get(GITHUB) == token("old")
        assert session.in_transaction()
        await session.rollback()
    assert await execute(engine, "SELECT name FROM user") == []


@pytest.mark.parametrize("verb", ["set", "delete", "replace"])
async def test_a_failure_is_rolled_back(engine, verb):
    """S8: What fails in the middle leaves no transaction open, and the token as was."""
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.set(GITHUB, token("old"))
    event = {"set": "UPDATE", "delete": "DELETE", "replace": "UPDATE"}[verb]
    await execute(
        engine,
        f"CREATE TRIGGER no BEFORE {event} ON flask_dance_oauth"
        " BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    with pytest.raises(Exception, match="no"):
        await _call(storage, verb)
    await execute(engine, "DROP TRIGGER no")
    assert await storage.get(GITHUB) == token("old")
    await _call(storage, verb)
    assert engine.pool.checkedout() == 0


async def test_our_own_transactions_are_committed_at_once(engine, tmp_path):
    """What was set is seen by every other connection when `set` returns."""
    storage = SQLAlchemyStorage(OAuth, async_sessionmaker(engine))
    async with database(tmp_path / "tokens.db") as other:
        await storage.set(GITHUB, token("x"))
        assert await rows(other) == [("github", None, "x")]
        await storage.delete(GITHUB)
        assert await rows(other) == []


async def test_a_database_that_fails_is_no_logout(tmp_path):
    """S8: Where the database cannot be asked there is an error, never "no token"."""
    path = tmp_path / "tokens.db"
    path.write_bytes(b"not a database, but as long as the header of one" * 30)
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    storage = SQLAlchemyStorage(OAuth, engine)
    for verb in ("get", "set", "delete", "replace"):
        with pytest.raises(Exception, match="file is not a database"):
            await _call(storage, verb)
    await engine.dispose()


async def _call(storage, verb):
    if verb == "replace":
        await storage.replace(GITHUB, token("old"), token("new"))
    elif verb == "set":
        await storage.set(GITHUB, token("new"))
    else:
        await getattr(storage, verb)(GITHUB)
