"""Whose token: users and ids as applications have them."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
import pytest_asyncio
from databases import GITHUB, OAuth, User, add_users, database, rows, token
from quart_auth import AuthUser
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker
from werkzeug.local import LocalProxy

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import UserRequiredError


@pytest_asyncio.fixture
async def engine(tmp_path):
    async with database(tmp_path / "tokens.db") as engine:
        await add_users(engine, "ada", "bob")  # 1 and 2
        yield engine


class Anonymous:
    """Somebody who is not logged in, as Flask-Login has them."""

    is_anonymous = True

    def get_id(self):
        return None


class Nameless:
    """Somebody who is not logged in, and has an id all the same."""

    is_anonymous = True
    id = 2


class Guest:
    """Somebody who is not logged in, as an application of its own has them."""

    id = 2


def asynchronous(value):
    async def function():
        await asyncio.sleep(0)
        return value

    return function


BOB = SimpleNamespace(id=2)
WAYS = {
    "object": lambda value: value,
    "function": lambda value: lambda: value,
    "coroutine function": asynchronous,
    "proxy": lambda value: LocalProxy(lambda: value),
    "function of a proxy": lambda value: lambda: LocalProxy(lambda: value),
    "proxy of a coroutine function": lambda value: LocalProxy(
        lambda: asynchronous(value)
    ),
    "coroutine function of a proxy": lambda value: asynchronous(
        LocalProxy(lambda: value)
    ),
}
USERS = {
    "an id attribute": BOB,
    "Quart-Auth": AuthUser("2"),
    "Flask-Login": SimpleNamespace(is_anonymous=False, get_id=lambda: "2"),
    "an unmapped User": type("Bob", (), {"id": 2})(),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("user", USERS.values(), ids=list(USERS))
async def test_user(engine, user, way):
    """`user` is an object, a proxy, a function or a coroutine function."""
    storage = SQLAlchemyStorage(OAuth, engine, user=way(user))
    await storage.set(GITHUB, token("bob's"))
    assert await rows(engine) == [("github", 2, "bob's")]
    assert await storage.get(GITHUB) == token("bob's")
    assert await storage.account(GITHUB) == "2"
    await storage.delete(GITHUB)
    assert await rows(engine) == []


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("user_id", [2, "2"])
async def test_user_id(engine, user_id, way):
    """`user_id` is a value, a proxy, a function or a coroutine function."""
    storage = SQLAlchemyStorage(OAuth, engine, user_id=way(user_id))
    await storage.set(GITHUB, token("bob's"))
    assert await rows(engine) == [("github", 2, "bob's")]
    assert await storage.get(GITHUB) == token("bob's")
    assert await storage.account(GITHUB) == "2"


@pytest.mark.parametrize("state", ["persistent", "expired", "detached", "both"])
async def test_a_user_of_the_database(engine, state):
    """A mapped user is known by its identity, loaded or not, attached or not."""
    async with AsyncSession(engine) as session:
        bob = await session.scalar(select(User).where(User.name == "bob"))
        if state in ("expired", "both"):
            session.expire(bob)
        if state in ("detached", "both"):
            session.expunge(bob)
        storage = SQLAlchemyStorage(OAuth, session, user=bob)
        await storage.set(GITHUB, token("bob's"))
        assert await storage.get(GITHUB) == token("bob's")
    assert await rows(engine) == [("github", 2, "bob's")]


@pytest.mark.parametrize("flush", [False, True])
async def test_a_new_user_must_be_committed_first(engine, flush):
    """A user without an identity is an error that says what to do, not nobody."""
    carl = User(name="carl")
    async with AsyncSession(engine) as session:
        if flush:
            session.add(carl)
        storage = SQLAlchemyStorage(OAuth, session, user=carl, user_required=False)
        for call in (
            storage.get(GITHUB),
            storage.set(GITHUB, token("carl's")),
            storage.delete(GITHUB),
            storage.account(GITHUB),
        ):
            with pytest.raises(UserRequiredError, match="commit the user first"):
                await call
        assert await rows(engine) == []
        session.add(carl)
        await session.commit()
        await storage.set(GITHUB, token("carl's"))
    assert await rows(engine) == [("github", 3, "carl's")]


NOBODIES = {
    "None": {"user": lambda: None},
    "no id": {"user_id": lambda: None},
    "no id from a coroutine": {"user_id": asynchronous(None)},
    "Quart-Auth": {"user": AuthUser(None)},
    "Flask-Login": {"user": Anonymous()},
    "an id all the same": {"user": Nameless()},
    "a proxy": {"user": LocalProxy(lambda: None)},
    "an application's own": {"user": Guest(), "anon_user": Guest},
    "no id, though a user": {"user_id": lambda: None, "user": BOB},
}


@pytest.mark.parametrize("given", NOBODIES.values(), ids=list(NOBODIES))
async def test_nobody_where_a_user_is_required(engine, given):
    """Where users are given, nobody is refused before the database is asked."""
    everybody = SQLAlchemyStorage(OAuth, engine)
    await everybody.set(GITHUB, token("shared"))
    storage = SQLAlchemyStorage(OAuth, engine, **given)
    assert storage.user_required is True
    for call in (
        storage.get(GITHUB),
        storage.set(GITHUB, token("x")),
        storage.delete(GITHUB),
        storage.replace(GITHUB, token("shared"), None),
        storage.reread(GITHUB),
    ):
        with pytest.raises(UserRequiredError, match="nobody is logged in"):
            await call
    assert await storage.account(GITHUB) is None
    assert await rows(engine) == [("github", None, "shared")]


@pytest.mark.parametrize("given", NOBODIES.values(), ids=list(NOBODIES))
async def test_nobody_where_no_user_is_required(engine, given):
    """With `user_required=False` nobody has an account, and sees nobody else's."""
    storage = SQLAlchemyStorage(OAuth, engine, user_required=False, **given)
    await storage.set(GITHUB, token("bob's"), user_id=2)
    assert await storage.get(GITHUB) is None
    await storage.set(GITHUB, token("shared"))
    assert await storage.get(GITHUB) == token("shared")
    await storage.delete(GITHUB)
    assert await rows(engine) == [("github", 2, "bob's")]


