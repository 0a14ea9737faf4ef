"""Login and callback as Flask-Dance documents them, under both libraries."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlencode, urlsplit

import flask
import pytest
from accounts import OLD
from libraries import OURS, Library, each_library
from rooms import FlaskVisitor
from support import query

BASE = "https://app.test"
CALLBACK = f"{BASE}/login/dev/authorized"


def approve(library: Library, url: str) -> str:
    """Return the callback's URL of a login that was allowed."""
    return asyncio.run(library.provider.approve(url))


def code_for(library: Library, state: str, **more: str) -> str:
    """Return the callback of a login that this application has not begun."""
    client_id = library.provider.options()["client_id"]
    asked = {"response_type": "code", "client_id": client_id, "scope": "profile"}
    asked |= {"redirect_uri": CALLBACK, "state": state, **more}
    return approve(library, f"{library.provider.authorization_url}?{urlencode(asked)}")


@each_library
def test_login(library):
    """The login sends the visitor to the provider, and its state to the session."""
    app, _ = library.make(scope=["profile", "email"])
    with app.test_client() as client:
        response = client.get("/login/dev", base_url=BASE)
        assert response.status_code == 302
        asked = query(response.location)
        assert flask.session["dev_oauth_state"] == asked["state"]
    assert response.location.startswith(f"{library.provider.authorization_url}?")
    assert asked["response_type"] == "code" and asked["scope"] == "profile email"
    assert asked["client_id"] == library.provider.options()["client_id"]
    assert asked["redirect_uri"] == CALLBACK
    assert asked["code_challenge_method"] == "S256"


@each_library
def test_fixed_state(library):
    """A fixed `state` is the one that is used, each time."""
    app, _ = library.make(state="for-tests")
    for _ in range(2):
        visitor = FlaskVisitor(app)
        begun = visitor.open("/login/dev").location
        assert query(begun)["state"] == "for-tests"
        assert visitor.open(approve(library, begun)).location == "/"
        assert visitor.open("/me").text == "alice"


@each_library
@pytest.mark.parametrize(
    ("options", "location"),
    [
        ({}, "/"),
        ({"redirect_url": "https://other.test/there"}, "https://other.test/there"),
        ({"redirect_to": "me"}, "/me"),
        ({"redirect_to": "me", "redirect_url": "/there"}, "/there"),
    ],
)
def test_redirect(library, options, location):
    """After the login the visitor goes where the blueprint says."""
    app, _ = library.make(**options)
    assert FlaskVisitor(app).login(library.provider).location == location


@each_library
def test_state_in_the_session(library):
    """A test may put a state into the session, and then come back with it."""
    library.provider.policy.require_pkce = False
    app, _ = library.make(use_pkce=False)
    with app.test_client() as client:
        with client.session_transaction(base_url=BASE) as session:
            session["dev_oauth_state"] = "put-there"
        response = client.get(code_for(library, "put-there"))
        assert (response.status_code, response.location) == (302, "/")
        [issued] = library.provider.tokens
        token = flask.session["dev_oauth_token"]
        assert token["access_token"] == issued.access_token
        assert "dev_oauth_state" not in flask.session
    asked = [call for call in library.provider.calls if call.endpoint == "token"]
    assert [call.form["redirect_uri"] for call in asked] == [CALLBACK]


@each_library
def test_state_of_somebody_else(library):
    """C2: without the state in the session there is no token request."""
    app, _ = library.make()
    page = FlaskVisitor(app).open(f"{CALLBACK}?code=secret-code&state=made-up")
    assert page.status != 200 and library.provider.count("token") == 0
    # Flask-Dance sends the visitor to the login again; we say that it has failed.
    assert page.location == (None if library.root == OURS else "/login/dev")


def elsewhere(app: flask.Flask, **kept: str) -> FlaskVisitor:
    """Return a visitor with whom Flask-Dance has begun a login: in the session."""
    visitor = FlaskVisitor(app)
    with visitor.client.session_transaction(base_url=BASE) as session:
        session.update({f"dev_oauth_{name}": value for name, value in kept.items()})
    return visitor


def begun_by_flask_dance(library: Library) -> tuple[dict[str, str], str]:
    """Begin a login with the real Flask-Dance; return its session, and the callback."""
    theirs = Library("flask_dance", library.provider)
    visitor = FlaskVisitor(theirs.make()[0])
    begun = visitor.open("/login/dev").location
    with visitor.client.session_transaction(base_url=BASE) as session:
        names = ("state", "code_verifier")
        return {n: session[f"dev_oauth_{n}"] for n in names}, approve(theirs, begun)


def test_begun_under_flask_dance(library):
    """DESIGN 6: a login that Flask-Dance began may end here, once."""
    kept, callback = begun_by_flask_dance(library)
    app, _ = library.make()
    visitor = elsewhere(app, **kept)
    assert visitor.open(callback).location == "/"
    assert visitor.open("/me").text == "alice"
    assert visitor.open(callback).status == 400
    with visitor.client.session_transaction(base_url=BASE) as session:
        assert sorted(session) == ["dev_oauth_token"]
    # An older cookie, put back:
    assert elsewhere(app, **kept).open(callback).status == 400
    assert library.provider.count("token") == 1


@pytest.mark.parametrize("missing", ["state", "code_verifier"])
def test_begun_under_flask_dance_without(library, missing):
    """C2 C12: without the state or the verifier nothing is accepted."""
    kept, callback = begun_by_flask_dance(library)
    del kept[missing]
    app, _ = library.make()
    assert elsewhere(app, **kept).open(callback).status == 400
    assert library.provider.count("token") == 0


