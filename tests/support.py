"""What the tests share: an application, its blueprint, and visitors with browsers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import httpx2
from quart import Quart, Response

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.testing import DevProvider


def make_app(
    provider: DevProvider, name: str = "dev", **options: Any
) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application with one blueprint of the provider under /login."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    blueprint = OAuth2ConsumerBlueprint(
        name, __name__, **{**provider.options(), **options}
    )
    app.register_blueprint(blueprint, url_prefix="/login")
    provider.install(app)

    @app.get("/me")
    async def me() -> Any:
        if not await blueprint.session.authorized:
            return "nobody", 401
        return (await blueprint.session.get("user")).json()["login"]

    return app, blueprint


class Visitor:
    """A browser of its own: cookies, and always https on one host."""

    def __init__(self, app: Quart, host: str = "app.test") -> None:
        self.client = app.test_client()
        self.host = host

    @property
    def cookies(self) -> dict[str, str | None]:
        """Every cookie of this browser, whatever its path."""
        return {cookie.name: cookie.value for cookie in self.client.cookie_jar or ()}

    @property
    def attempts(self) -> list[str]:
        """The names of the cookies of the login attempts that are open."""
        return [name for name in self.cookies if name.startswith("qd_")]

    async def get(self, url: str, headers: Any = None, method: str = "GET") -> Response:
        """Open a path, or a URL of which only path and query count."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        response: Any = await self.client.open(
            path,
            method=method,
            scheme="https",
            headers={"Host": self.host, **(headers or {})},
        )
        return response  # type: ignore[no-any-return]

    async def start(self, path: str = "/login/dev") -> str:
        """Begin a login and return the URL of the provider."""
        response = await self.get(path)
        assert response.status_code == 302, await response.get_data(as_text=True)
        return str(response.location)

    async def login(
        self, provider: DevProvider, person: str = "alice", path: str = "/login/dev"
    ) -> Response:
        """Go through a whole login and return the response to the callback."""
        callback = await provider.approve(await self.start(path), person=person)
        return await self.get(callback)


def query(url: str) -> dict[str, str]:
    """Return the query parameters of a URL."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


class Body(httpx2.AsyncByteStream):
    """The body of an answer, chunk by chunk; knows whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = chunks
        self.sent = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            self.sent += 1
            yield chunk

    async def aclose(self) -> None:
        self.closed = True


class Transport(httpx2.AsyncBaseTransport):
    """A network of one's own: keeps every request, and a function answers it."""

    def __init__(
        self, answer: Callable[[httpx2.Request], httpx2.Response] | None = None
    ) -> None:
        self.answer = answer or (lambda _: httpx2.Response(200, json={}))
        self.requests: list[httpx2.Request] = []
        self.bodies: list[Body] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await request.aread()
        self.requests.append(request)
        answer = self.answer(request)
        if not isinstance(answer.stream, Body):  # as from a network: not read yet
            answer = httpx2.Response(
                answer.status_code, headers=answer.headers, stream=Body(answer.content)
            )
        self.bodies.append(cast(Body, answer.stream))
        return answer


def make_client_app(
    transport: httpx2.AsyncBaseTransport, name: str = "dev", **options: Any
) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application with a blueprint whose API is behind a transport."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    given = {
        "client_id": "the-client",
        "client_secret": "the-secret",
        "base_url": "https://api.test/v1",
        "authorization_url": "https://provider.test/authorize",
        "token_url": "https://provider.test/token",
        **options,
    }
    blueprint = OAuth2ConsumerBlueprint(name, __name__, **given)
    app.register_blueprint(blueprint, url_prefix="/login")
    runtime(app).transport = transport
    return app, blueprint


INVALID_TOKEN = 'Bearer realm="api", error="invalid_token", error_description="over"'


class Api:
    """An API that knows one access token, and a token endpoint that gives it out."""

    def __init__(self, challenge: str = INVALID_TOKEN, valid: str = "new") -> None:
        self.challenge = challenge
        self.valid = valid
        self.token_answer = httpx2.Response(
            200, json={"access_token": "new", "token_type": "bearer"}
        )
        self.refreshes = 0
        self.calls: list[tuple[str | None, bytes]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/token":
            self.refreshes += 1
            return self.token_answer
        authorization = request.headers.get("Authorization")
        self.calls.append((authorization, request.content))
        if authorization == f"Bearer {self.valid}":
            return httpx2.Response(200, stream=Body(b"fine"))
        headers = {"WWW-Authenticate": self.challenge} if self.challenge else {}
        return httpx2.Response(401, headers=headers, stream=Body(b"no"))


#: What `Api` takes no longer; with a refresh token it gives out another.
TOKEN = {"access_token": "old", "token_type": "bearer"}
REFRESHABLE = {**TOKEN, "refresh_token": "rt-1"}


def make_api_app(
    api: Any, token: dict[str, Any], **options: Any
) -> tuple[Quart, OAuth2ConsumerBlueprint, Transport]:
    """Return an application that has a token for an `Api`, and the way to it."""
    transport = Transport(api)
    given = {
        "storage": MemoryStorage(token),
        "auto_refresh_url": "https://provider.test/token",
        **options,
    }
    app, blueprint = make_client_app(transport, **given)
    return app, blueprint, transport
