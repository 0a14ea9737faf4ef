"""Storages under Flask: what is documented of them, in words of our own."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from aiocache import SimpleMemoryCache
from flask_caching import Cache
from libraries import each_library
from rooms import FlaskVisitor
from shop import Shop, made_up
from sqlalchemy import create_engine, event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from quart_dance.consumer import storage as async_storages
from quart_dance.flask import SyncStorage
from quart_dance.flask.consumer import backend
from quart_dance.flask.consumer import storage as storages
from quart_dance.flask.consumer.backend import sqla as sqla_backend
from quart_dance.flask.consumer.storage import sqla
from quart_dance.flask.consumer.storage.file import FileStorage
from quart_dance.flask.consumer.storage.session import SessionStorage


@each_library
def test_session(library):
    """The default keeps the token in the visitor's session, and loses it with that."""
    app, _ = library.make()
    visitor = library.login(app)
    assert visitor.open("/me").text == "alice"
    assert FlaskVisitor(app).open("/me").text == "nobody"
    visitor.client.delete_cookie("session", domain="app.test")
    assert visitor.open("/me").text == "nobody"


@each_library
def test_session_key(library):
    """The token lies under the blueprint's name, or under a key of one's own."""
    kind = library.module("consumer.storage.session").SessionStorage
    app, _ = library.make(storage=kind(key="token of {bp.name}"))
    visitor = library.login(app)
    with visitor.client.session_transaction(base_url="https://app.test") as session:
        assert "access_token" in session["token of dev"]
        assert "dev_oauth_token" not in session


@each_library
@pytest.mark.parametrize("given", ["instance", "class", "assigned"])
def test_ways_to_give_a_storage(library, given):
    """A storage is given as an object or a class, to the constructor or later."""
    kind = library.storages.MemoryStorage
    options = {"instance": {"storage": kind()}, "class": {"storage": kind}}
    app, blueprint = library.make(**options.get(given, {}))
    if given == "assigned":
        blueprint.storage = kind()
    assert isinstance(blueprint.storage, kind)
    library.login(app)
    assert FlaskVisitor(app).open("/me").text == "alice"


def test_properties(library):
    """`storage` and `backend` are one: read, set, and deleted."""
    _, blueprint = library.make()
    assert isinstance(blueprint.storage, SessionStorage)
    memory = blueprint.backend = storages.MemoryStorage()
    assert blueprint.storage is blueprint.backend is memory
    del blueprint.storage
    assert isinstance(blueprint.backend, SessionStorage)
    blueprint.storage = memory
    del blueprint.backend
    assert isinstance(blueprint.storage, SessionStorage)
    with pytest.raises(TypeError, match="no such get"):
        blueprint.storage = object()


def test_older_names():
    """The older modules and their names are the new ones."""
    assert backend.BaseBackend is storages.BaseStorage
    assert backend.MemoryStorage is storages.MemoryStorage
    assert sqla_backend.SQLAlchemyBackend is sqla.SQLAlchemyStorage
    assert sqla_backend.SQLAlchemyStorage is sqla.SQLAlchemyStorage
    assert sqla_backend.OAuthConsumerMixin is sqla.OAuthConsumerMixin


@each_library
def test_null(library):
    """Who logs in with a storage that keeps nothing is nobody."""
    app, _ = library.make(storage=library.storages.NullStorage())
    assert library.login(app).open("/me").text == "nobody"


@each_library
def test_custom(library, tmp_path):
    """Three plain methods are a storage: used, restarted, and logged out."""
    path = tmp_path / "token.json"

    class OneFile(library.storages.BaseStorage):  # type: ignore[misc]
        def get(self, blueprint: Any) -> Any:
            return json.loads(path.read_text()) if path.exists() else None

        def set(self, blueprint: Any, token: Any) -> None:
            path.write_text(json.dumps(token))

        def delete(self, blueprint: Any) -> None:
            os.remove(path)

    for login in (True, False):
        app, blueprint = library.make(storage=OneFile())
        if login:
            assert FlaskVisitor(app).open("/me").text == "nobody"
            library.login(app)
        assert FlaskVisitor(app).open("/me").text == "alice"
    with app.app_context():
        del blueprint.token
    assert not path.exists() and FlaskVisitor(app).open("/me").text == "nobody"


def test_file(library, tmp_path):
    """FileStorage keeps the token itself, for nobody else to read."""
    path = tmp_path / "dev.json"
    app, _ = library.make(storage=FileStorage(path))
    library.login(app)
    [issued] = library.provider.tokens
    assert json.loads(path.read_text())["access_token"] == issued.access_token
    assert path.stat().st_mode & 0o777 == 0o600
    assert FlaskVisitor(app).open("/me").text == "alice"


