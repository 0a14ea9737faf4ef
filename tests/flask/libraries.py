"""Flask-Dance and `quart_dance.flask`, so that one test can hold for both."""

from __future__ import annotations

import asyncio
import io
from importlib import import_module
from typing import Any

import httpx2
import pytest
import requests
from flask import Flask
from requests.adapters import BaseAdapter
from rooms import FlaskVisitor

from quart_dance.testing import DevProvider

OURS, THEIRS = "quart_dance.flask", "flask_dance"
#: Flask-Dance's table asks for the time in a way that Python 3.12 warns of.
old_clock = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow")
each_library = pytest.mark.parametrize(
    "library", [OURS, pytest.param(THEIRS, marks=old_clock)], indirect=True
)


class _Adapter(BaseAdapter):
    """Brings every request of requests to a provider in process."""

    def __init__(self, provider: DevProvider) -> None:
        super().__init__()
        self._provider = provider

    def send(self, request: Any, **kwargs: Any) -> requests.Response:
        answer = asyncio.run(self._ask(request))
        response = requests.Response()
        response.status_code = answer.status_code
        response.headers.update(answer.headers)
        response.url, response.request = request.url, request
        response.raw = io.BytesIO(answer.content)
        return response

    async def _ask(self, request: Any) -> httpx2.Response:
        body, transport = request.body, self._provider.transport()
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.request(
                request.method,
                request.url,
                headers=dict(request.headers),
                content=body.read() if hasattr(body, "read") else body,
            )

    def close(self) -> None:
        pass


class Library:
    """One of the two libraries, and a provider that its applications talk to.

    Attributes:
        root: Its package.
        consumer: Its module of blueprints and signals.
        storages: Its module of storages.
    """

    def __init__(self, root: str, provider: DevProvider) -> None:
        self.root, self.provider = root, provider
        self.consumer = self.module("consumer")
        self.storages = self.module("consumer.storage")

    @property
    def is_ours(self) -> bool:
        return self.root == OURS

    def module(self, path: str) -> Any:
        """Return one of its modules."""
        return import_module(f"{self.root}.{path}")

    def contrib(self, name: str) -> Any:
        """Return the module that has a preset."""
        return self.module("contrib" if self.is_ours else f"contrib.{name}")

    def session_class(self, base: type[Any] | None = None) -> type[Any]:
        """Return a class of sessions that reaches the provider."""
        session: Any = base or self.module("consumer.requests").OAuth2Session
        if self.is_ours:  # there the application has the way to the provider
            return session  # type: ignore[no-any-return]
        provider = self.provider

        class Session(session):  # type: ignore[misc]
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.mount("https://", _Adapter(provider))

        return Session

    def blueprint(self, name: str = "dev", **options: Any) -> Any:
        """Return a blueprint of the provider."""
        known = self.provider.options()
        del known["revocation_url"]
        options.setdefault("use_pkce", True)
        options["session_class"] = self.session_class(options.get("session_class"))
        return self.consumer.OAuth2ConsumerBlueprint(
            name, __name__, **{**known, **options}
        )

    def app(self, blueprint: Any, app: Flask | None = None) -> Flask:
        """Return an application with a blueprint under /login, and ``/me``."""
        app = app or Flask(__name__)
        app.secret_key = "the secret key of the tests"
        app.register_blueprint(blueprint, url_prefix="/login")
        if self.is_ours:
            self.provider.install(app)

        @app.get("/me")
        def me() -> Any:
            if not blueprint.session.authorized:
                return "nobody", 401
            return blueprint.session.get("user").json()["login"]

        return app

    def make(self, **options: Any) -> tuple[Flask, Any]:
        """Return an application and its blueprint."""
        blueprint = self.blueprint(**options)
        return self.app(blueprint), blueprint

    def login(self, app: Flask, person: str = "alice") -> FlaskVisitor:
        """Return a visitor who has just logged in."""
        visitor = FlaskVisitor(app)
        page = visitor.login(self.provider, person)
        assert page.status == 302, page.text
        return visitor


@pytest.fixture
def library(request: pytest.FixtureRequest, dev_provider: DevProvider) -> Library:
    """Give the library that a test is run with; ours, if it names none."""
    return Library(getattr(request, "param", OURS), dev_provider)
