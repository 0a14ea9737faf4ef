"""The callback table of DESIGN 5.3, row by row, under Quart and under Flask."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import httpx2
import pytest
from accounts import OLD, TOO_LONG, accounts, failing
from rooms import Page, Room, both

from quart_dance.consumer import oauth_authorized
from quart_dance.consumer.runtime import runtime
from quart_dance.errors import (
    AccessDenied,
    AccountChanged,
    InvalidCallback,
    StateMismatch,
    StorageError,
    TokenRequestError,
    TokenTooLargeError,
    UserRequiredError,
)
from quart_dance.testing import faults

CALLBACK = "https://app.test/login/dev/authorized"


def assert_failed(page: Page, heard: list[Any], error: type[Exception]) -> None:
    """See that a login failed: each receiver heard once, and nobody is sent on."""
    [(code, description, uri), raised] = heard
    assert isinstance(code, str) and isinstance(description, str) and uri is None
    assert type(raised) is error
    assert page.location is None and "<h1>The login failed</h1>" in page.text


@both
@pytest.mark.parametrize(
    "how",
    ["missing", "empty", "forged", "expired", "used", "other provider", "alien"],
)
async def test_no_attempt(dev_provider, kind, how):
    """C1 C2 C3 C5 C8: without an attempt of this browser nothing is asked for."""
    room = Room(kind, dev_provider)
    other = type(room.blueprint)("other", __name__, **dev_provider.options())
    room.app.register_blueprint(other, url_prefix="/other")
    visitor = room.visitor()
    url = await room.callback(visitor)
    [state] = parse_qs(urlsplit(url).query)["state"]
    requests = 0
    if how in ("missing", "empty", "forged"):
        query = {"missing": "", "empty": "&state=", "forged": f"&state={state}x"}
        url = f"{CALLBACK}?code=a{query[how]}"
    elif how == "expired":
        room.now += 601
    elif how == "used":
        assert (await visitor.get(url)).status == 302
        requests = 1
    elif how == "other provider":
        begun = await room.callback(visitor, "/other/other")
        url = f"{CALLBACK}?{urlsplit(begun).query}"
    else:
        visitor = room.visitor()
    with room.failures() as heard:
        page = await visitor.get(url)
    assert page.status == 400
    assert_failed(page, heard, StateMismatch)
    assert dev_provider.count("token") == requests


@both
async def test_error(dev_provider, kind):
    """C15: a provider's error ends the attempt; Flask sends the visitor on."""
    room = Room(kind, dev_provider)
    visitor = room.visitor()
    url = await dev_provider.deny(await room.start(visitor))
    with room.failures() as heard:
        page = await visitor.get(url)
    [(code, _, _), raised] = heard
    assert code == "access_denied" and type(raised) is AccessDenied
    if kind == "flask":  # as Flask-Dance does
        assert (page.status, page.location) == (302, "/")
    else:
        assert_failed(page, heard, AccessDenied)
        assert page.status == 400
    assert visitor.attempts == [] and dev_provider.count("token") == 0


@both
@pytest.mark.parametrize("how", ["twice", "code and error", "neither", "empty code"])
async def test_shape(dev_provider, kind, how):
    """C4 C17: a callback that contradicts itself ends the attempt, and asks nothing."""
    room = Room(kind, dev_provider)
    visitor = room.visitor()
    url = urlsplit(await room.callback(visitor))
    pairs = parse_qsl(url.query)
    pairs = {
        "twice": [*pairs, ("code", "another")],
        "code and error": [*pairs, ("error", "access_denied")],
        "neither": [pair for pair in pairs if pair[0] != "code"],
        "empty code": [pair for pair in pairs if pair[0] != "code"] + [("code", "")],
    }[how]
    with room.failures() as heard:
        page = await visitor.get(url._replace(query=urlencode(pairs)).geturl())
    assert type(heard[1]) is InvalidCallback
    if kind == "quart" or how != "code and error":
        assert page.status == 400
        assert_failed(page, heard, InvalidCallback)
    assert visitor.attempts == [] and dev_provider.count("token") == 0