def test_state_of_another_login(library):
    """C2 C3: another one's callback is none of the login that is under way."""
    kept, callback = begun_by_flask_dance(library)
    _, foreign = begun_by_flask_dance(library)
    app, _ = library.make()
    visitor = elsewhere(app, **kept)
    for url in (foreign, f"{callback}x", callback.replace("state=", "state=%E2%9C%93")):
        assert visitor.open(url).status == 400
    assert library.provider.count("token") == 0
    assert visitor.open(callback).location == "/"


def test_own_state_needs_its_cookie(library):
    """DESIGN 6: the state that we write down is no login without our own cookie."""
    app, _ = library.make(use_pkce=False)
    library.provider.policy.require_pkce = False
    visitor = FlaskVisitor(app)
    callback = approve(library, visitor.open("/login/dev").location)
    [name] = visitor.attempts
    visitor.client.delete_cookie(name, domain="app.test", path="/login/dev")
    assert visitor.attempts == []
    assert visitor.open(callback).status == 400
    assert library.provider.count("token") == 0


@each_library
def test_authorized_signal(library):
    """`oauth_authorized` brings the blueprint and the token; then it is stored."""
    app, blueprint = library.make()
    heard = []

    def receive(sender: object, token: dict[str, object]) -> None:
        heard.append((sender, token["access_token"], blueprint.session.get("user").ok))

    with library.consumer.oauth_authorized.connected_to(receive, blueprint):
        visitor = library.login(app)
    [issued] = library.provider.tokens
    assert heard == [(blueprint, issued.access_token, True)]
    assert visitor.open("/me").text == "alice"


@each_library
def test_authorized_signal_of_another(library):
    """A receiver that is connected to another blueprint hears nothing."""
    app, _ = library.make()
    heard = []
    other = library.blueprint("other")
    with library.consumer.oauth_authorized.connected_to(
        lambda sender, token: heard.append(token), other
    ):
        library.login(app)
    assert heard == []


@each_library
def test_false_from_a_receiver(library):
    """A receiver that returns False keeps the token from being stored."""
    app, blueprint = library.make()
    with library.consumer.oauth_authorized.connected_to(
        lambda sender, token: False, blueprint
    ):
        visitor = library.login(app)
    assert visitor.open("/me").text == "nobody"


@each_library
def test_response_from_a_receiver(library):
    """A response of a receiver is sent, and the token is not stored."""
    app, blueprint = library.make()

    def receive(sender: object, token: object) -> flask.Response:
        return flask.make_response("wait a moment", 202)

    with library.consumer.oauth_authorized.connected_to(receive, blueprint):
        visitor = FlaskVisitor(app)
        page = visitor.login(library.provider)
    assert (page.status, page.text) == (202, "wait a moment")
    assert visitor.open("/me").text == "nobody"


@each_library
def test_before_login_signal(library):
    """`oauth_before_login` brings the URL; what a receiver returns is not used."""
    app, blueprint = library.make()
    heard = []

    def receive(sender: object, url: str) -> flask.Response:
        flask.session["going"] = "to the provider"
        heard.append((sender, url))
        return flask.make_response("not this")

    with library.consumer.oauth_before_login.connected_to(receive, blueprint):
        visitor = FlaskVisitor(app)
        page = visitor.open("/login/dev")
    assert page.status == 302 and heard == [(blueprint, page.location)]
    with visitor.client.session_transaction(base_url=BASE) as session:
        assert session["going"] == "to the provider"


@each_library
@pytest.mark.parametrize("answer", [None, "please try again"])
def test_error_signal(library, answer):
    """`oauth_error` has three keywords; its response is sent, else a redirect."""
    app, blueprint = library.make(redirect_url="/there")
    blueprint.storage = library.storages.MemoryStorage(OLD)
    heard = []

    def receive(
        sender: object, error: str, error_description: object, error_uri: object
    ) -> flask.Response | None:
        heard.append((sender, error, error_description, error_uri))
        return flask.make_response(answer, 403) if answer else None

    visitor = FlaskVisitor(app)
    denied = asyncio.run(library.provider.deny(visitor.open("/login/dev").location))
    told = {"error_description": "not today", "error_uri": "https://help.test/"}
    pairs = dict(parse_qsl(urlsplit(denied).query)) | told
    with library.consumer.oauth_error.connected_to(receive, blueprint):
        page = visitor.open(f"{CALLBACK}?{urlencode(pairs)}")
    assert heard == [(blueprint, "access_denied", *told.values())]
    if answer:
        assert (page.status, page.text) == (403, answer)
    else:
        assert (page.status, page.location) == (302, "/there")
    with app.test_request_context("/"):
        assert blueprint.token["access_token"] == OLD["access_token"]


@each_library
def test_error_without_a_state(library):
    """C15: an error that names no login of ours is told all the same, and no more."""
    app, blueprint = library.make()
    heard = []
    told = {
        "error": "unauthorized_client",
        "error_description": "Who are you?",
        "error_uri": "https://help.test/",
    }
    with library.consumer.oauth_error.connected_to(
        lambda sender, **words: heard.append(words), blueprint
    ):
        page = FlaskVisitor(app).open(f"{CALLBACK}?{urlencode(told)}")
    assert heard == [told] and (page.status, page.location) == (302, "/")
    assert library.provider.count("token") == 0
