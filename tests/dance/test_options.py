"""Every option of the blueprint's constructor has an effect."""

from __future__ import annotations

import base64
from typing import Any

import httpx2
import pytest
from support import Transport, Visitor, make_app, make_client_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.client import OAuth2Session
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "at-1", "token_type": "bearer"}


def answer_token(_: httpx2.Request) -> httpx2.Response:
    return httpx2.Response(200, json={"access_token": "at-1", "token_type": "bearer"})


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"client_id": "the-client", "response_type": "code"}),
        ({"client_id": "other"}, {"client_id": "other"}),
        ({"scope": "read:user"}, {"scope": "read:user"}),
        ({"scope": ["read:user", "repo"]}, {"scope": "read:user repo"}),
        (
            {"authorization_url_params": {"prompt": "consent"}},
            {"prompt": "consent"},
        ),
        (
            {"authorization_url": "https://other.test/a?tenant=7"},
            {"tenant": "7", "client_id": "the-client"},
        ),
        ({"use_pkce": True}, {"code_challenge_method": "S256"}),
        ({"code_challenge_method": "plain"}, {"code_challenge_method": "plain"}),
        (
            {"redirect_uri": "https://front.test/cb"},
            {"redirect_uri": "https://front.test/cb"},
        ),
    ],
    ids=lambda value: next(iter(value), "defaults") if value is not None else "",
)
async def test_options_of_the_authorization_request(
    options: dict[str, Any], expected: dict[str, str]
) -> None:
    """R5: what is given stands in the authorization URL, beside its own query."""
    app, _ = make_client_app(Transport(), **options)
    sent = query(await Visitor(app).start())
    assert expected.items() <= sent.items()


async def test_without_pkce() -> None:
    """`use_pkce=False` sends no challenge."""
    app, _ = make_client_app(Transport(), use_pkce=False)
    assert not {"code_challenge", "code_challenge_method"} & set(
        query(await Visitor(app).start())
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://other.test/authorize", "https://other.test/authorize"),
        ("authorize", "https://api.test/authorize"),
        ("/authorize", "https://api.test/authorize"),
    ],
)
async def test_authorization_url(url: str, expected: str) -> None:
    """`authorization_url` is absolute, or relative to `base_url`."""
    app, _ = make_client_app(Transport(), authorization_url=url)
    assert (await Visitor(app).start()).startswith(expected + "?")


async def sent_for_a_code(**options: Any) -> tuple[httpx2.Request, dict[str, str]]:
    """Return the token request of a login, and its form."""
    transport = Transport(answer_token)
    app, _ = make_client_app(transport, **options)
    visitor = Visitor(app)
    state = query(await visitor.start())["state"]
    response = await visitor.get(f"/login/dev/authorized?code=c-1&state={state}")
    assert response.status_code == 302
    (request,) = transport.requests
    return request, query(f"?{request.content.decode()}")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"grant_type": "authorization_code", "code": "c-1"}),
        ({"token_url_params": {"resource": "r"}}, {"resource": "r"}),
        (
            {"token_url_params": {"include_client_id": True}},
            {"client_id": "the-client"},
        ),
        (
            {"token_endpoint_auth_method": "client_secret_post"},
            {"client_id": "the-client", "client_secret": "the-secret"},
        ),
        (
            {"token_endpoint_auth_method": "none", "client_secret": None},
            {"client_id": "the-client"},
        ),
        (
            {"redirect_uri": "https://app.test/login/dev/authorized"},
            {"redirect_uri": "https://app.test/login/dev/authorized"},
        ),
    ],
)
async def test_options_of_the_token_request(
    options: dict[str, Any], expected: dict[str, str]
) -> None:
    """What is given stands in the form that turns the code into a token."""
    _, form = await sent_for_a_code(**options)
    assert expected.items() <= form.items()


async def test_client_id_and_secret_go_as_basic() -> None:
    """T11: `client_secret_basic` is the default (RFC 6749, section 2.3.1)."""
    request, form = await sent_for_a_code(client_id="id:1", client_secret="s %")
    scheme, _, value = request.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value) == b"id%3A1:s+%25"
    assert "client_secret" not in form


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://other.test/token", "https://other.test/token"),
        ("/token", "https://api.test/token"),
    ],
)
async def test_token_url(url: str, expected: str) -> None:
    """`token_url` is absolute, or relative to `base_url`."""
    request, _ = await sent_for_a_code(token_url=url)
    assert str(request.url) == expected


