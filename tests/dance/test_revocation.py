"""Revoking a token at the provider (RFC 7009)."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from support import Transport, Visitor, make_app, make_client_app, query

from quart_dance.consumer import oauth_revoked
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import ConfigurationError, TokenRequestError
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "at-1", "token_type": "bearer"}
URL = "https://provider.test/revoke"


@pytest.mark.parametrize(
    ("more", "sent"),
    [
        ({}, {"token": "at-1", "token_type_hint": "access_token"}),
        (
            {"refresh_token": "rt-1"},
            {"token": "rt-1", "token_type_hint": "refresh_token"},
        ),
    ],
    ids=["access token", "refresh token"],
)
async def test_the_request(more: dict[str, str], sent: dict[str, str]) -> None:
    """RFC 7009, 2.1: the refresh token if there is one, with its hint, as a form."""
    transport = Transport(lambda _: httpx2.Response(200))
    app, blueprint = make_client_app(
        transport, storage=MemoryStorage({**TOKEN, **more}), revocation_url=URL
    )
    async with app.app_context():
        await blueprint.revoke_token()
        assert await blueprint.token is None
        assert await blueprint.session.authorized is False
    (request,) = transport.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    assert query(f"?{request.content.decode()}") == sent
    # base64 of "the-client:the-secret"
    expected = "Basic dGhlLWNsaWVudDp0aGUtc2VjcmV0"
    assert request.headers["Authorization"] == expected


async def test_the_whole_way(dev_provider: DevProvider) -> None:
    """The provider forgets the tokens, `oauth_revoked` is sent, the visitor is out."""
    app, blueprint = make_app(dev_provider)
    heard: list[Any] = []

    @app.get("/logout")
    async def logout() -> str:
        await blueprint.revoke_token()
        return "bye"

    def note(sender: Any, token: Any) -> None:
        heard.append((sender, token["access_token"]))

    alice, bob = Visitor(app), Visitor(app)
    await alice.login(dev_provider)
    await bob.login(dev_provider, "bob")
    token = dev_provider.tokens[0].access_token
    with oauth_revoked.connected_to(note):
        for _ in range(2):
            assert (await alice.get("/logout")).status_code == 200
    assert heard == [(blueprint, token)]
    assert [token.person.login for token in dev_provider.tokens] == ["bob"]
    assert (await alice.get("/me")).status_code == 401
    assert await (await bob.get("/me")).get_data() == b"bob"


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(503),
        httpx2.Response(400, json={"error": "unsupported_token_type"}),
        httpx2.Response(401, json={"error": "invalid_client"}),
        httpx2.Response(302, headers={"Location": "https://evil.test/"}),
        httpx2.Response(404, text="<h1>at-1</h1>"),
    ],
    ids=lambda answer: str(answer.status_code),
)
async def test_a_provider_that_fails(answer: httpx2.Response) -> None:
    """T1, R7: a revocation that fails keeps the token; in a view it is a 502."""
    transport = Transport(lambda _: answer)
    app, blueprint = make_client_app(
        transport, storage=MemoryStorage(TOKEN), revocation_url=URL
    )

    @app.get("/logout")
    async def logout() -> str:
        await blueprint.revoke_token()
        return "bye"

    async with app.app_context():
        with pytest.raises(TokenRequestError) as caught:
            await blueprint.revoke_token()
        assert await blueprint.token == TOKEN
    assert caught.value.blueprint is blueprint
    assert caught.value.status_code == answer.status_code
    assert "at-1" not in str(caught.value)
    assert (await Visitor(app).get("/logout")).status_code == 502
    assert {str(request.url) for request in transport.requests} == {URL}


async def test_a_provider_that_cannot_be_reached() -> None:
    """T9: no connection is a typed error; the token is kept."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused at-1")

    app, blueprint = make_client_app(
        Transport(fail), storage=MemoryStorage(TOKEN), revocation_url=URL
    )
    async with app.app_context():
        with pytest.raises(TokenRequestError, match="unreachable") as caught:
            await blueprint.revoke_token()
        assert await blueprint.token == TOKEN
    assert "at-1" not in f"{caught.value}{caught.value.__context__!r}"


async def test_without_a_revocation_url() -> None:
    """S16: without `revocation_url` the error says what to set; nothing is deleted."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        with pytest.raises(ConfigurationError, match="has no revocation_url"):
            await blueprint.revoke_token()
        assert await blueprint.token == TOKEN


async def test_without_a_token() -> None:
    """Without a token nobody is asked and nothing is sent."""
    transport = Transport()
    app, blueprint = make_client_app(
        transport, storage=MemoryStorage(), revocation_url=URL
    )
    heard: list[Any] = []

    def note(sender: Any, token: Any) -> None:
        heard.append(sender)

    async with app.app_context():
        with oauth_revoked.connected_to(note):
            await blueprint.revoke_token()
    assert (transport.requests, heard) == ([], [])


async def test_a_new_login_meanwhile() -> None:
    """F6: a token that came while the old one was revoked stays."""
    storage = MemoryStorage(TOKEN)
    app, blueprint = make_client_app(Transport(), storage=storage, revocation_url=URL)
    new = {"access_token": "at-2"}

    class Slow(Transport):
        async def handle_async_request(
            self, request: httpx2.Request
        ) -> httpx2.Response:
            await storage.set(blueprint, new)
            return await super().handle_async_request(request)

    runtime(app).transport = Slow()
    async with app.app_context():
        await blueprint.revoke_token()
        assert await blueprint.token == new
