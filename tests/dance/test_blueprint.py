"""The blueprint: what it refuses, what it reads from the config."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from quart import Quart
from support import Transport, Visitor, make_client_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import ConfigurationError

TOKEN = {"access_token": "at-1", "token_type": "bearer"}


@pytest.mark.parametrize("option", ["scopes", "client", "state", "base_uri", "session"])
def test_unknown_options_are_refused(option: str) -> None:
    """S16: an option that does not exist, or is misspelled, raises at once."""
    with pytest.raises(TypeError, match=option):
        OAuth2ConsumerBlueprint("dev", __name__, **{option: "x"})  # type: ignore[misc]


@pytest.mark.parametrize(
    "options",
    [
        {"code_challenge_method": "S512"},
        {"base_url": "http://api.test"},
        {"authorization_url": "http://provider.test/authorize"},
        {"token_url": "ftp://provider.test/token"},
        {"auto_refresh_url": "https://user@provider.test/token"},
        {"authorization_url_params": {"state": "mine"}},
        {"authorization_url_params": {"redirect_uri": "https://evil.test"}},
        {"authorization_url": "https://provider.test/a?client_id=other"},
        {"token_url_params": {"code_verifier": "mine"}},
        {"auto_refresh_kwargs": {"grant_type": "password"}},
    ],
    ids=str,
)
def test_what_contradicts_the_protocol_is_refused(options: dict[str, Any]) -> None:
    """S16, R5: a configuration that cannot be right fails when it is made."""
    with pytest.raises(ConfigurationError):
        OAuth2ConsumerBlueprint("dev", __name__, **options)


@pytest.mark.parametrize("option", ["client_id", "client_secret", "token_url"])
async def test_what_is_missing_is_named(option: str) -> None:
    """S16: a login without what it needs fails before the visitor is sent away."""
    app, _ = make_client_app(Transport(), **{option: None})
    app.register_error_handler(ConfigurationError, lambda error: (str(error), 500))
    response = await Visitor(app).get("/login/dev")
    said = await response.get_data(as_text=True)
    assert said.startswith(f"'dev' has no {option}: set {option}=")


def test_options_of_one_blueprint_are_not_anothers() -> None:
    """S15: there is no dict that all blueprints share and one could write to."""
    first, second = (OAuth2ConsumerBlueprint(n, __name__) for n in ("one", "two"))
    for name in ("authorization_url_params", "token_url_params", "auto_refresh_kwargs"):
        with pytest.raises(TypeError):
            getattr(first, name)["prompt"] = "consent"
        assert dict(getattr(second, name)) == {}


async def test_options_can_be_assigned_later() -> None:
    """Options are attributes, and may be set after the blueprint is made."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    blueprint = OAuth2ConsumerBlueprint("dev", __name__)
    app.register_blueprint(blueprint)
    blueprint.client_id, blueprint.client_secret = "id", "secret"
    blueprint.authorization_url = "https://provider.test/a"
    blueprint.token_url = "https://provider.test/t"
    assert query(await Visitor(app).start("/dev"))["client_id"] == "id"


def test_the_repr_is_short_and_holds_no_secret() -> None:
    """L2: the repr of a blueprint shows its name."""
    _, blueprint = make_client_app(Transport())
    assert repr(blueprint) == "<OAuth2ConsumerBlueprint 'dev'>"


@pytest.mark.parametrize("attribute", ["client_id", "session.client_id"])
async def test_from_config(attribute: str) -> None:
    """`from_config` names keys of the app config, read at each use, never written."""
    app, blueprint = make_client_app(Transport(), client_id=None)
    blueprint.from_config[attribute] = "DEV_CLIENT_ID"
    visitor = Visitor(app)
    for value in ("first", "second"):
        app.config["DEV_CLIENT_ID"] = value
        assert query(await visitor.start())["client_id"] == value
    del app.config["DEV_CLIENT_ID"]
    before = dict(app.config)
    assert (await visitor.get("/login/dev")).status_code == 500
    assert dict(app.config) == before
    assert blueprint.client_id is None


async def test_what_is_given_beats_the_config() -> None:
    """An explicit argument beats the app config."""
    app, blueprint = make_client_app(Transport(), client_id="given")
    blueprint.from_config["client_id"] = "DEV_CLIENT_ID"
    app.config["DEV_CLIENT_ID"] = "configured"
    assert query(await Visitor(app).start())["client_id"] == "given"


async def test_any_option_can_come_from_the_config() -> None:
    """`from_config` knows every option, a False among them."""
    app, blueprint = make_client_app(Transport())
    blueprint.from_config.update(scope="SCOPE", use_pkce="PKCE", redirect_uri="URI")
    app.config.update(SCOPE=["a", "b"], PKCE=False, URI="https://front.test/cb")
    sent = query(await Visitor(app).start())
    assert sent["scope"] == "a b"
    assert sent["redirect_uri"] == "https://front.test/cb"
    assert "code_challenge" not in sent


async def test_the_message_names_the_key() -> None:
    """S16: what is missing is said with its key in the config."""
    app, blueprint = make_client_app(Transport(), client_id=None)
    blueprint.from_config["client_id"] = "DEV_CLIENT_ID"
    app.register_error_handler(ConfigurationError, lambda error: (str(error), 500))
    response = await Visitor(app).get("/login/dev")
    assert "app.config['DEV_CLIENT_ID']" in await response.get_data(as_text=True)


async def test_quarts_own_options(tmp_path: Path) -> None:
    """`quart.Blueprint`'s arguments reach it: files, templates, root path, commands."""
    (tmp_path / "static").mkdir()
    (tmp_path / "static" / "logo.txt").write_text("logo")
    app, blueprint = make_client_app(
        Transport(),
        static_folder="static",
        static_url_path="/files",
        template_folder="pages",
        root_path=str(tmp_path),
        cli_group="oauth",
    )
    assert blueprint.template_folder == "pages"
    response = await Visitor(app).get("/login/files/logo.txt")
    assert await response.get_data() == b"logo"

    @blueprint.cli.command("hello")
    def hello() -> None:
        click.echo("hello")

    assert blueprint.cli_group == "oauth"


async def test_set_token_replaces_and_takes_a_copy() -> None:
    """What an earlier visitor left does not survive; the caller's dict is theirs."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage())
    mine: dict[str, Any] = {"access_token": "at-1", "refresh_token": "rt", "x": [1]}
    async with app.app_context():
        await blueprint.set_token(mine)
        assert mine == {"access_token": "at-1", "refresh_token": "rt", "x": [1]}
        mine["x"].append(2)
        first, second = await blueprint.token, await blueprint.token
        assert first == {"access_token": "at-1", "refresh_token": "rt", "x": [1]}
        assert first is not None and second is not None and first is not second
        first["x"].append(3)
        assert second["x"] == [1]
        await blueprint.set_token({"access_token": "at-2"})
        assert await blueprint.token == {"access_token": "at-2"}
        await blueprint.delete_token()
        await blueprint.delete_token()
        assert await blueprint.token is None


@pytest.mark.parametrize(
    ("token", "error"),
    [
        ("at-1", TypeError),
        (None, TypeError),
        ({}, ValueError),
        ({"access_token": ""}, ValueError),
        ({"access_token": 7}, ValueError),
        ({"access_token": "at", "x": object()}, TypeError),
    ],
)
async def test_set_token_takes_tokens_only(token: Any, error: type[Exception]) -> None:
    """T4: what is no token is refused, and the old one stays."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        with pytest.raises(error):
            await blueprint.set_token(token)
        assert await blueprint.token == TOKEN
