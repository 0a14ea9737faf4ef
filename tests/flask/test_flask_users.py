"""Users: Flask-Login's, in a table of Flask-SQLAlchemy's, under both libraries."""

from __future__ import annotations

from typing import Any

import flask
import pytest
from flask_login import AnonymousUserMixin, current_user, login_user
from libraries import OURS, each_library
from shop import Shop, made_up


def ways(shop: Shop) -> dict[str, dict[str, Any]]:
    """Return how a storage may be told whose request it is."""

    def by_id() -> Any:
        return shop.db.session.get(shop.User, current_user.get_id() or 0)

    return {
        "proxy": {"user": current_user},
        "function": {"user": lambda: current_user._get_current_object()},
        "model": {"user": by_id},
        "own class": {"user": current_user, "anon_user": AnonymousUserMixin},
    }


@each_library
@pytest.mark.parametrize("way", ["proxy", "function", "model", "own class"])
def test_each_user_has_a_token(shop, way):
    """Each user has a token, and keeps it over a log-out; a stranger has none."""
    shop.blueprint.storage = shop.storage(**ways(shop)[way])
    ada, bob = shop.visitor(1), shop.visitor(2)
    shop.connect(ada, "alice")
    assert bob.open("/me").text == "nobody"
    shop.connect(bob, "bob")
    assert [ada.open("/me").text, bob.open("/me").text] == ["alice", "bob"]
    assert shop.rows() == [(1, "alice"), (2, "bob")]
    ada.open("/out")
    ada.open("/in/1")
    assert ada.open("/me").text == "alice"
    shop.connect(ada, "bob")  # connects another account in its place
    assert ada.open("/me").text == "bob"
    assert shop.rows() == [(1, "bob"), (2, "bob")]


@pytest.mark.parametrize("attribute", ["id", "get_id"])
def test_user_id(shop, attribute):
    """`user_id` may be a function, of an id or of Flask-Login's text of it."""

    def of_user() -> Any:
        found = getattr(current_user, attribute)
        return found() if callable(found) else found

    shop.blueprint.storage = shop.storage(user_id=of_user)
    ada = shop.visitor(1)
    shop.connect(ada, "alice")
    assert ada.open("/me").text == "alice"
    assert shop.rows() == [(1, "alice")]


@each_library
def test_users_are_not_required(shop):
    """With `user_required=False` those who are not logged in share a token."""
    shop.blueprint.storage = shop.storage(user=current_user, user_required=False)
    shop.connect(shop.visitor(), "bob")
    assert shop.visitor().open("/me").text == "bob"
    assert shop.visitor(1).open("/me").text == "nobody"
    assert shop.rows() == [(None, "bob")]


@each_library
def test_named_user(shop):
    """A user is named in a call of the storage, as an object or as an id."""
    storage, blueprint = shop.storage(), shop.blueprint
    with shop.app.test_request_context("/"):
        ada, bob = (shop.db.session.get(shop.User, number) for number in (1, 2))
        storage.set(blueprint, made_up("ada's"), user=ada)
        storage.set(blueprint, made_up("bob's"), user_id=2)
        assert storage.get(blueprint, user_id=1) == made_up("ada's")
        assert storage.get(blueprint, user=bob) == made_up("bob's")
        storage.delete(blueprint, user=ada)
        assert storage.get(blueprint, user=ada) is None
    assert shop.rows() == [(2, "bob's")]


@each_library
@pytest.mark.parametrize("key", ["user", "user_id"])
def test_config_names_the_user(shop, key):
    """`blueprint.config` names the user where the storage knows none."""
    shop.blueprint.storage = shop.storage()
    with shop.app.test_request_context("/"):
        ada = shop.db.session.get(shop.User, 1)
        shop.blueprint.config[key] = ada if key == "user" else 1
        shop.blueprint.token = made_up("ada's")
        assert shop.blueprint.token["access_token"] == "ada's"
        shop.blueprint.config[key] = None
        assert shop.blueprint.token is None
    assert shop.rows() == [(1, "ada's")]


def test_config_is_of_a_request(shop):
    """What one request has in `blueprint.config` is not in the next one's."""
    shop.blueprint.storage = shop.storage()
    for user_id in (1, 2):
        with shop.app.test_request_context("/"):
            assert "user_id" not in shop.blueprint.config
            shop.blueprint.config["user_id"] = user_id
            shop.blueprint.token = made_up(f"token-of-{user_id}")
    assert shop.rows() == [(1, "token-of-1"), (2, "token-of-2")]
    with pytest.raises(RuntimeError, match="there is no request here"):
        shop.blueprint.config["user_id"] = 1
    assert dict(shop.blueprint.config) == {}


