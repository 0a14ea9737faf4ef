"""What Flask-Dance documents of blueprints and sessions holds under both libraries."""

from __future__ import annotations

import asyncio
import io

import flask
import pytest
from flask import Flask
from libraries import each_library
from rooms import FlaskVisitor
from support import query
from werkzeug.middleware.proxy_fix import ProxyFix

OPTIONS = {
    "client_id": "the-id",
    "client_secret": "the-secret",
    "scope": "one,two",
    "base_url": "https://api.test/v1/",
    "authorization_url": "https://login.test/authorize",
    "authorization_url_params": {"prompt": "consent"},
    "token_url": "https://login.test/token",
    "token_url_params": {"audience": "me"},
}


@each_library
def test_attributes(library):
    """A blueprint, and its session, tell what they were made with, anywhere."""
    blueprint = library.consumer.OAuth2ConsumerBlueprint("dev", __name__, **OPTIONS)
    assert isinstance(blueprint, flask.Blueprint)
    assert (blueprint.client_id, blueprint.client_secret) == ("the-id", "the-secret")
    assert blueprint.authorization_url == "https://login.test/authorize"
    assert blueprint.authorization_url_params == {"prompt": "consent"}
    assert blueprint.token_url == "https://login.test/token"
    assert blueprint.token_url_params == {"audience": "me"}
    assert blueprint.session.scope == "one,two"
    assert blueprint.session.base_url == "https://api.test/v1/"
    assert blueprint.session.client_id == "the-id"
    blueprint.client_id = "another-id"
    assert blueprint.client_id == blueprint.session.client_id == "another-id"


def test_attributes_of_a_session(library):
    """The session tells the rest of the blueprint's configuration as well."""
    session = library.consumer.OAuth2ConsumerBlueprint(
        "dev", __name__, auto_refresh_url="https://login.test/token", **OPTIONS
    ).session
    assert session.client_secret == "the-secret"
    assert session.authorization_url == "https://login.test/authorize"
    assert session.token_url == session.auto_refresh_url == "https://login.test/token"
    assert session.token_url_params == {"audience": "me"}
    assert repr(session) == "<OAuth2Session of 'dev'>"


@each_library
def test_token_at_hand(library):
    """`authorized` is a bool, `load_token` loads, `access_token` is a string."""
    app, blueprint = library.make()
    with app.test_request_context("/"):
        app.preprocess_request()
        session = blueprint.session
        assert session.authorized is False and session.load_token() is False
        assert session.token is None and session.access_token is None
        blueprint.token = {"access_token": "abc", "token_type": "bearer"}
        session = blueprint.session
        assert session.authorized is True and session.load_token() is True
        assert session.access_token == "abc" == session.token["access_token"]
        assert flask.session["dev_oauth_token"]["access_token"] == "abc"
        del blueprint.token
        assert blueprint.token is None and blueprint.session.authorized is False
        assert "dev_oauth_token" not in flask.session


@each_library
def test_expiry_of_a_token_that_is_set(library):
    """`expires_in` of a token that is assigned becomes a time."""
    app, blueprint = library.make()
    with app.test_request_context("/"):
        blueprint.token = {"access_token": "abc", "expires_in": 3600}
        assert 3590 < blueprint.token["expires_in"] <= 3600
        assert blueprint.token["expires_at"] > 1_700_000_000


@each_library
def test_api(library):
    """Relative URLs lie under `base_url`; an answer has `ok` and its JSON."""
    app, blueprint = library.make()

    @app.get("/calls")
    def calls() -> object:
        session = blueprint.session
        answers = [
            session.get("user"),
            session.request("GET", "user"),
            session.get("no-such-thing"),
            session.post("echo", json={"a": 1}),
            session.put("echo", data={"b": "2"}),
            session.patch("echo", data="text", headers={"Content-Type": "text/plain"}),
            session.post("echo", data=io.BytesIO(b"from a file")),
            session.delete("echo", params={"c": "3"}),
        ]
        return {
            "ok": [answer.ok for answer in answers],
            "bodies": [answer.json()["body"] for answer in answers[3:]],
            "query": answers[-1].json()["query"],
            "status": answers[2].status_code,
        }

    found = flask.json.loads(library.login(app).open("/calls").text)
    assert found["ok"] == [True, True, False, True, True, True, True, True]
    assert [body.replace(" ", "") for body in found["bodies"]] == [
        '{"a":1}',
        "b=2",
        "text",
        "fromafile",
        "",
    ]
    assert (found["query"], found["status"]) == ({"c": "3"}, 404)


@each_library
@pytest.mark.parametrize("follow", [True, False])
def test_allow_redirects(library, follow):
    """`allow_redirects` says whether a redirect is followed."""
    app, blueprint = library.make()

    @app.get("/elsewhere")
    def elsewhere() -> str:
        url = f"redirect?to={library.provider.base_url}user"
        answer = blueprint.session.get(url, allow_redirects=follow)
        return f"{answer.status_code} {answer.ok}"

    page = library.login(app).open("/elsewhere")
    assert page.text == ("200 True" if follow else "302 True")


@each_library
def test_urls(library):
    """The rules and the endpoints are named after the blueprint, or as is asked for."""
    usual = library.blueprint("one")
    app = library.app(usual)
    app.register_blueprint(
        library.blueprint(
            "two", login_url="/{bp.name}/in", authorized_url="/back/{bp.name}"
        )
    )
    rules = {rule.endpoint: rule.rule for rule in app.url_map.iter_rules()}
    assert rules["one.login"] == "/login/one"
    assert rules["one.authorized"] == "/login/one/authorized"
    assert (rules["two.login"], rules["two.authorized"]) == ("/two/in", "/back/two")