@both
@pytest.mark.parametrize(
    ("options", "path", "location"),
    [
        ({}, "/login/dev", "/"),
        ({}, "/login/dev?next=/here?a=b", "/here?a=b"),
        ({}, "/login/dev?next=//evil.test", "/"),
        ({"redirect_url": "/there"}, "/login/dev", "/there"),
        ({"redirect_url": "/there"}, "/login/dev?next=/here", "/here"),
        ({"redirect_to": "me"}, "/login/dev", "/me"),
    ],
)
async def test_success(dev_provider, kind, options, path, location):
    """C11 R1 R3 T14: one token request, with the redirect URI that the login had."""
    room = Room(kind, dev_provider, **options)
    visitor, arrived = room.visitor(), []

    def receive(sender: Any, token: Any) -> None:
        arrived.append(dict(token))

    with oauth_authorized.connected_to(receive, room.blueprint):
        begun = await room.start(visitor, path)
        page = await visitor.get(await dev_provider.approve(begun))
    assert (page.status, page.location) == (302, location)
    [asked] = [call for call in dev_provider.calls if call.endpoint == "token"]
    [redirect_uri] = parse_qs(urlsplit(begun).query)["redirect_uri"]
    assert asked.form["redirect_uri"] == redirect_uri == CALLBACK
    assert asked.form["code_verifier"]
    assert [token["access_token"] for token in arrived] == [
        token.access_token for token in dev_provider.tokens
    ]
    assert (await visitor.get("/me")).text == "alice"


@both
@pytest.mark.parametrize(
    "fault",
    [
        faults.SERVER_ERROR,
        faults.HTML_PAGE,
        faults.TOO_MANY_REQUESTS,
        faults.TRUNCATED,
        faults.Answer.json({}),
        faults.Altered(without=["access_token"]),
        faults.Altered({"token_type": "mac"}),
        faults.Hang(),
        None,
    ],
    ids="500 HTML 429 truncated {} no-token mac slow refused".split(),
)
async def test_token_endpoint(dev_provider, kind, fault):
    """T1 T4 T5 T9: whatever the token endpoint does, an older token stays."""
    room = Room(kind, dev_provider)
    room.blueprint.storage = room.storages.MemoryStorage(OLD)
    visitor = room.visitor()
    url = await room.callback(visitor)
    if fault is None:
        runtime(room.app).transport = httpx2.AsyncHTTPTransport()
        room.blueprint.token_url = "http://127.0.0.1:1/token"
    else:
        dev_provider.fault("token", fault)
    if isinstance(fault, faults.Hang):
        runtime(room.app).deadline = 0.05
    with room.failures() as heard:
        page = await visitor.get(url)
    assert page.status == 502
    assert_failed(page, heard, TokenRequestError)
    assert await room.token() == OLD


@both
async def test_another_account(dev_provider, kind):
    """C22: a login that another account finishes stores nothing for anybody."""
    room = Room(kind, dev_provider, storage=accounts(kind))
    visitor = room.visitor()
    await visitor.get("/be/ada")
    url = await room.callback(visitor)
    await visitor.get("/be/bob")
    with room.failures() as heard:
        page = await visitor.get(url)
    assert page.status == 400
    assert_failed(page, heard, AccountChanged)
    assert room.blueprint.storage.tokens == {} and dev_provider.count("token") == 0


@both
async def test_login_by_a_receiver(dev_provider, kind):
    """DESIGN 5.10: the token is stored for whoever a receiver logs in."""
    room = Room(kind, dev_provider, storage=accounts(kind))
    visitor = room.visitor()

    def sync_receive(sender: Any, token: Any) -> None:
        import flask

        flask.session["user"] = sender.session.get("user").json()["login"]

    async def receive(sender: Any, token: Any) -> None:
        import quart

        quart.session["user"] = (await sender.session.get("user")).json()["login"]

    chosen: Any = sync_receive if kind == "flask" else receive
    with oauth_authorized.connected_to(chosen, room.blueprint):
        page = await visitor.get(await room.callback(visitor))
    assert page.status == 302
    assert list(room.blueprint.storage.tokens) == ["alice"]


@both
@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (RuntimeError("the database is down"), StorageError),
        (UserRequiredError("nobody is logged in"), UserRequiredError),
    ],
)
async def test_storing_fails(dev_provider, kind, error, seen):
    """S8: a token that cannot be stored is a failed login, and the older one stays."""
    room = Room(kind, dev_provider, storage=failing(kind, error))
    visitor = room.visitor()
    url = await room.callback(visitor)
    with room.failures() as heard:
        page = await visitor.get(url)
    assert page.status == 500
    assert_failed(page, heard, seen)
    assert await room.token() == OLD


@both
async def test_too_big_for_the_cookie(dev_provider, kind):
    """T13: a token that no cookie holds is refused before the browser drops it."""
    room = Room(kind, dev_provider)
    visitor = room.visitor()
    dev_provider.fault("token", faults.Altered({"access_token": TOO_LONG}))
    url = await room.callback(visitor)
    with room.failures() as heard:
        page = await visitor.get(url)
    assert page.status == 500
    assert_failed(page, heard, TokenTooLargeError)
    assert (await visitor.get("/me")).status == 401
