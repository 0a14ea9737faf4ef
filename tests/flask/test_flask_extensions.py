"""Flask's async views, and Flask-SQLAlchemy with several databases or in memory."""

from __future__ import annotations

import asyncio
from typing import Any

import flask
import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from rooms import FlaskVisitor
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer import storage as async_storages
from quart_dance.consumer.runtime import runtime
from quart_dance.flask.consumer import oauth_authorized, oauth_refreshed, storage
from quart_dance.flask.consumer.storage.sqla import (
    OAuthConsumerMixin,
    SQLAlchemyStorage,
)
from quart_dance.testing import faults

SYNC, ASYNC = storage.MemoryStorage, async_storages.MemoryStorage


@pytest.mark.parametrize("kind", [None, SYNC, ASYNC], ids=["session", "sync", "async"])
def test_async_view(library, kind):
    """An async view of Flask's calls the API as any other view does."""
    app, blueprint = library.make(storage=kind)

    @app.get("/async")
    async def view() -> Any:
        await asyncio.sleep(0)
        if not blueprint.session.authorized:
            return "nobody", 401
        await asyncio.sleep(0)
        return blueprint.session.get("user").json()["login"]

    assert FlaskVisitor(app).open("/async").status == 401
    visitor = library.login(app)
    assert visitor.open("/async").text == "alice"
    library.provider.expire_access_tokens()
    assert visitor.open("/async").text == "alice"  # refreshed
    assert library.provider.count("token") == 2


def test_token_in_an_async_view(library):
    """A token is set, read and deleted in an async view."""
    app, blueprint = library.make(storage=ASYNC)

    @app.get("/async")
    async def view() -> Any:
        blueprint.token = {"access_token": "abc"}
        found = blueprint.token["access_token"]
        del blueprint.token
        return {"found": found, "left": blueprint.token}

    page = FlaskVisitor(app).open("/async")
    assert flask.json.loads(page.text) == {"found": "abc", "left": None}


def test_guarded_async_view(library):
    """`authorization_required` guards an async view too."""
    app, blueprint = library.make()

    @app.get("/closed")
    @blueprint.session.authorization_required
    async def closed() -> str:
        return "welcome"

    assert FlaskVisitor(app).open("/closed").location == "/login/dev?next=/closed"
    assert library.login(app).open("/closed").text == "welcome"


def test_coroutine_as_receiver(library):
    """A receiver of a signal may be a coroutine function."""
    app, blueprint = library.make()
    heard = []

    async def receive(sender: Any, token: Any) -> bool:
        await asyncio.sleep(0)
        heard.append(sender.session.get("user").json()["login"])
        return False

    with oauth_authorized.connected_to(receive, blueprint):
        visitor = library.login(app)
    assert heard == ["alice"] and visitor.open("/me").status == 401


def test_coroutine_as_receiver_in_an_async_view(library):
    """So it may where an async view runs an event loop; the request is at hand."""
    app, blueprint = library.make(storage=SYNC)
    heard = []

    @app.get("/async")
    async def view() -> Any:
        return blueprint.session.get("user").json()["login"]

    async def receive(sender: Any, token: Any) -> None:
        await asyncio.sleep(0)
        heard.append(flask.request.path)
        flask.session["refreshed"] = True

    visitor = library.login(app)
    later = runtime(app).clock() + 3700
    runtime(app).clock = lambda: later
    library.provider.expire_access_tokens()
    with oauth_refreshed.connected_to(receive, blueprint):
        assert visitor.open("/async").text == "alice"
    assert heard == ["/async"]
    with visitor.client.session_transaction(base_url="https://app.test") as session:
        assert session["refreshed"]


@pytest.mark.parametrize("how", ["function", "coroutine function"])
def test_error_handler(library, how):
    """An application's own handler of our errors may be a coroutine function."""
    from quart_dance.errors import OAuthError

    app, blueprint = library.make()

    def handle(error: OAuthError) -> Any:
        return f"please log in with {error.blueprint.name}", 401

    async def handle_later(error: OAuthError) -> Any:
        return handle(error)

    app.register_error_handler(
        OAuthError, handle if how == "function" else handle_later
    )
    app.add_url_rule("/closed", "closed", lambda: blueprint.session.get("user").json())
    page = FlaskVisitor(app).open("/closed")
    assert (page.status, page.text) == (401, "please log in with dev")
    visitor = library.login(app)
    library.provider.expire_access_tokens()
    library.provider.fault("token", faults.SERVER_ERROR)
    page = visitor.open("/closed")
    assert (page.status, page.text) == (401, "please log in with dev")


class Base(DeclarativeBase):
    """The tables of the application below."""


@pytest.mark.parametrize("place", ["memory", "bind"])
def test_databases_of_flask_sqlalchemy(library, place, tmp_path, init_db):
    """Tokens go to the database that the model is bound to, be it in memory."""
    app, blueprint = library.make()
    db, key = SQLAlchemy(), "tokens" if place == "bind" else None
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"
    app.config["SQLALCHEMY_BINDS"] = {"tokens": f"sqlite:///{tmp_path}/tokens.db"}

    class OAuth(OAuthConsumerMixin, db.Model):  # type: ignore[misc,name-defined]
        __bind_key__ = key

    init_db(app, db)
    blueprint.storage = SQLAlchemyStorage(OAuth, db.session)
    with app.app_context():
        library.login(app)
        assert FlaskVisitor(app).open("/me").text == "alice"
        assert db.session.query(OAuth).count() == 1
        engine = db.engines[key]
    assert str(engine.url) == (
        "sqlite://" if key is None else f"sqlite:///{tmp_path}/tokens.db"
    )


def test_typed_models(library, init_db):
    """Models in SQLAlchemy's newer style, with `Mapped`, are as good."""
    app = Flask(__name__)
    db = SQLAlchemy(model_class=Base)
    app.config["SQLALCHEMY_DATABASE_URI"] = "sqlite://"

    class OAuth(OAuthConsumerMixin, db.Model):  # type: ignore[misc,name-defined]
        note: Mapped[str | None] = mapped_column()

    blueprint = library.blueprint(storage=SQLAlchemyStorage(OAuth, db.session))
    library.app(blueprint, app)
    init_db(app, db)
    with app.app_context():
        blueprint.token = {"access_token": "first"}
        db.session.query(OAuth).one().note = "mine"
        db.session.commit()
        blueprint.token = {"access_token": "second"}
        db.session.expire_all()
        row = db.session.query(OAuth).one()
        assert (row.note, row.token["access_token"]) == ("mine", "second")
