"""An application changes its imports: what Flask-Dance has stored goes on working."""

from __future__ import annotations

import asyncio
from typing import Any

import flask
import pytest
from accounts import SyncAccounts
from flask_login import current_user
from libraries import OURS, THEIRS, Library, old_clock
from rooms import FlaskVisitor
from shop import Shop

from quart_dance.consumer.runtime import runtime

pytestmark = old_clock
ways = pytest.mark.parametrize(("before", "after"), [(THEIRS, OURS), (OURS, THEIRS)])


def move(visitor: FlaskVisitor, app: flask.Flask) -> FlaskVisitor:
    """Return the same browser, at the application that has taken over."""
    moved = FlaskVisitor(app)
    with visitor.client.session_transaction(base_url="https://app.test") as session:
        kept = dict(session)
    with moved.client.session_transaction(base_url="https://app.test") as session:
        session.update(kept)
    return moved


def become(user: str) -> str:
    """Let a user log in."""
    flask.session["user"] = user
    return user


@ways
def test_session(dev_provider, before, after):
    """A visitor's token is in the session under the same key, in the same shape."""
    old, new = Library(before, dev_provider), Library(after, dev_provider)
    visitor = move(old.login(old.make()[0]), new.make()[0])
    assert visitor.open("/me").text == "alice"
    assert dev_provider.count("token") == 1


@ways
def test_table(dev_provider, init_db, tmp_path, before, after):
    """The table that one has made, the other one uses."""
    url = f"sqlite:///{tmp_path}/shop.db"
    old = Shop(Library(before, dev_provider), url, init_db)
    old.blueprint.storage = old.storage(user_id=1)
    old.connect(old.visitor(), "alice")
    new = Shop(Library(after, dev_provider), url, init_db)
    new.blueprint.storage = new.storage(user_id=1)
    assert new.visitor().open("/me").text == "alice"
    new.connect(new.visitor(), "bob")
    assert new.rows() == [(1, "bob")]
    assert old.visitor().open("/me").text == "bob"


def test_expired_token_of_flask_dance(dev_provider):
    """A token that Flask-Dance stored, scopes in a list, is refreshed here."""
    old, new = Library(THEIRS, dev_provider), Library(OURS, dev_provider)
    app, blueprint = new.make()
    visitor = move(old.login(old.make()[0]), app)
    dev_provider.expire_access_tokens()
    now = runtime(app).clock
    runtime(app).clock = lambda: now() + 3700
    assert visitor.open("/me").text == "alice"
    assert dev_provider.count("token") == 2
    with visitor.client.session_transaction(base_url="https://app.test") as session:
        token: dict[str, Any] = session["dev_oauth_token"]
    assert token["scope"] in ("profile", ["profile"])


def test_login_under_way(dev_provider):
    """DESIGN 6: who was at the provider during the change comes back logged in."""
    old, new = Library(THEIRS, dev_provider), Library(OURS, dev_provider)
    visitor = FlaskVisitor(old.make()[0])
    begun = visitor.open("/login/dev").location
    callback = asyncio.run(dev_provider.approve(begun))
    moved = move(visitor, new.make()[0])
    assert moved.open(callback).location == "/"
    assert moved.open("/me").text == "alice"


@pytest.mark.parametrize(
    ("begun_by", "texts"),
    [(THEIRS, ("nobody", "alice")), (OURS, ("nobody", "nobody"))],
)
def test_login_under_way_and_another_user(dev_provider, begun_by, texts):
    """C22: what Flask-Dance began is stored for who is there in the end; ours fails."""
    app, _ = Library(OURS, dev_provider).make(storage=SyncAccounts())
    begins = app if begun_by == OURS else Library(THEIRS, dev_provider).make()[0]
    app.add_url_rule("/be/<user>", "be", become)
    begins.add_url_rule("/be/<user>", "become", become)
    visitor = FlaskVisitor(begins)
    visitor.open("/be/ada")
    begun = visitor.open("/login/dev").location
    callback = asyncio.run(dev_provider.approve(begun))
    moved = visitor if begun_by == OURS else move(visitor, app)
    moved.open("/be/bob")
    moved.open(callback)
    seen = []
    for user in ("ada", "bob"):
        moved.open(f"/be/{user}")
        seen.append(moved.open("/me").text)
    assert tuple(seen) == texts


@pytest.mark.parametrize("kind", ["session", "memory", "table"])
def test_storages_of_flask_dance(dev_provider, init_db, tmp_path, kind):
    """A storage of Flask-Dance's own, still in use, does in our blueprint as well."""
    theirs = Library(THEIRS, dev_provider)
    shop = Shop(Library(OURS, dev_provider), f"sqlite:///{tmp_path}/shop.db", init_db)
    session = theirs.module("consumer.storage.session").SessionStorage
    table = theirs.module("consumer.storage.sqla").SQLAlchemyStorage
    shop.blueprint.storage = {
        "session": session,
        "memory": theirs.storages.MemoryStorage,
        "table": table(shop.OAuth, shop.db.session, user=current_user),
    }[kind]
    visitor = shop.visitor(1)
    shop.connect(visitor, "alice")
    assert visitor.open("/me").text == "alice"
    assert shop.visitor(2).open("/me").text == (
        "alice" if kind == "memory" else "nobody"
    )
    dev_provider.expire_access_tokens()
    now = runtime(shop.app).clock
    runtime(shop.app).clock = lambda: now() + 3700
    assert visitor.open("/me").text == "alice"
    assert dev_provider.count("token") == 2
