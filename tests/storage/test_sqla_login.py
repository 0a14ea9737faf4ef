"""The whole dance with a database and the users of Quart-Auth."""

from __future__ import annotations

import pytest
import pytest_asyncio
from aiocache import SimpleMemoryCache
from databases import OAuth, PlainBase, PlainOAuth, add_users, database, rows
from quart_auth import AuthUser, QuartAuth, current_user, login_user, logout_user
from support import Visitor, make_app

from quart_dance.consumer import (
    oauth_authorized,
    oauth_error,
    oauth_login_failed,
)
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError, UserRequiredError
from quart_dance.testing import DevProvider

WHO = {
    "user=current_user": {"user": current_user},
    "user_id=lambda": {"user_id": lambda: current_user.auth_id},
    "user=lambda": {"user": lambda: current_user},
}


@pytest_asyncio.fixture
async def engine(tmp_path):
    async with database(tmp_path / "tokens.db") as engine:
        await add_users(engine, "alice", "bob")  # 1 and 2
        yield engine


@pytest.fixture
def provider():
    return DevProvider()


def application(provider, storage, name="dev"):
    """Make an application in which one signs in as a user, then with the provider."""
    app, blueprint = make_app(provider, name, storage=storage)
    QuartAuth(app, cookie_secure=False)

    @app.get("/in/<auth_id>")
    async def sign_in(auth_id):
        login_user(AuthUser(auth_id))
        return ""

    @app.get("/out")
    async def sign_out():
        logout_user()
        return ""

    @app.get("/authorized")
    async def authorized():
        return str(await blueprint.session.authorized)

    @app.get("/forget")
    async def forget():
        await blueprint.delete_token()
        return ""

    return app, blueprint


async def text(visitor, path):
    response = await visitor.get(path)
    return await response.get_data(as_text=True)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("who", WHO.values(), ids=list(WHO))
async def test_two_users(engine, provider, who, cached):
    """Each user of Quart-Auth has a token of their own, in every browser of theirs."""
    cache = SimpleMemoryCache() if cached else None
    app, _ = application(provider, SQLAlchemyStorage(OAuth, engine, cache=cache, **who))
    alice, bob, elsewhere = Visitor(app), Visitor(app), Visitor(app)
    await alice.get("/in/1")
    await bob.get("/in/2")
    assert await text(alice, "/authorized") == "False"
    assert (await alice.login(provider, "alice")).status_code == 302
    assert await text(bob, "/authorized") == "False"
    assert (await bob.login(provider, "bob")).status_code == 302
    assert await text(alice, "/me") == "alice"
    assert await text(bob, "/me") == "bob"
    assert [row[:2] for row in await rows(engine)] == [("dev", 1), ("dev", 2)]
    await elsewhere.get("/in/1")
    assert await text(elsewhere, "/me") == "alice"
    await elsewhere.get("/forget")
    assert await text(alice, "/authorized") == "False"
    assert await text(bob, "/me") == "bob"
    await bob.get("/out")
    assert await text(bob, "/authorized") == "False"


@pytest.mark.parametrize("who", WHO.values(), ids=list(WHO))
async def test_an_anonymous_visitor_is_not_authorized(engine, provider, who):
    """Nobody is not authorized where users are required; that is no exception."""
    app, blueprint = application(provider, SQLAlchemyStorage(OAuth, engine, **who))
    shared = SQLAlchemyStorage(OAuth, engine)
    await shared.set(blueprint, provider.issue_token("bob"))
    visitor = Visitor(app)
    assert await text(visitor, "/authorized") == "False"
    response = await visitor.get("/me")
    assert response.status_code == 401


@pytest.mark.parametrize("who", WHO.values(), ids=list(WHO))
async def test_a_login_of_nobody_fails(engine, provider, who):
    """A token that is nobody's is not stored: a failed login, and `oauth_error`."""
    app, blueprint = application(provider, SQLAlchemyStorage(OAuth, engine, **who))
    failures, errors = [], []

    @oauth_login_failed.connect_via(blueprint)
    def failed(sender, exception):
        failures.append(exception)

    @oauth_error.connect_via(blueprint)
    def error(sender, error, error_description=None, error_uri=None):
        errors.append((error, error_description, error_uri))

    response = await Visitor(app).login(provider)
    assert response.status_code == 500
    assert "could not be kept" in await response.get_data(as_text=True)
    assert [type(failure) for failure in failures] == [UserRequiredError]
    assert errors == [
        (
            "user_required",
            "cannot set an OAuth token without a user: nobody is logged in",
            None,
        )
    ]
    assert await rows(engine) == []


