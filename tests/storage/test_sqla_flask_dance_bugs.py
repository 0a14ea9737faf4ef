"""What Flask-Dance's storage does wrong in a database, done right; one test each."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import pytest_asyncio
from aiocache import SimpleMemoryCache
from databases import (
    GITHUB,
    OAuth,
    User,
    add_row,
    add_users,
    database,
    execute,
    make_flask_dance_table,
    rows,
    token,
)
from sqlalchemy.ext.asyncio import AsyncSession

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import UserRequiredError


@pytest_asyncio.fixture(params=["our table", "its table"])
async def engine(request, tmp_path):
    if request.param == "our table":
        async with database(tmp_path / "tokens.db") as engine:
            yield engine
    else:
        async with database(tmp_path / "tokens.db", None) as engine:
            await make_flask_dance_table(engine)
            yield engine


async def test_the_anonymous_set_that_wiped_everybody(engine):
    """S7: A set without a user touches the row of nobody, and no user's."""
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.set(GITHUB, token("ada's"), user_id=1)
    await storage.set(GITHUB, token("bob's"), user_id=2)
    await storage.set(GITHUB, token("shared"))
    await storage.set(GITHUB, token("shared anew"))
    assert sorted(await rows(engine), key=str) == [
        ("github", 1, "ada's"),
        ("github", 2, "bob's"),
        ("github", None, "shared anew"),
    ]
    await storage.delete(GITHUB)
    assert await storage.get(GITHUB, user_id=1) == token("ada's")
    assert await storage.get(GITHUB, user_id=2) == token("bob's")


async def test_an_anonymous_visitor_who_got_somebodys_token(engine):
    """Without a user nobody's token is found, and never the only one there is."""
    for storage in (
        SQLAlchemyStorage(OAuth, engine),
        SQLAlchemyStorage(OAuth, engine, user=lambda: None, user_required=False),
        SQLAlchemyStorage(OAuth, engine, cache=SimpleMemoryCache()),
    ):
        await storage.set(GITHUB, token("ada's"), user_id=1)
        for _ in range(2):
            assert await storage.get(GITHUB, user_id=1) == token("ada's")
            assert await storage.get(GITHUB) is None
            assert await storage.get(GITHUB, user_id=NOBODY) is None


async def test_multiple_results_found(tmp_path):
    """Duplicates, as two first logins at once make them there, are no exception."""
    async with database(tmp_path / "tokens.db", None) as engine:
        await make_flask_dance_table(engine)
        await add_row(engine, "one", user_id=1, at="2024-01-02 00:00:00.000000")
        await add_row(engine, "two", user_id=1, at="2024-01-01 00:00:00.000000")
        storage = SQLAlchemyStorage(OAuth, engine)
        assert await storage.get(GITHUB, user_id=1) == token("one")


@pytest.mark.parametrize("given", ["user", "user_id"])
async def test_the_wrong_owner_with_an_explicit_id(engine, given):
    """`set(user_id=…)` files the token under that id, whoever is logged in."""
    ada, bob = await add_users(engine, "ada", "bob")
    who = {"user": ada} if given == "user" else {"user_id": ada.id}
    storage = SQLAlchemyStorage(OAuth, engine, **who)
    await storage.set(GITHUB, token("bob's"), user_id=bob.id)
    assert await rows(engine) == [("github", 2, "bob's")]
    assert await storage.get(GITHUB) is None
    await storage.set(GITHUB, token("bob's anew"), user=bob)
    assert await rows(engine) == [("github", 2, "bob's anew")]


async def test_the_explicit_user_who_lost_to_the_configured_id(engine):
    """`get(user=…)` finds that user's token, though the storage knows another id."""
    await add_row(engine, "bob's", user_id=2)
    storage = SQLAlchemyStorage(OAuth, engine, user_id=1)
    assert await storage.get(GITHUB, user=SimpleNamespace(id=2)) == token("bob's")


@pytest.mark.parametrize("user_id", [0, "0"])
async def test_the_id_0(engine, user_id):
    """S7: The id 0 is a user's; it is neither nobody nor everybody."""
    storage = SQLAlchemyStorage(OAuth, engine, user_id=lambda: user_id)
    shared = SQLAlchemyStorage(OAuth, engine)
    await shared.set(GITHUB, token("shared"))
    await storage.set(GITHUB, token("zero's"))
    assert await rows(engine) == [("github", None, "shared"), ("github", 0, "zero's")]
    assert await storage.get(GITHUB) == token("zero's")
    assert await storage.account(GITHUB) == "0"
    await storage.delete(GITHUB)
    assert await rows(engine) == [("github", None, "shared")]


async def test_the_user_with_the_id_0(engine):
    """S7: So is that of a user object, which may well be false."""

    class Falsy(SimpleNamespace):
        def __bool__(self):
            return False

    storage = SQLAlchemyStorage(OAuth, engine, user=Falsy(id=0))
    await storage.set(GITHUB, token("zero's"))
    assert await rows(engine) == [("github", 0, "zero's")]


async def test_the_second_delete(engine):
    """Deleting what is not there is fine."""
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.delete(GITHUB)
    await storage.set(GITHUB, token("x"))
    await storage.delete(GITHUB)
    await storage.delete(GITHUB)
    assert await rows(engine) == []


async def test_lost_extra_columns(engine):
    """What an application added to the table stays in the row when a token is set."""
    await execute(engine, "ALTER TABLE flask_dance_oauth ADD COLUMN login VARCHAR")
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.set(GITHUB, token("old"), user_id=1)
    await execute(engine, "UPDATE flask_dance_oauth SET login = 'ada'")
    await storage.set(GITHUB, token("new"), user_id=1)
    found = "SELECT id, login FROM flask_dance_oauth"
    assert await execute(engine, found) == [(1, "ada")]
    assert await storage.get(GITHUB, user_id=1) == token("new")


async def test_the_applications_transaction_committed(engine):
    """Storing a token commits nothing of what the application has begun."""
    async with AsyncSession(engine) as session:
        storage = SQLAlchemyStorage(OAuth, session)
        session.add(User(name="half-made"))
        await storage.set(GITHUB, token("x"))
        await storage.delete(GITHUB)
        await session.rollback()
    assert await execute(engine, "SELECT name FROM user") == []


async def test_the_cache_that_lost_to_none(engine):
    """Absence in the cache ends with the next set, for that account alone."""
    storage = SQLAlchemyStorage(OAuth, engine, cache=SimpleMemoryCache())
    assert await storage.get(GITHUB, user_id=1) is None
    await storage.set(GITHUB, token("x"), user_id=1)
    assert await storage.get(GITHUB, user_id=1) == token("x")
    assert await storage.get(GITHUB, user_id=2) is None


async def test_the_empty_id_that_was_nobody(engine):
    """S7: An empty id raises; it is a session without a user more often than not."""
    storage = SQLAlchemyStorage(OAuth, engine, user_id=lambda: "", user_required=False)
    await add_row(engine, "shared")
    with pytest.raises(ValueError, match="no user id"):
        await storage.get(GITHUB)


async def test_user_required_is_the_documented_error(engine):
    """It is a ValueError, as the reference says, with a name of its own."""
    storage = SQLAlchemyStorage(OAuth, engine, user=lambda: None)
    with pytest.raises(ValueError, match="cannot get an OAuth token without") as raised:
        await storage.get(GITHUB)
    assert type(raised.value) is UserRequiredError