async def test_user_required_without_users(engine):
    """`user_required=True` counts for a storage that only hears of users in calls."""
    storage = SQLAlchemyStorage(OAuth, engine, user_required=True)
    with pytest.raises(UserRequiredError):
        await storage.get(GITHUB)
    await storage.set(GITHUB, token("bob's"), user_id=2)
    assert await storage.get(GITHUB, user=BOB) == token("bob's")


def test_user_required_by_default():
    """The default of `user_required` is whether a user or an id is given."""
    session = async_sessionmaker()
    assert SQLAlchemyStorage(OAuth, session).user_required is False
    assert SQLAlchemyStorage(OAuth, session, user=BOB).user_required is True
    assert SQLAlchemyStorage(OAuth, session, user_id=0).user_required is True
    assert SQLAlchemyStorage(OAuth, session, None, 7, False).user_required is False


@pytest.mark.parametrize(
    "explicit", [{"user_id": 2}, {"user_id": "2"}, {"user": BOB}], ids=str
)
@pytest.mark.parametrize(
    "given", [{"user_id": 1}, {"user": AuthUser("1")}, {"user": AuthUser(None)}]
)
async def test_what_the_call_says_wins(engine, given, explicit):
    """An explicit `user` or `user_id` counts, whoever is logged in."""
    storage = SQLAlchemyStorage(OAuth, engine, **given)
    await storage.set(GITHUB, token("bob's"), **explicit)
    assert await rows(engine) == [("github", 2, "bob's")]
    assert await storage.get(GITHUB, **explicit) == token("bob's")
    assert await storage.account(GITHUB, **explicit) == "2"
    await storage.delete(GITHUB, user_id=1)
    assert await storage.get(GITHUB, **explicit) == token("bob's")
    await storage.delete(GITHUB, **explicit)
    assert await rows(engine) == []


async def test_an_id_wins_over_a_user(engine):
    """Of `user` and `user_id` the id counts, as Flask-Dance documents it."""
    storage = SQLAlchemyStorage(OAuth, engine, user=BOB, user_id=1)
    assert await storage.account(GITHUB) == "1"
    assert await storage.account(GITHUB, user=BOB, user_id=3) == "3"
    assert await storage.account(GITHUB, user_id=NOBODY) is None


@pytest.mark.parametrize("user", [object(), 2, "bob", {"id": 2}])
async def test_a_user_that_tells_no_id(engine, user):
    """What is no user we know is an error that names `user_id`, not nobody."""
    storage = SQLAlchemyStorage(OAuth, engine, user_required=False)
    with pytest.raises(TypeError, match="user_id="):
        await storage.get(GITHUB, user=user)