@each_library
def test_rule_kwargs(library):
    """`rule_kwargs` reach both rules."""
    app = Flask(__name__, static_folder=None, host_matching=True)
    app.register_blueprint(library.blueprint(rule_kwargs={"host": "login.test"}))
    assert {rule.host for rule in app.url_map.iter_rules()} == {"login.test"}


@each_library
def test_session_class(library):
    """A class of one's own makes the sessions, and its methods are there."""

    class Session(library.module("consumer.requests").OAuth2Session):  # type: ignore[misc]
        def request(self, method, url, data=None, headers=None, **kwargs):
            headers = {**(headers or {}), "X-Made-By": "us"}
            return super().request(method, url, data, headers, **kwargs)

        def name(self) -> str:
            return str(self.get("user").json()["name"])

    app, blueprint = library.make(session_class=Session)
    assert isinstance(blueprint.session, Session)
    app.add_url_rule("/name", "name", lambda: blueprint.session.name())
    assert library.login(app).open("/name").text == "Alice Liddell"
    [call] = [call for call in library.provider.calls if call.endpoint == "user"]
    assert call.headers["X-Made-By"] == "us"


@each_library
@pytest.mark.parametrize("name", ["client_id", "session.client_id"])
def test_from_config(library, name):
    """What `from_config` names is read from the application's configuration."""
    blueprint = library.blueprint(client_id=None)
    blueprint.from_config[name] = "DEV_ID"
    blueprint.from_config["client_secret"] = "DEV_SECRET"
    app = library.app(blueprint)
    app.config.update(DEV_ID="from-the-config", DEV_SECRET="its-secret")
    location = FlaskVisitor(app).open("/login/dev").location
    assert query(location)["client_id"] == "from-the-config"
    with app.test_request_context("/"):
        app.preprocess_request()
        assert blueprint.session.client_id == "from-the-config"


def test_authorization_required(library):
    """The decorator sends a visitor without a token to the login, and back."""
    app, blueprint = library.make()
    decorate = blueprint.session.authorization_required
    app.add_url_rule("/closed", "closed", decorate(lambda: "welcome"))
    page = FlaskVisitor(app).open("/closed")
    assert (page.status, page.location) == (302, "/login/dev?next=/closed")
    assert library.login(app).open("/closed").text == "welcome"


@each_library
def test_proxy(library):
    """Behind a proxy the redirect URI is the one that visitors see."""
    app, _ = library.make()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_host=1)  # type: ignore[method-assign]
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "seen.test"}
    response = app.test_client().get("/login/dev", headers=headers)
    uri = query(response.location)["redirect_uri"]
    assert uri == "https://seen.test/login/dev/authorized"


@each_library
def test_server_name(library):
    """R2: with SERVER_NAME the redirect URI is on that host."""
    app, _ = library.make()
    app.config["SERVER_NAME"] = "app.test"
    location = FlaskVisitor(app, "app.test").open("/login/dev").location
    uri = query(location)["redirect_uri"]
    assert uri == "https://app.test/login/dev/authorized"


def test_token_outside_of_a_context(library):
    """Where there is no application a session knows no token, and says what to do."""
    storage = library.storages.MemoryStorage({"access_token": "abc"})
    session = library.blueprint(storage=storage).session
    with pytest.raises(RuntimeError, match=r"session_for\(user_id=…, app=app\)"):
        session.get("user")


@pytest.mark.parametrize(
    "use",
    [
        lambda blueprint: setattr(blueprint, "token", {"access_token": "abc"}),
        lambda blueprint: blueprint.set_token({"access_token": "abc"}),
        lambda blueprint: delattr(blueprint, "token"),
        lambda blueprint: blueprint.delete_token(),
        lambda blueprint: blueprint.revoke_token(),
        lambda blueprint: blueprint.config.update(user="ada"),
    ],
)
def test_change_outside_of_a_context(library, use):
    """Neither is there anything to change, and no coroutine is left behind."""
    blueprint = library.blueprint(storage=library.storages.MemoryStorage())
    with pytest.raises(RuntimeError, match=r"session_for\(user_id=…, app=app\)"):
        use(blueprint)
    assert blueprint.token is None and dict(blueprint.config) == {}


def test_prefix(library):
    """R3: below a prefix all URLs have it, and so has the cookie of the login."""
    app, blueprint = library.make()
    app.wsgi_app = ProxyFix(app.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
    browser = app.test_client(use_cookies=False)
    headers = {"X-Forwarded-Prefix": "/shop"}
    begun = browser.get("/login/dev", base_url="https://app.test", headers=headers)
    uri = query(begun.location)["redirect_uri"]
    assert uri == "https://app.test/shop/login/dev/authorized"
    assert "Path=/shop/login/dev" in begun.headers["Set-Cookie"]
    callback = asyncio.run(library.provider.approve(begun.location))
    cookie = begun.headers["Set-Cookie"].partition(";")[0]
    headers["Cookie"] = cookie
    path = callback.partition("/shop")[2]
    done = browser.get(path, base_url="https://app.test", headers=headers)
    assert (done.status_code, done.location) == (302, "/shop/")
