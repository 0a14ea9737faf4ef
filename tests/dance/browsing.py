"""Browsers that keep to RFC 6265, and what else the tests of the dance look with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.cookiejar import Cookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx2
from quart import Quart, session
from support import make_app

from quart_dance.consumer import (
    OAuth2ConsumerBlueprint,
    oauth_error,
    oauth_login_failed,
)
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.errors import UserRequiredError
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "an-older-token", "token_type": "bearer"}


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Browser:
    """A visitor whose cookies go where host, path and scheme send them.

    It opens whole URLs, so a redirect to another origin would leave the application.
    """

    def __init__(
        self, app: Any, origin: str = "https://app.test", root_path: str = ""
    ) -> None:
        transport = httpx2.ASGITransport(app=app, root_path=root_path)
        self.client = httpx2.AsyncClient(transport=transport, base_url=origin)

    @property
    def jar(self) -> dict[str, Cookie]:
        """The cookies by name."""
        return {cookie.name: cookie for cookie in self.client.cookies.jar}

    @property
    def attempts(self) -> list[Cookie]:
        """The cookies of the login attempts that are open."""
        return [cookie for name, cookie in self.jar.items() if name.startswith("qd_")]

    def put_back(self, *cookies: Cookie) -> None:
        """Restore cookies, as a backup of the browser's profile would."""
        for cookie in cookies:
            self.client.cookies.jar.set_cookie(cookie)

    async def get(self, url: str, **headers: str) -> httpx2.Response:
        """Open a page; ``sec_fetch_site="none"`` sets a header."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get(url, headers=names)

    async def start(self, path: str = "/login/dev") -> str:
        """Begin a login and return the URL of the provider."""
        response = await self.get(path)
        assert response.status_code == 302, response.text
        return response.headers["Location"]

    async def login(
        self, provider: DevProvider, person: str = "alice", path: str = "/login/dev"
    ) -> httpx2.Response:
        """Go through a whole login and return the response to the callback."""
        return await self.get(
            await provider.approve(await self.start(path), person=person)
        )


async def send_raw(
    browser: Browser,
    app: Any,
    path: str,
    query: bytes,
    cookie: bytes | None = None,
    **headers: str,
) -> httpx2.Response:
    """Send what no HTTP client would: any bytes as the query or as the cookies."""

    async def raw(scope: Any, receive: Any, send: Any) -> None:
        scope = {**scope, "query_string": query}
        if cookie is not None:
            scope["headers"] = [*scope["headers"], (b"cookie", cookie)]
        await app(scope, receive, send)

    other = Browser(raw)
    other.put_back(*browser.jar.values())
    return await other.get(path, **headers)


class Hosts(httpx2.AsyncBaseTransport):
    """A network: every host is somebody's, and every request is written down."""

    def __init__(self, everywhere: DevProvider, **others: DevProvider) -> None:
        self.requests: list[httpx2.Request] = []
        self._everywhere = everywhere.transport()
        self._others = {p.url.split("://")[1]: p.transport() for p in others.values()}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        where = self._others.get(request.url.host, self._everywhere)
        return await where.handle_async_request(request)

    @property
    def seen(self) -> list[tuple[str, bool, bool]]:
        """Of each request: its URL, whether a token and whether a cookie came along."""
        return [(str(r.url), _bears(r), "cookie" in r.headers) for r in self.requests]


def _bears(request: httpx2.Request) -> bool:
    return request.headers.get("Authorization", "").startswith("Bearer")


class Accounts(BaseStorage):
    """Tokens of the application's own users; who is logged in says the session."""

    def __init__(self, tokens: Mapping[str | None, Any] | None = None) -> None:
        self.tokens = dict(tokens or {})

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return session.get("user")

    async def get(self, blueprint: Any) -> Any:
        return self.tokens.get(session.get("user"))

    async def set(self, blueprint: Any, token: Any) -> None:
        if "user" not in session:
            raise UserRequiredError("nobody is logged in")
        self.tokens[session["user"]] = dict(token)

    async def delete(self, blueprint: Any) -> None:
        self.tokens.pop(session.get("user"), None)


def world(
    provider: DevProvider, **options: Any
) -> tuple[Quart, OAuth2ConsumerBlueprint, Hosts]:
    """Return an application with one token for all, its blueprint, and the network."""
    storage = MemoryStorage(provider.issue_token())
    app, blueprint = make_app(provider, storage=storage, **options)
    network = runtime(app).transport = Hosts(provider)
    return app, blueprint, network


def let_people_in(app: Quart) -> None:
    """Add ``/be/<user>`` and ``/leave``, the application's own login and logout."""

    @app.get("/be/<user>")
    async def be(user: str) -> str:
        session["user"] = user
        return user

    @app.get("/leave")
    async def leave() -> str:
        session.clear()
        return "bye"


@contextmanager
def failures(blueprint: OAuth2ConsumerBlueprint) -> Iterator[list[Any]]:
    """Collect what the receivers of a failed login get to hear, strictly typed."""
    heard: list[Any] = []

    def error(sender: Any, error: Any, error_description: Any, error_uri: Any) -> None:
        heard.append((error, error_description, error_uri))

    def failed(sender: Any, exception: Exception) -> None:
        heard.append(exception)

    with (
        oauth_error.connected_to(error, blueprint),
        oauth_login_failed.connected_to(failed, blueprint),
    ):
        yield heard


def params(url: str) -> list[tuple[str, str]]:
    """Return the query parameters of a URL."""
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


def edited(url: str, *more: tuple[str, str], without: str = "") -> str:
    """Return a URL with some query parameters left out and others added."""
    kept = [pair for pair in params(url) if pair[0] not in without.split()]
    return urlsplit(url)._replace(query=urlencode([*kept, *more])).geturl()
