"""Sessions for an account: with or without a request, never somebody else's."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart
from support import Transport, Visitor, make_app, make_client_app

from quart_dance.consumer import oauth_refreshed
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import NOBODY, BaseStorage, MemoryStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.errors import NotAuthorizedError, UserRequiredError
from quart_dance.testing import DevProvider


class User:
    """A user of the application."""

    def __init__(self, id: int) -> None:
        self.id = id


class AccountStorage(BaseStorage):
    """A custom storage with accounts, as `BaseStorage` documents it."""

    def __init__(self) -> None:
        self.current: int | None = None
        self.tokens: dict[tuple[str, int | None], Any] = {}

    async def account(
        self, blueprint: Any, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        found = self._find(user, user_id)
        return None if found is None else str(found)

    async def get(self, blueprint: Any, **who: Any) -> Any:
        return self.tokens.get((blueprint.name, self._find(**who)))

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        self.tokens[blueprint.name, self._find(**who)] = token

    async def delete(self, blueprint: Any, **who: Any) -> None:
        self.tokens.pop((blueprint.name, self._find(**who)), None)

    def _find(self, user: Any = None, user_id: Any = None) -> int | None:
        if user_id is NOBODY:
            return None
        if user is not None:
            return int(user.id)
        if user_id == "":
            raise UserRequiredError("'' is nobody's id")
        return self.current if user_id is None else int(user_id)


def token_of(name: Any, **more: Any) -> dict[str, Any]:
    return {"access_token": f"at-{name}", "token_type": "bearer", **more}


def make() -> tuple[Quart, Any, AccountStorage, Transport]:
    """Return an application with the tokens of users 0, 1 and 42, and a shared one."""
    transport, storage = Transport(), AccountStorage()
    app, blueprint = make_client_app(transport, storage=storage)
    for number in (0, 1, 42):
        storage.tokens["dev", number] = token_of(number)
    storage.tokens["dev", None] = token_of("shared")
    storage.tokens["other", 42] = token_of("other")
    return app, blueprint, storage, transport


@pytest.mark.parametrize(
    ("who", "expected"),
    [
        ({"user_id": 42}, "at-42"),
        ({"user_id": "42"}, "at-42"),
        ({"user_id": 0}, "at-0"),
        ({"user": User(1)}, "at-1"),
        ({"user": User(0)}, "at-0"),
        ({"anonymous": True}, "at-shared"),
        ({"user_id": 7}, None),
        ({"user": User(7)}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("logged_in", [None, 1])
async def test_whose_token(
    who: dict[str, Any], expected: str | None, logged_in: int | None
) -> None:
    """S7, S15: the account that is named, 0 among them, whoever is logged in."""
    app, blueprint, storage, transport = make()
    storage.current = logged_in
    async with app.app_context():
        session = blueprint.session_for(**who)
        assert await session.authorized is (expected is not None)
        assert await session.access_token == expected
        if expected:
            await session.get("/user")
            (request,) = transport.requests
            assert request.headers["Authorization"] == f"Bearer {expected}"
        else:
            with pytest.raises(NotAuthorizedError):
                await session.get("/user")
            assert transport.requests == []
        mine = "at-1" if logged_in else "at-shared"
        assert await blueprint.session.access_token == mine


@pytest.mark.parametrize(
    "who",
    [
        {},
        {"user": None},
        {"user_id": None},
        {"user": None, "user_id": None},
        {"user": User(1), "user_id": 1},
        {"user": User(1), "user_id": 0},
        {"user_id": 0, "anonymous": True},
        {"user": User(1), "anonymous": True},
    ],
    ids=str,
)
async def test_one_account_must_be_named(who: dict[str, Any]) -> None:
    """None is nobody's name: the shared account is only had by `anonymous=True`."""
    app, blueprint, _, _ = make()
    async with app.app_context():
        with pytest.raises(ValueError, match="anonymous=True"):
            blueprint.session_for(**who)


async def test_what_the_storage_refuses() -> None:
    """S7: an id that is nobody's is the storage's to refuse, and nothing is sent."""
    app, blueprint, _, transport = make()
    async with app.app_context():
        with pytest.raises(UserRequiredError):
            await blueprint.session_for(user_id="").get("/user")
    assert transport.requests == []


@pytest.mark.parametrize("who", [{"user_id": 1}, {"user": User(1)}], ids=str)
async def test_a_storage_without_accounts(who: dict[str, Any]) -> None:
    """A storage of one shared token has no accounts, and says so at once."""
    shared = MemoryStorage(token_of("shared"))
    app, blueprint = make_client_app(Transport(), storage=shared)
    async with app.app_context():
        with pytest.raises(TypeError, match="MemoryStorage keeps no tokens for users"):
            blueprint.session_for(**who)
        session = blueprint.session_for(anonymous=True)
        assert await session.access_token == "at-shared"


