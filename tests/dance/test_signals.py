"""The signals: who hears what, and what their receivers may do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from quart import redirect, session
from support import Visitor, make_app, query

from quart_dance.consumer import (
    oauth_authorized,
    oauth_before_login,
    oauth_error,
    oauth_login_failed,
    oauth_refreshed,
    oauth_revoked,
)
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.errors import ReceiverError, UserRequiredError
from quart_dance.testing import DevProvider

OLD = {"access_token": "an-older-token", "token_type": "bearer"}


def as_function(work: Callable[..., Any]) -> Callable[..., Any]:
    return lambda blueprint, **data: work(blueprint, **data)


def as_coroutine(work: Callable[..., Any]) -> Callable[..., Any]:
    async def receive(blueprint: Any, **data: Any) -> Any:
        return work(blueprint, **data)

    return receive


@pytest.mark.parametrize("kind", [as_function, as_coroutine])
async def test_a_login_that_succeeds(dev_provider: DevProvider, kind: Any) -> None:
    """A login sends `oauth_before_login(url)` and `oauth_authorized(token)`, once."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage())
    heard: list[Any] = []

    def note(sender: Any, **data: Any) -> None:
        heard.append((sender, data))

    receiver = kind(note)
    visitor = Visitor(app)
    with oauth_before_login.connected_to(receiver, blueprint):
        url = await visitor.start()
    assert heard == [(blueprint, {"url": url})]
    heard.clear()
    signals = [oauth_authorized, oauth_error, oauth_login_failed]
    for signal in signals:
        signal.connect(receiver, blueprint)
    response = await visitor.get(await dev_provider.approve(url))
    for signal in signals:
        signal.disconnect(receiver, blueprint)
    assert response.status_code == 302
    ((sender, data),) = heard
    assert sender is blueprint
    assert list(data) == ["token"]
    async with app.app_context():
        assert await blueprint.token == data["token"]


@pytest.mark.parametrize("kind", [as_function, as_coroutine])
@pytest.mark.parametrize(
    ("value", "stored"),
    [(False, False), (None, True), (True, True), (0, True), (1, True)],
)
async def test_what_a_receiver_returns(
    dev_provider: DevProvider, kind: Any, value: Any, stored: bool
) -> None:
    """Exactly False keeps us from storing the token; other values do not."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))
    with oauth_authorized.connected_to(kind(lambda *_, **__: value), blueprint):
        response = await Visitor(app).login(dev_provider)
    assert (response.status_code, response.location) == (302, "/")
    async with app.app_context():
        assert (await blueprint.token != OLD) is stored


@pytest.mark.parametrize("kind", [as_function, as_coroutine])
@pytest.mark.parametrize("value", ["", "no", b"no", [], {}, ("text", 401)])
async def test_what_only_a_view_returns(
    dev_provider: DevProvider, kind: Any, value: Any
) -> None:
    """A page that is no response is a failed login, and nothing is stored."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))
    heard: list[Any] = []
    with (
        oauth_authorized.connected_to(kind(lambda *_, **__: value), blueprint),
        oauth_login_failed.connected_to(
            lambda _, exception: heard.append(exception), blueprint
        ),
    ):
        response = await Visitor(app).login(dev_provider)
    assert response.status_code == 500
    [error] = heard
    assert isinstance(error, ReceiverError) and isinstance(error, TypeError)
    assert error.blueprint is blueprint and "make_response" in str(error)
    async with app.app_context():
        assert await blueprint.token == OLD


