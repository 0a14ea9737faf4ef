"""Where a blueprint lives: prefixes, names, parents, subdomains."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Blueprint, Quart, g
from support import Visitor, make_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.errors import ConfigurationError
from quart_dance.testing import DevProvider


def make_blueprint(provider: DevProvider, **options: Any) -> OAuth2ConsumerBlueprint:
    return OAuth2ConsumerBlueprint(
        options.pop("name", "dev"), __name__, **{**provider.options(), **options}
    )


def make_bare_app(provider: DevProvider, **config: Any) -> Quart:
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    app.config.update(config)
    provider.install(app)
    return app


@pytest.mark.parametrize(
    ("options", "prefix", "login", "callback"),
    [
        ({}, None, "/dev", "/dev/authorized"),
        ({}, "/login", "/login/dev", "/login/dev/authorized"),
        ({"url_prefix": "/own"}, None, "/own/dev", "/own/dev/authorized"),
        ({"url_prefix": "/own"}, "/login", "/login/dev", "/login/dev/authorized"),
        ({"login_url": "/in"}, "/x", "/x/in", "/x/dev/authorized"),
        ({"login_url": "/in-{bp.name}"}, None, "/in-dev", "/dev/authorized"),
        ({"authorized_url": "/{bp.name}/back"}, None, "/dev", "/dev/back"),
    ],
)
async def test_urls(
    dev_provider: DevProvider,
    options: dict[str, Any],
    prefix: str | None,
    login: str,
    callback: str,
) -> None:
    """`login_url` and `authorized_url` know `{bp.name}` and stand under the prefix."""
    app = make_bare_app(dev_provider)
    blueprint = make_blueprint(dev_provider, **options)
    app.register_blueprint(blueprint, **({"url_prefix": prefix} if prefix else {}))
    visitor = Visitor(app)
    sent = query(await visitor.start(login))
    assert sent["redirect_uri"] == f"https://app.test{callback}"
    response = await visitor.login(dev_provider, path=login)
    assert (response.status_code, response.location) == (302, "/")


async def test_rule_kwargs(dev_provider: DevProvider) -> None:
    """`rule_kwargs` go to both rules, here a host's strict slashes."""
    app, _ = make_app(
        dev_provider,
        rule_kwargs={"strict_slashes": False},
        authorized_url="/{bp.name}/back",
    )
    visitor = Visitor(app)
    assert (await visitor.get("/login/dev/")).status_code == 302
    assert (await visitor.get("/login/dev/back/")).status_code == 400


async def test_url_defaults_and_values(dev_provider: DevProvider) -> None:
    """`url_defaults`, and a prefix with a variable, do not trouble the views."""
    app = make_bare_app(dev_provider)
    blueprint = make_blueprint(dev_provider, url_defaults={"lang": "en"})
    app.register_blueprint(blueprint, url_prefix="/<tenant>")
    visitor = Visitor(app)
    sent = query(await visitor.start("/blue/dev"))
    assert sent["redirect_uri"] == "https://app.test/blue/dev/authorized"
    response = await visitor.login(dev_provider, path="/blue/dev")
    assert (response.status_code, response.location) == (302, "/")


async def test_a_value_preprocessor_may_take_values_away(
    dev_provider: DevProvider,
) -> None:
    """The usual pair of URL processors around a language or a tenant works."""
    app = make_bare_app(dev_provider)
    blueprint = make_blueprint(dev_provider)

    @blueprint.url_value_preprocessor
    def take(endpoint: str | None, values: dict[str, Any] | None) -> None:
        g.tenant = (values or {}).pop("tenant")

    @blueprint.url_defaults
    def put(endpoint: str, values: dict[str, Any]) -> None:
        values.setdefault("tenant", g.tenant)

    app.register_blueprint(blueprint, url_prefix="/<tenant>")
    response = await Visitor(app).login(dev_provider, path="/blue/dev")
    assert (response.status_code, response.location) == (302, "/")


