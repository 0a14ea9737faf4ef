"""What the tests share: an application, its blueprint, and visitors with browsers."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

from quart import Quart, Response

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.testing import DevProvider


def make_app(
    provider: DevProvider, name: str = "dev", **options: Any
) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application with one blueprint of the provider under /login."""
    app = Quart("tests")
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
