"""What becomes of our errors when they escape from a view."""

from __future__ import annotations

import json
from typing import Any

import pytest
from quart import Quart, jsonify
from support import Transport, Visitor, make_client_app

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import (
    ConfigurationError,
    LoginError,
    NotAuthorizedError,
    OAuthError,
    StorageError,
    TokenExpiredError,
    TokenRequestError,
)

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def raising(error: Exception) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application with a view that raises."""
    app, blueprint = make_client_app(Transport())
    if isinstance(error, OAuthError):
        error.blueprint = blueprint

    @app.route("/fails", methods=["GET", "POST"])
    async def fails() -> str:
        raise error

    return app, blueprint


@pytest.mark.parametrize(
    ("error", "get", "post"),
    [
        (NotAuthorizedError("x"), 302, 401),
        (TokenExpiredError("x"), 302, 401),
        (TokenRequestError("timeout", "x"), 502, 502),
        (StorageError("x"), 500, 500),
        (ConfigurationError("x"), 500, 500),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_errors_that_escape(error: Exception, get: int, post: int) -> None:
    """Errors that escape a view end in a login, a 401, a 502, or are the app's."""
    app, _ = raising(error)
    visitor = Visitor(app)
    assert (await visitor.get("/fails")).status_code == get
    assert (await visitor.get("/fails", method="POST")).status_code == post


async def test_a_provider_that_fails() -> None:
    """T1: the page of a failing provider offers another try, without its words."""
    app, _ = raising(TokenRequestError("invalid_response", "<b>secret</b>"))
    response = await Visitor(app).get("/fails?x=1", {"Accept": HTML})
    page = await response.get_data(as_text=True)
    assert response.status_code == 502
    assert 'href="/fails?x=1"' in page
    assert "secret" not in page
    assert response.headers["Cache-Control"] == "no-store"
    response = await Visitor(app).get("/fails", {"Accept": "application/json"})
    assert response.status_code == 502
    assert json.loads(await response.get_data()) == {"error": "provider_failed"}


@pytest.mark.parametrize("kind", [OAuthError, NotAuthorizedError])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("scope", ["app", "blueprint"])
async def test_an_own_handler_wins(
    kind: type[Exception], before: bool, scope: str
) -> None:
    """An application's handler wins, whenever it was registered."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    blueprint = OAuth2ConsumerBlueprint("dev", __name__, storage=MemoryStorage())

    async def handle(error: Any) -> Any:
        return jsonify(mine=error.blueprint.name), 418

    @blueprint.get("/private")
    @blueprint.session.authorization_required
    async def private() -> str:
        return "private"

    if scope == "blueprint":
        blueprint.register_error_handler(kind, handle)
    elif before:
        app.register_error_handler(kind, handle)
    app.register_blueprint(blueprint)
    if scope == "app" and not before:
        app.register_error_handler(kind, handle)
    response = await Visitor(app).get("/private")
    assert response.status_code == 418
    assert json.loads(await response.get_data()) == {"mine": "dev"}


async def test_a_blueprint_that_is_not_registered() -> None:
    """S16: whose login would it be? It is a 500, and never the page."""
    app, _ = make_client_app(Transport())
    stranger = OAuth2ConsumerBlueprint("stranger", __name__, storage=MemoryStorage())

    @app.get("/private")
    @stranger.session.authorization_required
    async def private() -> str:
        return "private"

    assert (await Visitor(app).get("/private")).status_code == 500


def test_the_tree_of_errors() -> None:
    """Every error of ours is an `OAuthError`, and tells its HTTP status."""
    statuses = {LoginError: 400, TokenRequestError: 502, NotAuthorizedError: 401}
    for kind, status in {**statuses, StorageError: 500}.items():
        assert issubclass(kind, OAuthError)
        assert kind.status == status