async def test_a_receiver_logs_the_user_in(engine, provider):
    """Signing in with the provider: the token is stored for whom a receiver logs in."""
    app, blueprint = application(
        provider, SQLAlchemyStorage(OAuth, engine, user=current_user)
    )

    @oauth_authorized.connect_via(blueprint)
    async def signed_in(sender, token):
        person = (await blueprint.session.get("user")).json()["login"]
        login_user(AuthUser({"alice": "1", "bob": "2"}[person]))

    alice, bob = Visitor(app), Visitor(app)
    await alice.login(provider, "alice")
    await bob.login(provider, "bob")
    assert await text(alice, "/me") == "alice"
    assert await text(bob, "/me") == "bob"
    assert [row[1] for row in await rows(engine)] == [1, 2]


async def test_somebody_else_between_login_and_callback(engine, provider):
    """C22: The token of a login that one user began is not stored for another one."""
    app, _ = application(provider, SQLAlchemyStorage(OAuth, engine, user=current_user))
    visitor = Visitor(app)
    await visitor.get("/in/1")
    callback = await provider.approve(await visitor.start())
    await visitor.get("/in/2")
    assert (await visitor.get(callback)).status_code == 400
    assert await rows(engine) == []


async def test_a_table_that_is_missing_is_a_failed_login(tmp_path, provider):
    """S8: A database that fails makes a failed login, and an error for a visitor."""
    async with database(tmp_path / "empty.db", None) as engine:
        app, blueprint = make_app(provider, storage=SQLAlchemyStorage(OAuth, engine))
        failures = []

        @oauth_login_failed.connect_via(blueprint)
        def failed(sender, exception):
            failures.append(exception)

        visitor = Visitor(app)
        response = await visitor.login(provider)
        assert response.status_code == 500
        assert [type(failure) for failure in failures] == [StorageError]
        issued = provider.tokens[0]
        for secret in (issued.access_token, issued.refresh_token):
            assert secret not in str(failures[0])
            assert failures[0].__cause__ is None and failures[0].__context__ is None
        response = await visitor.get("/me")
        assert response.status_code == 500


async def test_session_for_a_user(engine, provider):
    """A background job names the user, and reaches that user's token alone."""
    storage = SQLAlchemyStorage(OAuth, engine, user=current_user)
    app, blueprint = application(provider, storage)
    for user_id, person in ((1, "alice"), (2, "bob")):
        await storage.set(blueprint, provider.issue_token(person), user_id=user_id)
        session = blueprint.session_for(user_id=user_id, app=app)
        assert await session.authorized
        assert (await session.get("user")).json()["login"] == person
    assert not await blueprint.session_for(user_id=3, app=app).authorized
    assert not await blueprint.session_for(anonymous=True, app=app).authorized
    await blueprint.aclose(app)


async def test_two_applications(tmp_path):
    """S15: Two applications, and two blueprints of one provider, share no token."""
    async with (
        database(tmp_path / "one.db", PlainBase) as one,
        database(tmp_path / "two.db", PlainBase) as two,
    ):
        visitors = {}
        for name, engine in (("one", one), ("two", two)):
            provider = DevProvider()
            storage = SQLAlchemyStorage(PlainOAuth, engine, cache=SimpleMemoryCache())
            app, _ = make_app(provider, storage=storage)
            other, _ = make_app(provider, "other", storage=storage)
            visitors[name] = Visitor(app), Visitor(other), provider
        first, other, provider = visitors["one"]
        await first.login(provider, "alice")
        assert await text(first, "/me") == "alice"
        assert (await other.get("/me")).status_code == 401
        for second in visitors["two"][:2]:
            assert (await second.get("/me")).status_code == 401
        await visitors["two"][0].login(visitors["two"][2], "bob")
        assert await text(first, "/me") == "alice"
        assert await text(visitors["two"][0], "/me") == "bob"


async def test_one_cache_for_two_databases(tmp_path):
    """S15: Two databases behind one cache share no token either."""
    cache = SimpleMemoryCache()
    async with (
        database(tmp_path / "one.db", PlainBase) as one,
        database(tmp_path / "two.db", PlainBase) as two,
    ):
        _, blueprint = make_app(DevProvider())
        first = SQLAlchemyStorage(PlainOAuth, one, cache=cache)
        second = SQLAlchemyStorage(PlainOAuth, two, cache=cache)
        await first.set(blueprint, {"access_token": "first"})
        assert await second.get(blueprint) is None
        await second.set(blueprint, {"access_token": "second"})
        assert await first.get(blueprint) == {"access_token": "first"}
