"""SQLite in memory, whose only connection the application and the storage share."""

from __future__ import annotations

from typing import Any

import pytest
from libraries import Library
from shop import Shop, made_up
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import scoped_session, sessionmaker

from quart_dance.errors import StorageError
from quart_dance.flask.consumer import oauth_authorized
from quart_dance.flask.consumer.storage.sqla import SQLAlchemyStorage


@pytest.fixture
def shop(library: Library, init_db: Any) -> Shop:
    """Give an application with two users, whose database is in memory."""
    made = Shop(library, "sqlite://", init_db)
    made.blueprint.storage = made.storage()
    return made


def users(shop: Shop) -> Any:
    """Return how many users there are, now that a request is over."""
    with shop.app.app_context():
        return shop.db.session.scalar(select(func.count()).select_from(shop.User))


@pytest.mark.parametrize("use", ["read", "set", "delete", "refresh"])
def test_work_of_the_application(shop, use):
    """What the application has flushed is still there, whatever a token is used for."""
    blueprint, session = shop.blueprint, shop.blueprint.session
    uses: dict[str, Any] = {
        "read": lambda: session.token["access_token"],
        "set": lambda: blueprint.set_token(made_up("new")),
        "delete": blueprint.delete_token,
        "refresh": lambda: session.get("user").json()["login"],
    }
    issued = shop.library.provider.issue_token("alice")
    with shop.app.test_request_context("/"):
        blueprint.token = {**issued, "expires_at": 1 if use == "refresh" else None}
        shop.db.session.add(shop.User(id=3))
        shop.db.session.flush()
        brought = uses[use]()
        shop.db.session.commit()
    assert users(shop) == 3
    rows = {"set": [(None, "new")], "delete": []}.get(use, [(None, "alice")])
    assert shop.rows() == rows
    assert use != "refresh" or brought == "alice"


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_one_transaction(shop, end):
    """A token stored beside what is not committed stays, or goes, with that."""
    storage, blueprint, session = (
        shop.blueprint.storage,
        shop.blueprint,
        shop.db.session,
    )
    with shop.app.test_request_context("/"):
        session.add(shop.User(id=3))
        session.flush()
        storage.set(blueprint, made_up("token"))
        assert storage.get(blueprint) == made_up("token")
        getattr(session, end)()
    stays = end == "commit"
    assert (users(shop), shop.rows()) == (2 + stays, [(None, "token")] * stays)


def test_nothing_to_commit(shop):
    """A session that has only read holds nothing up: the token is stored at once."""
    with shop.app.test_request_context("/"):
        assert shop.db.session.get(shop.User, 1).id == 1
        shop.blueprint.token = made_up("token")
        shop.db.session.rollback()
    assert shop.rows() == [(None, "token")]


def test_statement_that_fails(shop):
    """A statement of ours that fails takes nothing of the application's with it."""
    storage: Any = shop.storage(user_id=99)  # there is no such user
    with shop.app.test_request_context("/"):
        shop.db.session.execute(shop.db.text("PRAGMA foreign_keys = ON"))
        shop.db.session.add(shop.User(id=3))
        shop.db.session.flush()
        with pytest.raises(StorageError, match="FOREIGN KEY"):
            storage.set(shop.blueprint, made_up("token"))
        shop.db.session.commit()
    assert (users(shop), shop.rows()) == (3, [])


def test_sign_up_without_a_commit(shop):
    """A receiver may log somebody whom it has flushed, and commit in the end."""
    shop.blueprint.storage = shop.storage(user_id=lambda: 3)

    def sign_up(sender: Any, token: Any) -> None:
        shop.db.session.add(shop.User(id=3))
        shop.db.session.flush()

    @shop.app.after_request
    def commit(response: Any) -> Any:
        shop.db.session.commit()
        return response

    with oauth_authorized.connected_to(sign_up, shop.blueprint):
        shop.connect(shop.visitor(), "alice")
    assert (users(shop), shop.rows()) == (3, [(3, "alice")])


@pytest.mark.parametrize(
    "kind", ["Session", "scoped_session", "Engine", "sessionmaker"]
)
def test_plain_sqlalchemy(shop, kind):
    """So it is with an engine of one's own; where none says which session, it fails."""
    engine = create_engine("sqlite://")  # one connection a thread
    shop.db.metadata.create_all(engine)
    maker = sessionmaker(engine)
    scoped = scoped_session(maker)
    given: Any = {
        "Session": scoped(),
        "scoped_session": scoped,
        "Engine": engine,
        "sessionmaker": maker,
    }[kind]
    storage: Any = SQLAlchemyStorage(shop.OAuth, given)
    storage.set(shop.blueprint, made_up("before"))
    scoped.add(shop.User(id=1))
    scoped.flush()
    if kind in ("Engine", "sessionmaker"):
        with pytest.raises(StorageError, match="commit it first"):
            storage.get(shop.blueprint)
    else:
        storage.set(shop.blueprint, made_up("token"))
    scoped.commit()
    assert storage.get(shop.blueprint) is not None
    assert scoped.get(shop.User, 1) is not None
    scoped.remove()
    engine.dispose()
