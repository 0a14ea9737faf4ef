"""Where a blueprint is registered: renamed, nested, twice, under Quart and Flask."""

from __future__ import annotations

from typing import Any

import flask
import pytest
import quart
from rooms import FlaskVisitor, QuartVisitor, both, now

from quart_dance import consumer
from quart_dance.consumer.runtime import runtime
from quart_dance.errors import ConfigurationError
from quart_dance.flask import consumer as flask_consumer
from quart_dance.testing import DevProvider


class World:
    """Applications of one framework, with blueprints of one provider."""

    def __init__(self, kind: str, provider: DevProvider) -> None:
        self.kind, self.provider = kind, provider
        self.web: Any = flask if kind == "flask" else quart
        self.consumer: Any = flask_consumer if kind == "flask" else consumer

    def app(self) -> Any:
        """Return an application without a blueprint."""
        app = (self.web.Flask if self.kind == "flask" else self.web.Quart)(__name__)
        app.secret_key = "the secret key of the tests"
        self.provider.install(app)
        return app

    def blueprint(self, name: str = "dev", **options: Any) -> Any:
        """Return a blueprint."""
        known = {**self.provider.options(), **options}
        return self.consumer.OAuth2ConsumerBlueprint(name, __name__, **known)

    def visitor(self, app: Any) -> Any:
        """Return a browser."""
        return (FlaskVisitor if self.kind == "flask" else QuartVisitor)(app)

    async def login(self, app: Any, path: str) -> str | None:
        """Go through a login and return where it leads."""
        visitor = self.visitor(app)
        begun = await visitor.get(path)
        assert begun.status == 302, begun.text
        page = await visitor.get(await self.provider.approve(begun.location))
        assert (page.status, visitor.attempts) == (302, [])
        return page.location  # type: ignore[no-any-return]


@both
async def test_renamed(dev_provider, kind):
    """Endpoints go by the name under which a blueprint is registered."""
    world = World(kind, dev_provider)
    app = world.app()
    app.register_blueprint(world.blueprint(), name="other", url_prefix="/o")
    assert await world.login(app, "/o/dev?next=/x") == "/x"
    assert {r.endpoint for r in app.url_map.iter_rules()} >= {
        "other.login",
        "other.authorized",
    }


@both
async def test_nested(dev_provider, kind):
    """So do those of a blueprint within another one."""
    world = World(kind, dev_provider)
    app, outer = world.app(), world.web.Blueprint("outer", __name__)
    outer.register_blueprint(world.blueprint(), url_prefix="/in")
    app.register_blueprint(outer, url_prefix="/out")
    assert await world.login(app, "/out/in/dev") == "/"
    assert "outer.dev.login" in {r.endpoint for r in app.url_map.iter_rules()}


@both
async def test_prefix_with_a_variable(dev_provider, kind):
    """A variable in the prefix is in the callback, and in the way to the login."""
    world = World(kind, dev_provider)
    app, blueprint = world.app(), world.blueprint()
    app.register_blueprint(blueprint, url_prefix="/<shop>/login")

    async def closed(shop: str) -> Any:
        return (await now(blueprint.session.get("user"))).json()

    def sync_closed(shop: str) -> Any:
        return blueprint.session.get("user").json()

    view: Any = sync_closed if kind == "flask" else closed
    app.add_url_rule("/<shop>/closed", "closed", view)
    page = await world.visitor(app).get("/books/closed", {"Accept": "text/html"})
    assert page.location == "/books/login/dev?next=/books/closed"
    assert await world.login(app, page.location) == "/books/closed"
    [asked] = [call for call in dev_provider.calls if call.endpoint == "token"]
    assert asked.form["redirect_uri"] == "https://app.test/books/login/dev/authorized"


@both
async def test_two_of_one_name(dev_provider, kind):
    """Two blueprints of one name would share their tokens: the second one raises."""
    world = World(kind, dev_provider)
    app = world.app()
    app.register_blueprint(world.blueprint())
    with pytest.raises(ConfigurationError, match="two OAuth blueprints"):
        app.register_blueprint(world.blueprint(), name="other")


@both
async def test_two_applications(dev_provider, kind):
    """S15: two applications may share a blueprint, each with its configuration."""
    world = World(kind, dev_provider)
    blueprint = world.blueprint(client_id=None)
    blueprint.from_config["client_id"] = "DEV_ID"
    apps = [world.app(), world.app()]
    for number, app in enumerate(apps):
        app.config["DEV_ID"] = f"client-{number}"
        app.register_blueprint(blueprint, url_prefix="/login")
    for number, app in enumerate(apps):
        page = await world.visitor(app).get("/login/dev")
        assert f"client_id=client-{number}&" in page.location
    assert runtime(apps[0]) is not runtime(apps[1])
    assert blueprint.client_id is None


@both
async def test_without_a_secret_key(dev_provider, kind, caplog):
    """S16: an application without a secret key hears what it lacks."""
    world = World(kind, dev_provider)
    app = world.app()
    app.secret_key = None
    app.register_blueprint(world.blueprint(), url_prefix="/login")
    page = await world.visitor(app).get("/login/dev")
    assert page.status == 500 and "a login needs a secret key" in caplog.text


@both
async def test_older_secret_key(dev_provider, kind):
    """A login goes on when the secret key is replaced, with the older one kept."""
    world = World(kind, dev_provider)
    app = world.app()
    app.register_blueprint(world.blueprint(), url_prefix="/login")
    visitor = world.visitor(app)
    begun = await visitor.get("/login/dev")
    app.config["SECRET_KEY_FALLBACKS"] = [app.secret_key]
    app.secret_key = "another secret key"
    page = await visitor.get(await dev_provider.approve(begun.location))
    assert (page.status, page.location) == (302, "/")
