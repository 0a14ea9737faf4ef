"""The presets under Flask, and how applications with a preset are tested."""

from __future__ import annotations

import inspect
import pkgutil
import time
from importlib import import_module
from typing import Any

import flask
import pytest
import quart
from flask import Flask, redirect, url_for
from libraries import Library, each_library
from rooms import FlaskVisitor
from support import query

import quart_dance.contrib
from quart_dance.flask import contrib
from quart_dance.flask.consumer import OAuth2ConsumerBlueprint
from quart_dance.flask.consumer.storage import MemoryStorage

PRESETS = [m.name for m in pkgutil.iter_modules(quart_dance.contrib.__path__)]
each_preset = pytest.mark.parametrize("name", PRESETS)
FAKE = {"access_token": "fake-token"}


def preset(name: str) -> tuple[Any, Any]:
    """Return a factory under Quart, and the same one under Flask."""
    module = import_module(f"quart_dance.contrib.{name}")
    factory = f"make_{name}_blueprint"
    return getattr(module, factory), getattr(contrib, factory)


def test_every_preset_is_there():
    """Each preset has its two names, and nothing else is named."""
    names = [n for p in PRESETS for n in (p, f"make_{p}_blueprint")]
    assert len(PRESETS) >= 2 and sorted(contrib.__all__) == sorted(names)


@each_preset
def test_signature(name):
    """A factory takes what its Quart twin takes, and makes a blueprint of Flask's."""
    ours, theirs = preset(name)
    assert inspect.signature(theirs) == inspect.signature(ours)
    assert theirs.__doc__ == ours.__doc__
    blueprint = theirs("the-id", "the-secret", storage=None)
    assert type(blueprint) is OAuth2ConsumerBlueprint
    assert isinstance(blueprint, flask.Blueprint)
    assert not isinstance(blueprint, quart.Blueprint)


@each_preset
def test_configuration(name):
    """What a preset knows of its provider is the same under both frameworks."""
    ours, theirs = (make(name=f"my-{name}") for make in preset(name))
    assert theirs.from_config == ours.from_config
    for option in ours.option_names():
        assert getattr(theirs, option) == getattr(ours, option), option
    assert theirs.name == ours.name == f"my-{name}"


@each_preset
def test_login(name):
    """The login works with what the application's configuration says."""
    upper = name.upper()
    app = Flask(__name__)
    app.secret_key = "the secret key of the tests"
    app.config[f"{upper}_OAUTH_CLIENT_ID"] = "from-the-config"
    app.config[f"{upper}_OAUTH_CLIENT_SECRET"] = "its-secret"
    _, make = preset(name)
    blueprint = make()
    app.register_blueprint(blueprint, url_prefix="/login")
    location = FlaskVisitor(app).open(f"/login/{name}").location
    assert location.startswith(blueprint.authorization_url)
    assert query(location)["client_id"] == "from-the-config"
    uri = query(location)["redirect_uri"]
    assert uri == f"https://app.test/login/{name}/authorized"


@each_preset
def test_session_of_each_framework(name):
    """A preset's session under Flask knows no blueprint of Quart's, and vice versa."""
    of_quart = getattr(import_module(f"quart_dance.contrib.{name}"), name)
    of_flask = getattr(contrib, name)
    app = Flask(__name__)
    app.register_blueprint(preset(name)[1](storage=MemoryStorage(FAKE)))
    with app.app_context():
        assert of_flask.token == FAKE
        with pytest.raises(RuntimeError):
            of_quart._get_current_object()


def github_app(library: Library, **options: Any) -> tuple[Flask, Any]:
    """Return the application that Flask-Dance's quick start is about."""
    module = library.contrib("github")
    known = library.provider.options()
    app = Flask(__name__)
    app.secret_key = "the secret key of the tests"
    app.config["GITHUB_OAUTH_CLIENT_ID"] = known["client_id"]
    app.config["GITHUB_OAUTH_CLIENT_SECRET"] = known["client_secret"]
    blueprint = module.make_github_blueprint(
        session_class=library.session_class(), **options
    )
    app.register_blueprint(blueprint, url_prefix="/login")
    if library.is_ours:
        library.provider.install(app)

    @app.get("/")
    def index() -> Any:
        if not module.github.authorized:
            return redirect(url_for("github.login"))
        answer = module.github.get("/user")
        return answer.json()["login"] if answer.ok else f"GitHub says {answer}"

    return app, blueprint


@each_library
def test_quick_start(library):
    """GitHub: to the login, there and back, and the API knows who it is."""
    library.provider.policy.require_pkce = False  # theirs has no option for it
    app, _ = github_app(library)
    visitor = FlaskVisitor(app)
    assert visitor.open("/").location == "/login/github"
    assert visitor.login(library.provider, path="/login/github").location == "/"
    assert visitor.open("/").text == "alice"


@each_library
def test_storage_of_a_test(library, monkeypatch):
    """A test may put a storage of its own in the place of the blueprint's."""
    app, blueprint = github_app(library)
    usual = blueprint.storage
    storages = library.storages
    with monkeypatch.context() as patch:
        patch.setattr(blueprint, "storage", storages.MemoryStorage())
        page = FlaskVisitor(app).open("/")
        assert (page.status, page.location) == (302, "/login/github")
        token = library.provider.issue_token()
        patch.setattr(blueprint, "storage", storages.MemoryStorage(token))
        assert FlaskVisitor(app).open("/").text == "alice"
        patch.setattr(blueprint, "storage", storages.MemoryStorage(FAKE))
        assert FlaskVisitor(app).open("/").text.startswith("GitHub says <Response [401")
    assert blueprint.storage is usual
    assert FlaskVisitor(app).open("/").location == "/login/github"


@each_library
def test_token_that_a_test_puts_there(library):
    """A test may log its client in by putting a token into the session."""
    app, _ = github_app(library)
    visitor = FlaskVisitor(app)
    token = {**library.provider.issue_token(), "expires_in": "3600"}
    token["expires_at"] = time.time() + 3600
    with visitor.client.session_transaction(base_url="https://app.test") as session:
        session["github_oauth_token"] = token
    assert visitor.open("/").text == "alice"


@each_library
def test_request_context(library):
    """Within a request that no client made, the preset's session is the visitor's."""
    module = library.contrib("github")
    token = library.provider.issue_token("bob")
    app, _ = github_app(library, storage=library.storages.MemoryStorage(token))
    with pytest.raises((RuntimeError, AttributeError)):
        assert module.github.authorized
    with app.test_request_context("/"):
        app.preprocess_request()
        assert module.github.authorized is True
        assert module.github.get("/user").json()["login"] == "bob"


@each_library
def test_two_applications(library):
    """Each of two applications has its own GitHub, also within one another."""
    module = library.contrib("github")
    apps = []
    for person in ("alice", "bob"):
        token = library.provider.issue_token(person)
        storage = library.storages.MemoryStorage(token)
        apps.append(github_app(library, storage=storage)[0])
    with apps[0].test_request_context("/"):
        apps[0].preprocess_request()
        with apps[1].test_request_context("/"):
            apps[1].preprocess_request()
            assert module.github.get("/user").json()["login"] == "bob"
        assert module.github.get("/user").json()["login"] == "alice"


def test_two_blueprints_of_one_preset():
    """With two blueprints of GitHub `github` names neither, and says so."""
    app = Flask(__name__)
    for name in ("github", "enterprise"):
        app.register_blueprint(contrib.make_github_blueprint(name=name))
    with (
        app.app_context(),
        pytest.raises(RuntimeError, match=r"2 blueprints of github"),
    ):
        contrib.github.get("/user")
