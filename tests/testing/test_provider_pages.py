"""DevProvider's pages, its API, its record of calls, and its life on a port."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest
from by_hand import CALLBACK, Clock, authorization_url, call, client_of, new_token
from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from quart_dance.consumer.runtime import runtime
from quart_dance.testing import ALICE, DevProvider, Person, faults

CONSENT = "https://provider.test/consent"


def ticket_in(page: str) -> str:
    return page.split('name="ticket" value="')[1].split('"')[0]


async def test_pages_are_shielded(dev_provider):
    """No page is stored, framed, or able to run a script."""
    async with client_of(dev_provider) as client:
        page = await client.get(authorization_url())
        form = {"ticket": ticket_in(page.text), "person": "bob"}
        consent = await client.post(CONSENT, data=form)
        broken = await client.get(authorization_url(client_id="stranger"))
    for response in (page, consent, broken):
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "<script" not in response.text
    assert "Bob Cratchit, allow dev-client-id?" in consent.text
    assert "<code>profile</code>" in consent.text
    assert "<summary>Make it go wrong</summary>" in consent.text


async def test_pages_are_escaped():
    """What comes from outside stands on a page as text."""
    evil = "<script>alert(1)</script>"
    person = Person(1, '"><b>', evil, "e@x.test")
    provider = DevProvider(client_id=evil, people=[person])
    async with client_of(provider) as client:
        url = authorization_url(client_id=evil, scope=f"{evil} two")
        page = await client.get(url)
        form = {"ticket": ticket_in(page.text), "person": person.login}
        consent = await client.post(CONSENT, data=form)
        other = await client.get(authorization_url(response_type=evil, client_id="?"))
    for response in (page, consent, other):
        assert "<script" not in response.text
        assert "<b>" not in response.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;, allow" in consent.text


@pytest.mark.parametrize(
    "changes",
    [{"ticket": "guessed"}, {"ticket": None}, {"person": "nobody"}, {"person": None}],
)
async def test_consent_needs_its_ticket(dev_provider, changes):
    """A form that did not come from this page consents to nothing (RFC 6749, 10.12)."""
    async with client_of(dev_provider) as client:
        page = await client.get(authorization_url())
        form = {"ticket": ticket_in(page.text), "person": "bob", "decision": "allow"}
        form = {k: v for k, v in {**form, **changes}.items() if v is not None}
        response = await client.post(CONSENT, data=form)
    assert response.status_code == 400
    assert "location" not in response.headers


async def test_ticket_is_used_once():
    """One ticket is good for one decision within ten minutes."""
    clock = Clock()
    provider = DevProvider(clock=clock)
    async with client_of(provider) as client:
        page = await client.get(authorization_url())
        form = {"ticket": ticket_in(page.text), "person": "bob", "decision": "allow"}
        first = await client.post(CONSENT, data=form)
        second = await client.post(CONSENT, data=form)
        late = ticket_in((await client.get(authorization_url())).text)
        clock.now += 600
        third = await client.post(CONSENT, data={**form, "ticket": late})
        await client.get(authorization_url())
    assert first.status_code == 303
    assert first.headers["Referrer-Policy"] == "no-referrer"
    assert first.headers["Location"].startswith(CALLBACK + "?code=")
    assert second.status_code == third.status_code == 400


async def test_callback_keeps_its_query(dev_provider):
    """What the redirect URI has in its query stays there (RFC 6749, 3.1.2)."""
    url = authorization_url(redirect_uri=CALLBACK + "?tenant=7")
    callback = await dev_provider.approve(url)
    assert callback.startswith(CALLBACK + "?tenant=7&code=")


async def test_api_without_a_token(dev_provider):
    """Without a token there is a bare challenge; a bad one is named (RFC 6750, 3.1)."""
    async with client_of(dev_provider) as client:
        url = "https://provider.test/api/user"
        bare = await client.get(url)
        token = dev_provider.issue_token()["access_token"]
        query = await client.get(url, params={"access_token": token})
    assert bare.status_code == query.status_code == 401
    assert bare.headers["WWW-Authenticate"] == "Bearer"
    bad = await call(dev_provider, "guessed")
    assert bad.status_code == 401
    assert bad.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_echo(dev_provider, method):
    """The echo tells what arrived."""
    token = dev_provider.issue_token()["access_token"]
    response = await call(
        dev_provider,
        token,
        "echo?a=1&b=",
        method,
        content=b"h\xc3\xa4\xff",
        headers={"Content-Type": "text/plain"},
    )
    assert response.json() == {
        "method": method,
        "body": "hä\ufffd",
        "content_type": "text/plain",
        "query": {"a": "1", "b": ""},
    }


async def test_cookies(dev_provider):
    """Every token has a cookie of its own, and cookies that come in are told."""
    jars = []
    for person in ("alice", "bob"):
        token = dev_provider.issue_token(person)["access_token"]
        response = await call(dev_provider, token, "cookie", headers={"Cookie": "x=1"})
        assert response.json() == {"cookies": {"x": "1"}}
        jars.append(response.cookies["dev_provider"])
    assert jars[0] != jars[1]


async def test_stream(dev_provider):
    """The stream has five lines."""
    token = dev_provider.issue_token()["access_token"]
    response = await call(dev_provider, token, "stream")
    lines = [f'{{"line": {number}}}' for number in range(5)]
    assert response.text.splitlines() == lines


async def test_redirect(dev_provider):
    """The API redirects where it is told to, with a status of a redirect only."""
    token = dev_provider.issue_token()["access_token"]
    path = "redirect?to=https://elsewhere.test/x"
    response = await call(dev_provider, token, path + "&status=307")
    assert response.status_code == 307
    assert response.headers["Location"] == "https://elsewhere.test/x"
    assert (await call(dev_provider, token, path)).status_code == 302
    assert (await call(dev_provider, token, path + "&status=200")).status_code == 400
    assert (await call(dev_provider, token, "redirect")).status_code == 400


async def test_calls_are_recorded(dev_provider):
    """Every request is kept whole, and shown without what is secret."""
    token = await new_token(dev_provider)
    await call(dev_provider, token["access_token"], "nowhere?a=1&a=2")
    assert [c.endpoint for c in dev_provider.calls] == [
        "authorize",
        "consent",
        "consent",
        "token",
        "unknown",
    ]
    assert dev_provider.count("consent") == 2
    posted, other = dev_provider.calls[-2:]
    assert posted.form["grant_type"] == "authorization_code"
    assert posted.url == "https://provider.test/token"
    assert other.headers["authorization"] == f"Bearer {token['access_token']}"
    assert other.query.getlist("a") == ["1", "2"]
    assert other.url == "https://provider.test/api/nowhere?a=1&a=2"
    assert repr(other) == (
        "Call(endpoint='unknown', method='GET', path='/api/nowhere')"
    )


async def test_install(dev_provider):
    """Once installed, the provider is what an application's calls reach."""
    app = Quart(__name__)
    dev_provider.install(app)
    async with httpx2.AsyncClient(transport=runtime(app).transport) as client:
        response = await client.get("https://anywhere.test/api/user")
    assert response.status_code == 401
    assert dev_provider.calls[0].url == "https://anywhere.test/api/user"


