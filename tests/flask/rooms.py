"""Two applications that look alike from outside: one of Quart's, one of Flask's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import flask
import pytest
import support
from flask import Flask
from quart import Quart, session
from werkzeug.datastructures import Headers

from quart_dance.consumer import oauth_error, oauth_login_failed
from quart_dance.consumer import storage as async_storage
from quart_dance.consumer.runtime import runtime
from quart_dance.flask.consumer import OAuth2ConsumerBlueprint
from quart_dance.flask.consumer import storage as sync_storage
from quart_dance.testing import DevProvider

View = Callable[[], Coroutine[Any, Any, Any]]
both = pytest.mark.parametrize("kind", ["quart", "flask"])


async def now(value: Any) -> Any:
    """Return what a call of the library brings, at once or when it is awaited."""
    return await value if isawaitable(value) else value


def _drive(view: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in which nothing is awaited that takes any time."""
    try:
        view.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("under Flask nothing waits")


class Page(NamedTuple):
    """What a browser gets to see."""

    status: int
    location: str | None
    text: str
    headers: Headers


def make_flask_app(
    provider: DevProvider, name: str = "dev", **options: Any
) -> tuple[Flask, OAuth2ConsumerBlueprint]:
    """Return a Flask application with one blueprint of the provider under /login."""
    app = Flask(__name__)
    app.secret_key = "the secret key of the tests"
    blueprint = OAuth2ConsumerBlueprint(
        name, __name__, **{**provider.options(), **options}
    )
    app.register_blueprint(blueprint, url_prefix="/login")
    provider.install(app)

    @app.get("/me")
    def me() -> Any:
        if not blueprint.session.authorized:
            return "nobody", 401
        return blueprint.session.get("user").json()["login"]

    return app, blueprint


class FlaskVisitor:
    """A browser of its own: cookies, and always https on one host."""

    def __init__(self, app: Flask, host: str = "app.test") -> None:
        self.client = app.test_client()
        self.base_url = f"https://{host}"

    def open(self, url: str, headers: Any = None, method: str = "GET") -> Page:
        """Open a path, or a URL of which only path and query count."""
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        response = self.client.open(
            path, method=method, base_url=self.base_url, headers=headers
        )
        code, location = response.status_code, response.location
        return Page(code, location, response.text, response.headers)

    def login(
        self, provider: DevProvider, person: str = "alice", path: str = "/login/dev"
    ) -> Page:
        """Go through a whole login and return the response to the callback."""
        begun = self.open(path)
        assert begun.location is not None, begun.text
        return self.open(asyncio.run(provider.approve(begun.location, person=person)))

    async def get(self, url: str, headers: Any = None, method: str = "GET") -> Page:
        """Open a page in a thread, as a server of Flask's does."""
        return await asyncio.to_thread(self.open, url, headers, method)

    @property
    def attempts(self) -> list[str]:
        """The names of the cookies of the login attempts that are open."""
        cookies: Any = self.client._cookies or {}
        return [c.key for c in cookies.values() if c.key.startswith("qd_")]


class QuartVisitor:
    """The same in Quart's application."""

    def __init__(self, app: Quart, host: str = "app.test") -> None:
        self.visitor = support.Visitor(app, host)

    async def get(self, url: str, headers: Any = None, method: str = "GET") -> Page:
        """Open a page."""
        response = await self.visitor.get(url, headers, method)
        text = await response.get_data(as_text=True)
        code, location = response.status_code, response.location
        return Page(code, location, text, response.headers)

    @property
    def attempts(self) -> list[str]:
        """The names of the cookies of the login attempts that are open."""
        return self.visitor.attempts


class Room:
    """An application of one framework, and what a test does with it.

    Attributes:
        kind: "quart" or "flask".
        now: The time; add to it.
    """

    def __init__(self, kind: str, provider: DevProvider, **options: Any) -> None:
        self.kind, self.provider = kind, provider
        make = make_flask_app if kind == "flask" else support.make_app
        self.app: Any
        self.blueprint: Any
        self.app, self.blueprint = make(provider, **options)
        self.now = 1_800_000_000.0
        runtime(self.app).clock = lambda: self.now
        self._let_people_in()

    @property
    def storages(self) -> Any:
        """The module of storages."""
        return sync_storage if self.kind == "flask" else async_storage

    def _let_people_in(self) -> None:
        names = flask.session if self.kind == "flask" else session

        def be(user: str) -> str:
            names["user"] = user
            return user

        self.app.add_url_rule("/be/<user>", "be", be)

    def visitor(self) -> Any:
        """Return a browser that has never been here."""
        return (FlaskVisitor if self.kind == "flask" else QuartVisitor)(self.app)

    def page(self, rule: str, view: View, method: str = "GET") -> None:
        """Add a page; in its view ``await now(…)`` stands for both frameworks."""

        def sync_view() -> Any:
            return _drive(view())

        chosen: Any = sync_view if self.kind == "flask" else view
        self.app.add_url_rule(rule, rule, chosen, methods=[method])

    async def start(self, visitor: Any, path: str = "/login/dev") -> str:
        """Begin a login and return the URL of the provider."""
        page = await visitor.get(path)
        assert page.status == 302, page.text
        return str(page.location)

    async def login(
        self, visitor: Any, person: str = "alice", path: str = "/login/dev"
    ) -> Page:
        """Go through a whole login and return the answer to the callback."""
        begun = await self.start(visitor, path)
        page: Page = await visitor.get(
            await self.provider.approve(begun, person=person)
        )
        return page

    async def callback(self, visitor: Any, path: str = "/login/dev") -> str:
        """Begin a login, allow it, and return the callback's URL."""
        return await self.provider.approve(await self.start(visitor, path))

    async def token(self) -> Any:
        """Return the stored token of a storage that everybody shares."""
        if self.kind == "flask":

            def read() -> Any:
                with self.app.app_context():
                    return self.blueprint.token

            return await asyncio.to_thread(read)
        async with self.app.app_context():
            return await self.blueprint.token

    @contextmanager
    def failures(self) -> Iterator[list[Any]]:
        """Collect what the receivers of a failed login get to hear, strictly typed."""
        heard: list[Any] = []

        def error(
            sender: Any, error: Any, error_description: Any, error_uri: Any
        ) -> None:
            heard.append((error, error_description, error_uri))

        def failed(sender: Any, exception: Exception) -> None:
            heard.append(exception)

        with (
            oauth_error.connected_to(error, self.blueprint),
            oauth_login_failed.connected_to(failed, self.blueprint),
        ):
            yield heard