@pytest.mark.parametrize("kind", [as_function, as_coroutine])
async def test_a_receivers_response_is_sent(
    dev_provider: DevProvider, kind: Any
) -> None:
    """A response of a receiver is sent, and the token is not stored."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))
    visitor = Visitor(app)
    receiver = kind(lambda *_, **__: redirect("/welcome"))
    with oauth_authorized.connected_to(receiver, blueprint):
        response = await visitor.login(dev_provider)
    assert (response.status_code, response.location) == (302, "/welcome")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert visitor.attempts == []
    async with app.app_context():
        assert await blueprint.token == OLD


async def test_several_receivers(dev_provider: DevProvider) -> None:
    """All receivers hear of a token; one False among them is enough."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))
    heard = []

    async def yes(sender: Any, token: Any) -> bool:
        heard.append("yes")
        return True

    def no(sender: Any, token: Any) -> bool:
        heard.append("no")
        return False

    with (
        oauth_authorized.connected_to(yes, blueprint),
        oauth_authorized.connected_to(no, blueprint),
    ):
        await Visitor(app).login(dev_provider)
    assert sorted(heard) == ["no", "yes"]
    async with app.app_context():
        assert await blueprint.token == OLD


async def test_what_a_receiver_does_to_the_token(dev_provider: DevProvider) -> None:
    """What a receiver does to the token does not reach the storage."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage())

    async def spoil(sender: Any, token: dict[str, Any]) -> None:
        token.clear()

    with oauth_authorized.connected_to(spoil, blueprint):
        await Visitor(app).login(dev_provider)
    (issued,) = dev_provider.tokens
    async with app.app_context():
        token = await blueprint.token
    assert token is not None
    assert token["access_token"] == issued.access_token


async def test_the_session_carries_what_has_just_arrived(
    dev_provider: DevProvider,
) -> None:
    """Receivers call the API with the new token; afterwards it is the stored one."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))
    seen: list[Any] = []

    async def sign_up(sender: Any, token: dict[str, Any]) -> bool:
        assert await sender.session.authorized
        assert await sender.session.token == token
        assert await sender.session.access_token == token["access_token"]
        assert await sender.token == OLD
        seen.append((await sender.session.get("user")).json()["login"])
        return False

    @app.after_request
    async def look(response: Any) -> Any:
        seen.append(await blueprint.session.token)
        return response

    visitor = Visitor(app)
    with oauth_authorized.connected_to(sign_up, blueprint):
        await visitor.login(dev_provider, "bob")
    assert seen == [OLD, "bob", OLD]


async def test_the_new_token_is_not_refreshed_nor_deleted(
    dev_provider: DevProvider,
) -> None:
    """A token that is not stored yet is never replaced in the storage."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))

    async def use(sender: Any, token: Any) -> None:
        dev_provider.revoke_tokens()
        assert (await sender.session.get("user")).status_code == 401
        assert await sender.token == OLD

    with oauth_authorized.connected_to(use, blueprint):
        assert (await Visitor(app).login(dev_provider)).status_code == 302
    assert dev_provider.count("token") == 1


async def test_a_refused_token_that_a_receiver_has_stored(
    dev_provider: DevProvider,
) -> None:
    """While receivers run, an API's 401 is an answer: what they stored is theirs."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))
    revoked: list[Any] = []

    async def keep(sender: Any, token: dict[str, Any]) -> bool:
        await sender.set_token(token)
        dev_provider.revoke_tokens()
        assert (await sender.session.get("user")).status_code == 401
        assert await sender.token == token
        return False

    with (
        oauth_authorized.connected_to(keep, blueprint),
        oauth_revoked.connected_to(as_function(lambda *_, **d: revoked.append(d))),
    ):
        assert (await Visitor(app).login(dev_provider)).status_code == 302
    assert revoked == []


