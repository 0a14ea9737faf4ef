"""What docs/flask.md says of the differences is so, of either library."""

from __future__ import annotations

import flask
import pytest
from flask_login import current_user
from libraries import each_library
from rooms import FlaskVisitor
from shop import made_up
from support import query

from quart_dance.consumer.runtime import runtime
from quart_dance.errors import ForeignOriginError, NotAuthorizedError


@each_library
def test_pkce(library):
    """PKCE is off there, and on here."""
    known = library.provider.options()
    del known["revocation_url"]
    blueprint = library.consumer.OAuth2ConsumerBlueprint("dev", __name__, **known)
    location = FlaskVisitor(library.app(blueprint)).open("/login/dev").location
    assert ("code_challenge" in query(location)) is library.is_ours


@each_library
def test_two_tabs(library):
    """There the second tab ends the first one's login; here both succeed."""
    app, _ = library.make()
    visitor = FlaskVisitor(app)
    urls = [visitor.open("/login/dev").location for _ in range(2)]
    assert (len(visitor.attempts) == 2) is library.is_ours
    assert len({query(url)["state"] for url in urls}) == 2


@each_library
def test_expired(library):
    """There an expired token counts; here it does, if it can be refreshed."""
    storage = library.storages.MemoryStorage()
    app, blueprint = library.make(storage=storage)
    with app.test_request_context("/"):
        blueprint.token = {"access_token": "abc", "expires_in": 1}
        if library.is_ours:
            now = runtime(app).clock
            runtime(app).clock = lambda: now() + 3600
        assert blueprint.session.authorized is not library.is_ours


@each_library
def test_call_without_a_token(library):
    """There it is sent without one; here it raises."""
    app, blueprint = library.make()
    with app.test_request_context("/"):
        if library.is_ours:
            with pytest.raises(NotAuthorizedError):
                blueprint.session.get("user")
        else:
            assert blueprint.session.get("user").status_code == 401
    assert library.provider.count("user") == (0 if library.is_ours else 1)


@each_library
def test_foreign_host(library):
    """There the token goes wherever it is told to; here it does not."""
    token = library.provider.issue_token()
    app, blueprint = library.make(storage=library.storages.MemoryStorage(token))
    with app.test_request_context("/"):
        if library.is_ours:
            with pytest.raises(ForeignOriginError):
                blueprint.session.get("https://elsewhere.test/user")
        else:
            assert blueprint.session.get("https://elsewhere.test/user").ok
    assert len(library.provider.calls) == (0 if library.is_ours else 1)


@each_library
def test_argument_and_configuration(library):
    """There the configuration wins, here the argument."""
    blueprint = library.blueprint(client_id="argument")
    blueprint.from_config["client_id"] = "DEV_ID"
    app = library.app(blueprint)
    app.config["DEV_ID"] = "configuration"
    location = FlaskVisitor(app).open("/login/dev").location
    wins = "argument" if library.is_ours else "configuration"
    assert query(location)["client_id"] == wins


@each_library
def test_shape_of_a_token(library):
    """Of `scope` and `expires_in`: a list and a countdown there."""
    app, blueprint = library.make(storage=library.storages.MemoryStorage())
    library.login(app)
    with app.test_request_context("/"):
        token = blueprint.token
    assert token["scope"] == ("profile" if library.is_ours else ["profile"])
    assert (token["expires_in"] == 3600) is library.is_ours
    assert token["expires_at"] > 1_700_000_000


@each_library
def test_transaction(shop):
    """There storing a token commits what the application has not committed."""
    storage = shop.storage()
    with shop.app.test_request_context("/"):
        shop.db.session.add(shop.User(id=3))
        storage.set(shop.blueprint, made_up("token"))
        shop.db.session.rollback()
        found = shop.db.session.get(shop.User, 3)
    assert (found is None) is shop.library.is_ours


@each_library
def test_nobody(shop):
    """There storing a token for nobody deletes everybody's."""
    storage = shop.storage()
    with shop.app.test_request_context("/"):
        storage.set(shop.blueprint, made_up("ada's"), user_id=1)
        storage.set(shop.blueprint, made_up("nobody's"))
    kept = [(1, "ada's")] if shop.library.is_ours else []
    assert shop.rows() == [(None, "nobody's"), *kept]


@each_library
def test_reading_for_nobody(shop):
    """There reading a token raises where a user is required; here there is none."""
    shop.blueprint.storage = shop.storage(user=current_user)
    with shop.app.test_request_context("/"):
        if shop.library.is_ours:
            assert shop.blueprint.token is None
        else:
            with pytest.raises(ValueError):
                assert shop.blueprint.token


@each_library
def test_config(library):
    """There `config` is one dict for all requests."""
    app, blueprint = library.make(storage=library.storages.MemoryStorage())
    with app.test_request_context("/"):
        blueprint.config["user_id"] = 1
    with app.test_request_context("/"):
        assert ("user_id" in blueprint.config) is not library.is_ours


@each_library
def test_other_arguments(library):
    """There unknown arguments go to requests-oauthlib's session."""
    if library.is_ours:
        with pytest.raises(TypeError, match="client"):
            library.blueprint(client=object())
        with pytest.raises(TypeError, match="cookie_policy"):
            library.blueprint(cookie_policy="any")
    else:
        assert library.blueprint(client=None, cookie_policy="any").kwargs


@each_library
def test_head(library):
    """A HEAD begins a login there, a POST nowhere."""
    app, _ = library.make()
    visitor = FlaskVisitor(app)
    status = visitor.open("/login/dev", method="HEAD").status
    assert status == (405 if library.is_ours else 302)
    assert visitor.open("/login/dev", method="POST").status == 405


@each_library
def test_responses(library):
    """Of a response and of a session: what is named otherwise, or not at all."""
    token = library.provider.issue_token()
    app, blueprint = library.make(storage=library.storages.MemoryStorage(token))
    with app.test_request_context("/"):
        session = blueprint.session
        response = session.get("user")
        assert str(response.url) == f"{library.provider.base_url}user"
        for name in ("mount", "headers", "params", "auth", "hooks"):
            assert hasattr(session, name) is not library.is_ours
        pairs = [("a", "1"), ("a", "2")]
        form = session.post(
            "echo", data={"a": ["1", "2"]} if library.is_ours else pairs
        )
        assert form.json()["body"] == "a=1&a=2"
    assert hasattr(response, "iter_content") is not library.is_ours
    assert not flask.has_request_context()
