"""The sample application, with its provider in process."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from quart import Quart

from quart_dance.consumer.runtime import runtime
from quart_dance.demo.app import create_app
from quart_dance.testing import DevProvider
from quart_dance.testing.faults import SERVER_ERROR

ORIGIN = "http://127.0.0.1:5000"
CALLBACK = f"{ORIGIN}/login/dev/authorized"


class Browser:
    """A browser that is at the application's loopback origin."""

    def __init__(self, app: Quart) -> None:
        self.client = app.test_client()

    async def open(self, url: str, method: str = "GET", **headers: str) -> Any:
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        sent = {"Host": "127.0.0.1:5000", **headers}
        return await self.client.open(path, method=method, headers=sent)

    async def page(self, url: str, status: int = 200) -> str:
        response = await self.open(url)
        assert response.status_code == status
        return str(await response.get_data(as_text=True))

    async def login(self, provider: DevProvider, path: str = "/login/dev") -> str:
        authorization_url = (await self.open(path)).location
        callback = await provider.approve(authorization_url, person="bob")
        return str((await self.open(callback)).location)


@pytest.fixture
def provider() -> DevProvider:
    """Give a provider that knows the application's callback only."""
    return DevProvider(redirect_uris=[CALLBACK], expires_in=120)


@pytest.fixture
async def app(provider: DevProvider) -> AsyncIterator[Quart]:
    """Give the application of that provider, started."""
    app = create_app(**provider.options())
    provider.install(app)
    async with app.test_app():
        yield app


async def test_stranger(app: Quart) -> None:
    """A stranger is told that nobody is logged in, and how to log in."""
    page = await Browser(app).page("/")
    assert "Nobody is logged in" in page
    assert 'href="/login/dev">Log in with DevProvider</a>' in page
    assert "Log out" not in page


async def test_profile(app: Quart, provider: DevProvider) -> None:
    """L1: the page shows what the API says of the visitor, and never the token."""
    browser = Browser(app)
    assert await browser.login(provider) == "/"
    page = await browser.page("/")
    for text in ("Hello, Bob Cratchit", "@bob", "bob@example.com", "bob/dotfiles"):
        assert text in page
    assert "<dt>Scope</dt><dd>profile</dd>" in page
    assert re.search(r"expires in 1(20|1\d) seconds", page)
    [token] = provider.tokens
    assert token.access_token not in page
    assert str(token.refresh_token) not in page


async def test_private_page(app: Quart, provider: DevProvider) -> None:
    """The private page sends a stranger to the login and gets them back."""
    browser = Browser(app)
    login = (await browser.open("/private")).location
    assert login == "/login/dev?next=/private"
    assert await browser.login(provider, login) == "/private"
    assert "you are: Bob Cratchit" in await browser.page("/private")


async def test_refresh(app: Quart, provider: DevProvider) -> None:
    """A minute after the login, as the page promises, the token is refreshed."""
    browser = Browser(app)
    await browser.login(provider)
    await browser.page("/")
    assert provider.count("token") == 1
    runtime(app).clock = lambda: time.time() + 61
    await browser.page("/")
    assert provider.count("token") == 2


async def test_logout(app: Quart, provider: DevProvider) -> None:
    """Logging out revokes the token and forgets it."""
    browser = Browser(app)
    await browser.login(provider)
    response = await browser.open("/logout", "POST", Origin=ORIGIN)
    assert (response.status_code, response.location) == (303, "/")
    assert provider.tokens == []
    assert "Nobody is logged in" in await browser.page("/")


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:5001"}],
    ids=["none", "null", "another port"],
)
async def test_foreign_logout(
    app: Quart, provider: DevProvider, headers: dict[str, str]
) -> None:
    """A log-out that does not come from our own page logs nobody out."""
    browser = Browser(app)
    await browser.login(provider)
    response = await browser.open("/logout", "POST", **headers)
    assert response.status_code == 403
    assert "Hello, Bob Cratchit" in await browser.page("/")


async def test_logout_while_the_provider_fails(
    app: Quart, provider: DevProvider
) -> None:
    """A log-out that the provider does not confirm says so, and changes nothing."""
    browser = Browser(app)
    await browser.login(provider)
    provider.fault("revoke", SERVER_ERROR)
    response = await browser.open("/logout", "POST", Origin=ORIGIN)
    assert response.status_code == 502
    assert "DevProvider does not answer" in await response.get_data(as_text=True)
    assert "Hello, Bob Cratchit" in await browser.page("/")


async def test_denied(app: Quart, provider: DevProvider) -> None:
    """Whoever denies gets the library's page, and a link to try again."""
    browser = Browser(app)
    callback = await provider.deny((await browser.open("/login/dev")).location)
    page = await browser.page(callback, 400)
    assert "The login failed" in page
    assert 'href="/login/dev">Log in with DevProvider again</a>' in page


@pytest.mark.parametrize("path", ["/", "/private", "/login/dev", "/nowhere"])
async def test_headers(app: Quart, path: str) -> None:
    """L4: no answer may be stored, framed or sniffed."""
    headers = (await Browser(app).open(path)).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]


async def test_cookies(app: Quart, provider: DevProvider) -> None:
    """The session cookie has a name of its own, and scripts cannot read it."""
    browser = Browser(app)
    callback = await provider.approve((await browser.open("/login/dev")).location)
    response = await browser.open(callback)
    [cookie] = [
        value
        for value in response.headers.getlist("Set-Cookie")
        if not value.startswith("qd_")
    ]
    assert cookie.startswith("quart_dance_demo=")
    assert cookie.endswith("; HttpOnly; Path=/; SameSite=Lax")


async def test_secret_keys() -> None:
    """No two runs share a secret key."""
    options = DevProvider().options()
    assert create_app(**options).secret_key != create_app(**options).secret_key