def test_async_storage(library):
    """A storage with coroutines is given as it is, or wrapped: both work."""
    storage = async_storages.MemoryStorage()
    for given in (storage, SyncStorage(storage)):
        app, blueprint = library.make(storage=given)
        assert blueprint.storage is given
        library.login(app)
        assert FlaskVisitor(app).open("/me").text == "alice"
        with app.app_context():
            assert blueprint.token["token_type"] == "Bearer"
            del blueprint.token
        assert FlaskVisitor(app).open("/me").text == "nobody"


@each_library
def test_one_token_for_all(shop):
    """A table without users in it keeps one token for everybody."""
    shop.blueprint.storage = shop.storage()
    shop.connect(shop.visitor(), "alice")
    shop.connect(shop.visitor(), "bob")
    assert shop.visitor().open("/me").text == "bob"
    assert shop.rows() == [(None, "bob")]
    assert shop.OAuth.__tablename__ == "flask_dance_oauth"
    with shop.app.app_context():
        del shop.blueprint.token
    assert shop.rows() == []


KINDS = "sessionmaker", "scoped_session", "Session", "Engine"


@pytest.mark.parametrize("kind", KINDS)
def test_without_flask_sqlalchemy(shop, kind, tmp_path):
    """Plain SQLAlchemy does as well, in whatever shape its engine comes."""
    engine = create_engine(f"sqlite:///{tmp_path}/shop.db")
    maker = sessionmaker(engine)
    given: Any = {
        "sessionmaker": maker,
        "scoped_session": scoped_session(maker),
        "Session": Session(engine),
        "Engine": engine,
    }[kind]
    shop.blueprint.storage = sqla.SQLAlchemyStorage(shop.OAuth, given)
    shop.connect(shop.visitor(), "alice")
    assert shop.visitor().open("/me").text == "alice"
    engine.dispose()


def test_transaction_of_the_application(shop):
    """What the application has not committed is not ours to commit."""
    storage = shop.blueprint.storage = shop.storage()
    with shop.app.test_request_context("/"):
        storage.set(shop.blueprint, made_up("first"))
        shop.db.session.add(shop.User(id=3))
        assert storage.get(shop.blueprint) == made_up("first")
        storage.set(shop.blueprint, made_up("second"))
        shop.db.session.rollback()
        assert shop.db.session.get(shop.User, 3) is None
        assert storage.get(shop.blueprint) == made_up("second")


def count_statements(shop: Shop) -> list[str]:
    """Return a list that grows with each statement that the database gets."""
    seen: list[str] = []
    with shop.app.app_context():
        event.listen(
            shop.db.engine,
            "before_cursor_execute",
            lambda connection, cursor, statement, *rest: seen.append(statement),
        )
    return seen


@each_library
def test_cache(shop):
    """With Flask-Caching a token that was read is read from there, until it changes."""
    cache = Cache(shop.app, config={"CACHE_TYPE": "SimpleCache"})
    shop.blueprint.storage = shop.storage(cache=cache)
    shop.connect(shop.visitor(), "alice")
    cache.clear()
    assert shop.visitor().open("/me").text == "alice"
    seen = count_statements(shop)
    assert shop.visitor().open("/me").text == "alice"
    assert seen == []
    shop.connect(shop.visitor(), "bob")
    assert shop.visitor().open("/me").text == "bob"
    with shop.app.app_context():
        del shop.blueprint.token
    assert shop.visitor().open("/me").text == "nobody"


def test_cache_that_fails(shop, caplog):
    """A cache that fails costs time, and nobody's login."""

    class Broken:
        def get(self, key: str) -> Any:
            raise OSError("the cache is down")

        def set(self, key: str, value: Any, *, timeout: int) -> Any:
            raise OSError("the cache is down")

        add = set

    shop.blueprint.storage = shop.storage(cache=Broken())
    shop.connect(shop.visitor(), "alice")
    assert shop.visitor().open("/me").text == "alice"
    assert "cache" in caplog.text


def test_wrong_arguments(shop):
    """A cache with coroutines, and a session of none of the kinds, are refused."""
    with pytest.raises(TypeError, match="SimpleMemoryCache has coroutines"):
        shop.storage(cache=SimpleMemoryCache())
    with pytest.raises(TypeError, match="Engine, not AsyncEngine"):
        sqla.SQLAlchemyStorage(shop.OAuth, create_async_engine("sqlite+aiosqlite://"))