def test_options():
    """The options name every endpoint of the provider's own origin."""
    assert DevProvider(url="http://localhost:5001/").options() == {
        "client_id": "dev-client-id",
        "client_secret": "dev-client-secret",
        "scope": "profile",
        "base_url": "http://localhost:5001/api/",
        "authorization_url": "http://localhost:5001/authorize",
        "token_url": "http://localhost:5001/token",
        "auto_refresh_url": "http://localhost:5001/token",
        "revocation_url": "http://localhost:5001/revoke",
    }


@pytest.mark.parametrize("after", [False, True])
async def test_on_a_port(dev_provider, after):
    """Hypercorn runs it; a client that leaves a hanging request is noticed."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/api/user"
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    stop = asyncio.Event()
    server = asyncio.create_task(
        serve(dev_provider, config, shutdown_trigger=stop.wait)
    )
    headers = {"Authorization": f"Bearer {dev_provider.issue_token()['access_token']}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False) as client:
        assert (await client.get(url)).json()["login"] == ALICE.login
        dev_provider.fault("user", faults.Hang(after=after))
        request = asyncio.create_task(client.get(url))
        await dev_provider.held()
        request.cancel()
        await asyncio.wait([request])
        assert (await client.get(url)).status_code == 200
    stop.set()
    await server
    assert dev_provider.release() == 0


async def test_client_leaves_before_its_body(dev_provider):
    """A request that is never finished is no call."""

    async def receive():
        return {"type": "http.disconnect"}

    async def send(event):
        raise AssertionError("nobody is there")

    await dev_provider({"type": "http"}, receive, send)
    assert dev_provider.calls == []