@pytest.mark.parametrize(
    "who", [{"user_id": 1}, {"user": User(1)}, {"anonymous": True}], ids=str
)
async def test_the_session_storage(who: dict[str, Any]) -> None:
    """A visitor's session is nobody's account, not even the shared one."""
    app, blueprint = make_client_app(Transport())
    async with app.app_context():
        with pytest.raises(TypeError, match="SessionStorage"):
            blueprint.session_for(**who)
    assert isinstance(blueprint.storage, SessionStorage)


async def test_without_an_application() -> None:
    """Without an application context `app=` is needed, and does."""
    app, blueprint, _, transport = make()
    with pytest.raises(RuntimeError, match=r"session_for\(app=…\)"):
        blueprint.session_for(user_id=42)
    session = blueprint.session_for(user_id=42, app=app)
    assert await session.authorized
    assert await session.token == token_of(42)
    assert await session.access_token == "at-42"
    assert (await session.get("/user")).status_code == 200
    async with session.stream("GET", "/user") as response:
        assert await response.aread() == b"{}"
    assert len(transport.requests) == 2
    await blueprint.aclose(app)


async def test_made_in_a_context_and_used_outside() -> None:
    """A session remembers its application: it outlives the context it was made in."""
    app, blueprint, _, _ = make()
    async with app.app_context():
        session = blueprint.session_for(user_id=42)
    assert (await session.get("/user")).status_code == 200


async def test_inside_another_application() -> None:
    """S15: `app=` counts, also while another application is at work."""
    app, blueprint, _, transport = make()
    other, _ = make_client_app(Transport(), name="elsewhere")
    session = blueprint.session_for(user_id=42, app=app)
    async with other.test_request_context("/"):
        await session.get("/user")
    assert len(transport.requests) == 1


async def test_in_a_request_and_in_a_background_task() -> None:
    """In a request, and in a job that it starts, it is the account that was named."""
    app, blueprint, _, transport = make()

    async def job() -> None:
        await blueprint.session_for(user_id=1).get("/from-job")

    @app.get("/start")
    async def start() -> str:
        await blueprint.session_for(user_id=42).get("/from-view")
        app.add_background_task(job)
        return "started"

    async with app.test_app():
        await Visitor(app).get("/start")
    seen = {r.url.path: r.headers["Authorization"] for r in transport.requests}
    assert seen == {"/v1/from-view": "Bearer at-42", "/v1/from-job": "Bearer at-1"}


async def test_refresh_for_an_account(dev_provider: DevProvider) -> None:
    """A refresh without a request replaces that account's token, and no other."""
    storage = AccountStorage()
    app, blueprint = make_app(dev_provider, storage=storage)
    alice, bob = dev_provider.issue_token("alice"), dev_provider.issue_token("bob")
    storage.tokens = {("dev", 1): {**alice, "expires_at": 1}, ("dev", 2): bob}
    heard: list[Any] = []

    def note(sender: Any, token: Any) -> None:
        heard.append((sender, token["access_token"]))

    session = blueprint.session_for(user_id=1, app=app)
    with oauth_refreshed.connected_to(note):
        assert (await session.get("user")).json()["login"] == "alice"
    new = storage.tokens["dev", 1]
    assert new["access_token"] not in (alice["access_token"], bob["access_token"])
    assert heard == [(blueprint, new["access_token"])]
    assert storage.tokens["dev", 2] == bob
    assert dev_provider.count("token") == 1
    await runtime(app).aclose()


async def test_a_dead_token_of_an_account(dev_provider: DevProvider) -> None:
    """F1: what is over is deleted for that account, and for no other."""
    storage = AccountStorage()
    app, blueprint = make_app(dev_provider, storage=storage)
    alice, bob = dev_provider.issue_token("alice"), dev_provider.issue_token("bob")
    storage.tokens = {("dev", 1): alice, ("dev", 2): bob}
    dev_provider.revoke_tokens("alice")
    with pytest.raises(NotAuthorizedError):
        await blueprint.session_for(user_id=1, app=app).get("user")
    assert storage.tokens == {("dev", 2): bob}
    response = await blueprint.session_for(user_id=2, app=app).get("user")
    assert response.json()["login"] == "bob"
    await blueprint.aclose(app)


async def test_each_session_has_cookies_of_its_own(dev_provider: DevProvider) -> None:
    """S15: two sessions share no cookies of the provider."""
    storage = AccountStorage()
    app, blueprint = make_app(dev_provider, storage=storage)
    for number, person in enumerate(("alice", "bob")):
        storage.tokens["dev", number] = dev_provider.issue_token(person)
    sessions = [blueprint.session_for(user_id=n, app=app) for n in (0, 1)]
    for session in sessions:
        assert (await session.get("cookie")).json() == {"cookies": {}}
    cookies = [(await s.get("cookie")).json()["cookies"] for s in sessions]
    assert cookies == [{"dev_provider": t.cookie} for t in dev_provider.tokens]