async def test_a_receiver_that_fails_leaves_nothing(dev_provider: DevProvider) -> None:
    """A receiver's exception is the application's; the session forgets the token."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(OLD))
    seen: list[Any] = []

    async def fail(sender: Any, token: Any) -> None:
        raise LookupError("in the application")

    @app.errorhandler(LookupError)
    async def handle(error: Exception) -> Any:
        seen.append(await blueprint.session.token)
        return "mine", 500

    with oauth_authorized.connected_to(fail, blueprint):
        response = await Visitor(app).login(dev_provider)
    assert await response.get_data() == b"mine"
    assert seen == [OLD]


async def test_a_receiver_that_sets_the_token_itself(
    dev_provider: DevProvider,
) -> None:
    """A receiver that wants its response and the token stores that itself."""
    app, blueprint = make_app(dev_provider)

    async def keep(sender: Any, token: dict[str, Any]) -> Any:
        await sender.set_token({**token, "note": "mine"})
        return redirect("/welcome")

    @app.get("/note")
    async def note() -> str:
        return str(dict(await blueprint.token or {}).get("note"))

    visitor = Visitor(app)
    with oauth_authorized.connected_to(keep, blueprint):
        assert (await visitor.login(dev_provider)).location == "/welcome"
    assert await (await visitor.get("/note")).get_data() == b"mine"
    assert await (await visitor.get("/me")).get_data() == b"alice"


class PerUser(BaseStorage):
    """Keeps tokens for the users of the application."""

    def __init__(self) -> None:
        self.tokens: dict[str, Any] = {}

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return session.get("user")

    async def get(self, blueprint: Any) -> Any:
        return self.tokens.get(session.get("user", ""))

    async def set(self, blueprint: Any, token: Any) -> None:
        if "user" not in session:
            raise UserRequiredError("nobody is logged in")
        self.tokens[session["user"]] = token

    async def delete(self, blueprint: Any) -> None:
        self.tokens.pop(session.get("user"), None)


async def test_a_receiver_that_logs_somebody_in(dev_provider: DevProvider) -> None:
    """C22: the account is asked for after the receivers, who may log somebody in."""
    storage = PerUser()
    app, blueprint = make_app(dev_provider, storage=storage)

    async def sign_up(sender: Any, token: Any) -> None:
        session["user"] = (await sender.session.get("user")).json()["login"]

    with oauth_authorized.connected_to(sign_up, blueprint):
        assert (await Visitor(app).login(dev_provider, "bob")).status_code == 302
    assert list(storage.tokens) == ["bob"]


async def test_a_receivers_page_for_a_failed_login(dev_provider: DevProvider) -> None:
    """C15: a denied login says so once; a receiver's response is what is shown."""
    app, blueprint = make_app(dev_provider)
    heard: list[Any] = []

    async def note(sender: Any, error: str, error_description: str, error_uri: Any):
        heard.append((error, error_description, error_uri))
        return redirect("/sorry")

    visitor = Visitor(app)
    callback = await dev_provider.deny(await visitor.start())
    with oauth_error.connected_to(note, blueprint):
        response = await visitor.get(callback)
    assert response.location == "/sorry"
    ((error, description, uri),) = heard
    assert (error, uri) == ("access_denied", None)
    assert description == query(callback).get("error_description", "")


@pytest.mark.parametrize("kind", [as_function, as_coroutine])
async def test_refreshed_and_revoked(dev_provider: DevProvider, kind: Any) -> None:
    """`oauth_refreshed` and `oauth_revoked` come from the blueprint, token and all."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage())
    heard: list[Any] = []

    def note(sender: Any, token: Any) -> None:
        heard.append((sender, token["access_token"]))

    visitor = Visitor(app)
    await visitor.login(dev_provider)
    receiver = kind(note)
    with (
        oauth_refreshed.connected_to(receiver, blueprint),
        oauth_revoked.connected_to(receiver, blueprint),
    ):
        dev_provider.expire_access_tokens()
        assert await (await visitor.get("/me")).get_data() == b"alice"
        new = dev_provider.tokens[-1].access_token
        dev_provider.revoke_tokens()
        assert (await visitor.get("/me")).status_code == 302
    assert heard == [(blueprint, new), (blueprint, new)]


async def test_signals_of_another_blueprint(dev_provider: DevProvider) -> None:
    """S15: a receiver connected to one blueprint hears nothing of another."""
    app, blueprint = make_app(dev_provider)
    other_app, _ = make_app(dev_provider, "other")
    heard: list[Any] = []
    with oauth_authorized.connected_to(as_function(heard.append), blueprint):
        await Visitor(other_app).login(dev_provider, path="/login/other")
    assert heard == []