@pytest.mark.parametrize(
    ("token_type", "options", "status"),
    [
        ("mac", {}, 502),
        ("mac", {"token_types": ["bearer", "mac"]}, 302),
        ("BEARER", {}, 302),
    ],
)
async def test_token_types(token_type: str, options: Any, status: int) -> None:
    """T5: `token_types` says what is accepted beside bearer."""
    answer = {"access_token": "at-1", "token_type": token_type}
    transport = Transport(lambda _: httpx2.Response(200, json=answer))
    app, _ = make_client_app(transport, **options)
    visitor = Visitor(app)
    state = query(await visitor.start())["state"]
    response = await visitor.get(f"/login/dev/authorized?code=c-1&state={state}")
    assert response.status_code == status


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "/"),
        ({"redirect_url": "/after"}, "/after"),
        ({"redirect_to": "me"}, "/me"),
        ({"redirect_url": "/after", "redirect_to": "me"}, "/after"),
    ],
)
async def test_where_the_visitor_goes_afterwards(
    dev_provider: DevProvider, options: dict[str, Any], expected: str
) -> None:
    """`redirect_url` and `redirect_to` say where a login leads; `next` beats them."""
    app, _ = make_app(dev_provider, **options)
    assert (await Visitor(app).login(dev_provider)).location == expected
    response = await Visitor(app).login(dev_provider, path="/login/dev?next=/next")
    assert response.location == "/next"


async def test_issuer(dev_provider: DevProvider) -> None:
    """C9: with `issuer` an answer without the right `iss` is refused (RFC 9207)."""
    app, _ = make_app(dev_provider, issuer="https://provider.test")
    visitor = Visitor(app)
    for iss, status in [("", 400), ("&iss=https://provider.test", 302)]:
        callback = await dev_provider.approve(await visitor.start())
        assert (await visitor.get(callback + iss)).status_code == status


async def test_allow_insecure_redirect() -> None:
    """R4: a plain http callback needs `allow_insecure_redirect=True`."""
    app, blueprint = make_client_app(Transport())
    client = app.test_client()
    response = await client.get("/login/dev", headers={"Host": "app.test"})
    assert response.status_code == 500
    blueprint.allow_insecure_redirect = True
    response = await client.get("/login/dev", headers={"Host": "app.test"})
    sent = query(response.location or "")
    assert sent["redirect_uri"] == "http://app.test/login/dev/authorized"


async def test_allowed_origins() -> None:
    """`allowed_origins` names further origins that may see the token."""
    transport = Transport()
    app, blueprint = make_client_app(
        transport,
        storage=MemoryStorage(TOKEN),
        allowed_origins=["https://uploads.test"],
    )
    async with app.app_context():
        await blueprint.session.get("https://uploads.test/x")
    assert transport.requests[0].headers["Authorization"] == "Bearer at-1"


@pytest.mark.parametrize(
    ("options", "asked"),
    [({}, 0), ({"auto_refresh_url": "/refresh"}, 1)],
)
async def test_auto_refresh(options: dict[str, Any], asked: int) -> None:
    """`auto_refresh_url` is where tokens are refreshed; None means never."""
    transport = Transport(answer_token)
    old = {"access_token": "old", "refresh_token": "rt-1", "expires_at": 1}
    app, blueprint = make_client_app(
        transport,
        storage=MemoryStorage(old),
        auto_refresh_kwargs={"audience": "a"},
        **options,
    )
    async with app.app_context():
        assert await blueprint.session.authorized is bool(asked)
        await blueprint.session.access_token
        assert len(transport.requests) == asked
        for request in transport.requests:
            assert str(request.url) == "https://api.test/refresh"
            assert query(f"?{request.content.decode()}") == {
                "grant_type": "refresh_token",
                "refresh_token": "rt-1",
                "audience": "a",
            }


async def test_session_class() -> None:
    """`session_class` makes the sessions; its own methods are at hand."""

    class ApiSession(OAuth2Session):
        async def me(self) -> Any:
            return (await self.get("me")).json()

    transport = Transport(lambda _: httpx2.Response(200, json="me"))
    app, blueprint = make_client_app(
        transport, storage=MemoryStorage(TOKEN), session_class=ApiSession
    )
    async with app.app_context():
        session: Any = blueprint.session
        assert await session.me() == "me"
        assert isinstance(blueprint.session_for(anonymous=True), ApiSession)


async def test_storage_option() -> None:
    """`storage` takes an instance or a class."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        assert await blueprint.token == TOKEN
    _, blueprint = make_client_app(Transport(), storage=MemoryStorage)
    assert isinstance(blueprint.storage, MemoryStorage)


async def test_timeout() -> None:
    """`timeout` is a blueprint's own; a call may say otherwise."""
    transport = Transport()
    app, slow = make_client_app(
        transport, storage=MemoryStorage(TOKEN), timeout=99.5, name="slow"
    )
    fast = OAuth2ConsumerBlueprint(
        "fast", __name__, base_url="https://api.test", storage=MemoryStorage(TOKEN)
    )
    app.register_blueprint(fast)
    async with app.app_context():
        await slow.session.get("/")
        await fast.session.get("/")
        await fast.session.get("/", timeout=3.0)
    seen = [request.extensions["timeout"]["read"] for request in transport.requests]
    assert seen == [99.5, 10.0, 3.0]