@each_library
def test_no_user(shop):
    """Where a user is required and nobody is logged in, nothing is stored."""
    shop.blueprint.storage = shop.storage(user=current_user)
    stranger = shop.visitor()
    page = stranger.login(shop.library.provider)
    # Flask-Dance goes on as if nothing had happened; here the login has failed.
    assert page.status == (500 if shop.library.root == OURS else 302)
    assert shop.rows() == []
    with shop.app.test_request_context("/"), pytest.raises(ValueError):
        shop.blueprint.storage.set(shop.blueprint, made_up("nobody's"))


@each_library
def test_config_without_a_request(shop):
    """So it does in a command, whose application context has no request."""
    shop.blueprint.storage = storage = shop.storage()
    with shop.app.app_context():
        for user_id in (1, 2):
            storage.set(shop.blueprint, made_up(f"token-of-{user_id}"), user_id=user_id)
        session = shop.blueprint.session
        assert not shop.blueprint.token and not session.token
    with shop.app.app_context():
        shop.blueprint.config["user"] = shop.db.session.get(shop.User, 1)
        assert shop.blueprint.token == made_up("token-of-1")
        del shop.blueprint.config["user"]
        shop.blueprint.config["user_id"] = 2
        assert shop.blueprint.token == made_up("token-of-2")
        del shop.blueprint.token
        assert shop.blueprint.token is None
    assert shop.rows() == [(1, "token-of-1")]


@each_library
def test_login_before_the_commit(shop):
    """A receiver may log a new user in and commit only then."""
    shop.blueprint.storage = shop.storage(user=current_user)

    def receive(sender: Any, token: Any) -> None:
        user = shop.User(name=sender.session.get("user").json()["name"])
        login_user(user)
        shop.db.session.add(user)
        shop.db.session.commit()

    with shop.library.consumer.oauth_authorized.connected_to(receive, shop.blueprint):
        shop.connect(shop.visitor(), "alice")
    assert shop.rows() == [(3, "alice")]


@each_library
def test_login_in_a_receiver(shop):
    """A receiver logs somebody in with what the API says; the token is theirs."""
    shop.blueprint.storage = shop.storage(user=current_user)

    def receive(sender: Any, token: Any) -> None:
        answer = sender.session.get("user")
        assert answer.ok
        user = shop.db.session.get(shop.User, answer.json()["id"])
        login_user(user)

    with shop.library.consumer.oauth_authorized.connected_to(receive, shop.blueprint):
        ada, bob = shop.visitor(), shop.visitor()
        shop.connect(ada, "alice")
        shop.connect(bob, "bob")
    assert [ada.open("/me").text, bob.open("/me").text] == ["alice", "bob"]
    assert shop.rows() == [(1, "alice"), (2, "bob")]


@each_library
def test_receiver_that_stores(shop):
    """A receiver may store the row itself, sign somebody up, and return False."""
    shop.blueprint.storage = shop.storage(user=current_user)
    db = shop.db

    def receive(sender: Any, token: Any) -> Any:
        person = sender.session.get("user").json()
        known = db.select(shop.OAuth).filter_by(
            provider=sender.name, provider_user_id=str(person["id"])
        )
        row = db.session.scalar(known)
        if row is None:
            user = shop.User(name=person["name"])
            row = shop.OAuth(
                provider=sender.name,
                provider_user_id=str(person["id"]),
                token=token,
                user=user,
            )
            db.session.add_all([user, row])
            db.session.commit()
            flask.flash("Welcome!")
        login_user(row.user)
        return False

    with shop.library.consumer.oauth_authorized.connected_to(receive, shop.blueprint):
        first, again = shop.visitor(), shop.visitor()
        shop.connect(first, "alice")
        shop.connect(again, "alice")
    assert [first.open("/me").text, again.open("/me").text] == ["alice", "alice"]
    assert shop.rows() == [(3, "alice")]
    with shop.app.app_context():
        assert db.session.get(shop.User, 3).name == "Alice Liddell"


def test_nobody_is_no_wildcard(shop):
    """S7: who is nobody changes the row of nobody, and no other one."""
    storage, blueprint = shop.storage(), shop.blueprint
    with shop.app.test_request_context("/"):
        storage.set(blueprint, made_up("ada's"), user_id=1)
        storage.set(blueprint, made_up("bob's"), user_id=2)
        storage.set(blueprint, made_up("nobody's"))
        storage.set(blueprint, made_up("nobody's-second"))
        assert storage.get(blueprint) == made_up("nobody's-second")
    others = [(1, "ada's"), (2, "bob's")]
    assert shop.rows() == [(None, "nobody's-second"), *others]
    with shop.app.test_request_context("/"):
        storage.delete(blueprint)
    assert shop.rows() == others
