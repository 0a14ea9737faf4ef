"""Redirects of the provider's own endpoints: what comes along and what stays behind."""

from __future__ import annotations

import httpx2
import pytest
from browsing import Browser, Clock, world

from quart_dance.consumer.runtime import runtime
from quart_dance.errors import TokenRequestError
from quart_dance.testing import DevProvider
from quart_dance.testing.faults import Answer

INVALID_TOKEN = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
REDIRECTS = [301, 302, 303, 307, 308]
ELSEWHERE = [
    "https://other.test/api/user",
    "//other.test/api/user",
    "http://provider.test/api/user",
    "https://provider.test:8443/api/user",
    "https://sub.provider.test/api/user",
    "https://provider.test@other.test/api/user",
    "https://files.test/api/user",
]


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("to", ELSEWHERE)
async def test_redirect_elsewhere(dev_provider, status, to):
    """R7: a redirect to another origin is followed without token and cookies."""
    allowed = ["https://files.test"]
    app, blueprint, network = world(dev_provider, allowed_origins=allowed)
    async with app.app_context():
        await blueprint.session.get("cookie")
        where = {"to": to, "status": status}
        response = await blueprint.session.get("redirect", params=where)
        assert response.status_code == 401
        assert await blueprint.session.authorized
    assert [(token, cookie) for _, token, cookie in network.seen] == [
        (True, False),
        (True, True),
        (False, False),
    ]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_redirect_within(dev_provider, method):
    """R7: within one origin the token comes along."""
    app, blueprint, network = world(dev_provider)
    async with app.app_context():
        response = await blueprint.session.request(
            method, "redirect", params={"to": "/api/user"}
        )
    assert response.status_code == 200
    assert [token for _, token, _ in network.seen] == [True, True]


async def test_redirect_there_and_back(dev_provider):
    """R7: the token that was left behind is not taken up again on the way back."""
    app, blueprint, network = world(dev_provider)
    back = Answer(302, headers={"Location": "https://provider.test/api/user"})
    there = Answer(302, headers={"Location": "https://other.test/api/redirect"})
    dev_provider.fault("redirect", there)
    dev_provider.fault("redirect", back)
    # Even the API's own "invalid_token" is no judgement on a token it did not see.
    dev_provider.fault("user", Answer(401, headers=INVALID_TOKEN))
    async with app.app_context():
        response = await blueprint.session.get("redirect")
        assert response.status_code == 401
        assert await blueprint.session.authorized
    assert [token for _, token, _ in network.seen] == [True, False, False]
    assert dev_provider.count("token") == 0


async def test_second_hop_elsewhere(dev_provider):
    """R7: nor do cookies come along when the other origin sends the visitor on."""
    app, blueprint, network = world(dev_provider)
    downgrade = {"Location": "http://provider.test/api/redirect"}
    dev_provider.fault("redirect", Answer(302, headers=downgrade))
    dev_provider.fault("redirect", Answer(302, headers={"Location": "/api/user"}))
    async with app.app_context():
        await blueprint.session.get("cookie")
        await blueprint.session.get("redirect")
    assert network.seen[2:] == [
        ("http://provider.test/api/redirect", False, False),
        ("http://provider.test/api/user", False, False),
    ]


@pytest.mark.parametrize("directly", [True, False])
async def test_word_of_another_origin(dev_provider, directly):
    """R7: what another origin says of the token neither deletes nor refreshes it."""
    allowed = ["https://files.test"]
    app, blueprint, _ = world(dev_provider, allowed_origins=allowed)
    dev_provider.fault("user", Answer(401, headers=INVALID_TOKEN))
    url = "https://files.test/api/user"
    async with app.app_context():
        token = await blueprint.token
        response = await blueprint.session.get(
            url if directly else f"redirect?to={url}"
        )
        assert response.status_code == 401
        assert await blueprint.token == token
    assert dev_provider.count("token") == 0


async def test_redirect_from_http_to_https():
    """R7: to the same host by https is to another origin as well."""
    provider = DevProvider(url="http://localhost")
    app, blueprint, network = world(provider)
    async with app.app_context():
        await blueprint.session.get("redirect?to=https://localhost/api/user")
    assert network.seen[1:] == [("https://localhost/api/user", False, False)]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_other_methods_follow_nothing(dev_provider, method):
    """R7: what is not GET or HEAD is sent once, unless the caller says otherwise."""
    app, blueprint, network = world(dev_provider)
    elsewhere = Answer(307, headers={"Location": "https://other.test/api/echo"})
    dev_provider.fault("echo", elsewhere, times=2)
    async with app.app_context():
        response = await blueprint.session.request(method, "echo")
        assert response.status_code == 307
        assert len(network.requests) == 1
        await blueprint.session.request(method, "echo", follow_redirects=True)
    assert [token for _, token, _ in network.seen] == [True, True, False]


async def test_get_that_does_not_follow(dev_provider):
    """R7: a caller may look at a redirect instead of following it."""
    app, blueprint, network = world(dev_provider)
    async with app.app_context():
        response = await blueprint.session.get(
            "redirect?to=https://other.test/", follow_redirects=False
        )
    assert response.headers["Location"] == "https://other.test/"
    assert len(network.requests) == 1


async def test_endless_redirects(dev_provider):
    """R7: a provider that sends us in circles is left after a while."""
    app, blueprint, network = world(dev_provider)
    again = Answer(302, headers={"Location": "/api/redirect"})
    dev_provider.fault("redirect", again, times=100)
    async with app.app_context():
        with pytest.raises(httpx2.TooManyRedirects):
            await blueprint.session.get("redirect")
    assert len(network.requests) <= 20


@pytest.mark.parametrize("status", REDIRECTS)
@pytest.mark.parametrize("call", ["login", "refresh", "revoke"])
async def test_token_calls_follow_nothing(dev_provider, status, call):
    """R7: token, refresh and revocation calls follow no redirect."""
    app, blueprint, network = world(dev_provider)
    elsewhere = Answer(status, headers={"Location": "https://other.test/token"})
    dev_provider.fault("revoke" if call == "revoke" else "token", elsewhere)
    runtime(app).clock = Clock()
    if call == "login":
        assert (await Browser(app).login(dev_provider)).status_code == 502
    async with app.app_context():
        token = await blueprint.token
        if call == "refresh":
            await blueprint.set_token({**token, "expires_at": 1})
            with pytest.raises(TokenRequestError, match="redirects"):
                await blueprint.session.get("user")
        if call == "revoke":
            with pytest.raises(TokenRequestError, match="redirects"):
                await blueprint.revoke_token()
        kept = await blueprint.token
        assert kept["access_token"] == token["access_token"]
    assert [request.url.host for request in network.requests] == ["provider.test"]