@pytest.mark.parametrize("where", ["constructor", "registration"])
async def test_subdomain(dev_provider: DevProvider, where: str) -> None:
    """R2: a blueprint's subdomain is in its redirect URI, under `SERVER_NAME`."""
    app = Quart(__name__, subdomain_matching=True, static_folder=None)
    app.secret_key = "the secret key of the tests"
    app.config["SERVER_NAME"] = "app.test"
    dev_provider.install(app)
    option = {"subdomain": "auth"}
    if where == "constructor":
        app.register_blueprint(make_blueprint(dev_provider, **option))
    else:
        app.register_blueprint(make_blueprint(dev_provider), **option)
    visitor = Visitor(app, "auth.app.test")
    sent = query(await visitor.start("/dev"))
    assert sent["redirect_uri"] == "https://auth.app.test/dev/authorized"
    assert (await visitor.login(dev_provider, path="/dev")).status_code == 302


@pytest.mark.parametrize(
    ("depth", "name", "path"),
    [
        (0, None, "/dev"),
        (0, "renamed", "/dev"),
        (1, None, "/p1/dev"),
        (1, "renamed", "/p1/dev"),
        (2, None, "/p2/p1/dev"),
    ],
)
async def test_nested_and_renamed(
    dev_provider: DevProvider, depth: int, name: str | None, path: str
) -> None:
    """Endpoints come from the name under which a blueprint is registered."""
    app = make_bare_app(dev_provider)
    blueprint = make_blueprint(dev_provider)

    @blueprint.get("/private")
    @blueprint.session.authorization_required
    async def private() -> str:
        return "private"

    options = {"name": name} if name else {}
    inner: Any = blueprint
    for level in range(1, depth + 1):
        outer = Blueprint(f"parent{level}", __name__, url_prefix=f"/p{level}")
        outer.register_blueprint(inner, **options)
        inner, options = outer, {}
    app.register_blueprint(inner, **options)
    visitor = Visitor(app)
    prefix = path.removesuffix("/dev")
    response = await visitor.get(f"{prefix}/private")
    assert response.location == f"{path}?next={prefix}/private"
    response = await visitor.login(dev_provider, path=str(response.location))
    assert response.location == f"{prefix}/private"
    response = await visitor.get(f"{prefix}/private")
    assert await response.get_data() == b"private"


async def test_one_blueprint_twice_in_one_application(
    dev_provider: DevProvider,
) -> None:
    """One blueprint under two names: each login comes back where it began."""
    app = make_bare_app(dev_provider)
    blueprint = make_blueprint(dev_provider)
    app.register_blueprint(blueprint, url_prefix="/one", name="one")
    app.register_blueprint(blueprint, url_prefix="/two", name="two")
    visitor = Visitor(app)
    for path in ("/one/dev", "/two/dev"):
        sent = query(await visitor.start(path))
        assert sent["redirect_uri"] == f"https://app.test{path}/authorized"
        assert (await visitor.login(dev_provider, path=path)).status_code == 302


@pytest.mark.parametrize("options", [{}, {"name": "second", "url_prefix": "/second"}])
def test_two_blueprints_of_one_name(
    dev_provider: DevProvider, options: dict[str, Any]
) -> None:
    """S15: two blueprints of one name would share tokens, so they are refused."""
    app = make_bare_app(dev_provider)
    app.register_blueprint(make_blueprint(dev_provider))
    with pytest.raises(ConfigurationError, match="two OAuth blueprints are named"):
        app.register_blueprint(make_blueprint(dev_provider), **options)


def test_two_nested_blueprints_of_one_name(dev_provider: DevProvider) -> None:
    """S15: nor does a parent of another name make a difference."""
    app = make_bare_app(dev_provider)
    app.register_blueprint(make_blueprint(dev_provider))
    parent = Blueprint("parent", __name__, url_prefix="/parent")
    parent.register_blueprint(make_blueprint(dev_provider))
    with pytest.raises(ConfigurationError, match="'dev'"):
        app.register_blueprint(parent)
