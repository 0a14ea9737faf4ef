"""The GitHub preset, by GitHub's documentation ("Authorizing OAuth apps")."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart
from support import Transport, Visitor, query

import quart_dance.contrib.github as preset
from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.contrib.github import github, make_github_blueprint
from quart_dance.errors import ConfigurationError
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "gho_1", "token_type": "bearer", "scope": "repo"}


def make(*blueprints: OAuth2ConsumerBlueprint, **config: Any) -> Quart:
    """Return an application with these blueprints under /login."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    app.config.update(config)
    for blueprint in blueprints:
        app.register_blueprint(blueprint, url_prefix="/login")
    runtime(app).transport = Transport()
    return app


async def test_the_authorization_url() -> None:
    """Visitors are sent where GitHub's documentation says, scopes by spaces."""
    app = make(make_github_blueprint("id", "secret", scope=["read:user", "repo"]))
    url = await Visitor(app).start("/login/github")
    assert url.startswith("https://github.com/login/oauth/authorize?")
    sent = query(url)
    assert sent["client_id"] == "id"
    assert sent["scope"] == "read:user repo"
    assert sent["redirect_uri"] == "https://app.test/login/github/authorized"
    assert sent["response_type"] == "code"
    assert sent["code_challenge_method"] == "S256"


async def test_the_token_request_and_the_api() -> None:
    """The code goes with id and secret in the form; the API is api.github.com."""
    provider = DevProvider(client_id="id", client_secret="secret")
    app = make(make_github_blueprint("id", "secret"))
    provider.install(app)

    @app.get("/")
    async def index() -> str:
        return str((await github.get("/user")).json()["login"])

    visitor = Visitor(app)
    response = await visitor.login(provider, path="/login/github")
    assert response.location == "/"
    (call,) = [call for call in provider.calls if call.endpoint == "token"]
    assert call.url == "https://github.com/login/oauth/access_token"
    assert call.form["client_id"] == "id"
    assert call.form["client_secret"] == "secret"
    assert "Authorization" not in call.headers
    assert call.headers["Accept"] == "application/json"
    assert await (await visitor.get("/")).get_data() == b"alice"
    assert provider.calls[-1].url == "https://api.github.com/user"


async def test_the_config_keys() -> None:
    """Without arguments id and secret come from the app config, at each use."""
    config = {"GITHUB_OAUTH_CLIENT_ID": "cid", "GITHUB_OAUTH_CLIENT_SECRET": "csec"}
    blueprint = make_github_blueprint()
    app = make(blueprint, **config)
    assert query(await Visitor(app).start("/login/github"))["client_id"] == "cid"
    async with app.app_context():
        assert blueprint.client_secret == "csec"
    assert blueprint.client_secret is None


async def test_arguments_beat_the_config() -> None:
    """Explicit arguments win."""
    blueprint = make_github_blueprint("id", "secret")
    app = make(blueprint, GITHUB_OAUTH_CLIENT_ID="x", GITHUB_OAUTH_CLIENT_SECRET="y")
    async with app.app_context():
        assert (blueprint.client_id, blueprint.client_secret) == ("id", "secret")


@pytest.mark.parametrize("option", ["client_id", "client_secret"])
async def test_what_is_missing_is_named(option: str) -> None:
    """S16: without id or secret the login says which key to set."""
    key = f"GITHUB_OAUTH_{option.upper()}"
    config = {"GITHUB_OAUTH_CLIENT_ID": "cid", "GITHUB_OAUTH_CLIENT_SECRET": "csec"}
    del config[key]
    app = make(make_github_blueprint(), **config)
    app.register_error_handler(ConfigurationError, lambda error: (str(error), 500))
    response = await Visitor(app).get("/login/github")
    assert f"app.config[{key!r}]" in await response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("options", "attribute"),
    [
        ({"redirect_url": "/x"}, "redirect_url"),
        ({"redirect_to": "index"}, "redirect_to"),
        ({"redirect_uri": "https://x.test/"}, "redirect_uri"),
        ({"timeout": 3.5}, "timeout"),
        ({"url_prefix": "/in"}, "url_prefix"),
        ({"subdomain": "auth"}, "subdomain"),
    ],
)
def test_common_options(options: Any, attribute: str) -> None:
    """The options that all presets share reach the blueprint."""
    blueprint = make_github_blueprint("id", "secret", **options)
    assert getattr(blueprint, attribute) == options[attribute]


def test_unknown_options_raise() -> None:
    """S16: a misspelled option raises."""
    with pytest.raises(TypeError, match="scopes"):
        make_github_blueprint("id", "secret", scopes="repo")  # type: ignore[call-arg]


def test_tokens_of_github_apps_are_refreshed() -> None:
    """A GitHub App's tokens expire, and are refreshed where they are issued."""
    blueprint = make_github_blueprint("id", "secret")
    expected = "https://github.com/login/oauth/access_token"
    assert blueprint.auto_refresh_url == expected
    assert blueprint.name == "github"
    assert blueprint.import_name == "quart_dance.contrib.github"


async def test_the_proxy_of_one_blueprint() -> None:
    """`github` is the session of the one blueprint, whatever its registered name."""
    blueprint = make_github_blueprint("id", "secret", storage=MemoryStorage(TOKEN))
    app = Quart(__name__)
    app.register_blueprint(blueprint, name="renamed")
    app.register_blueprint(blueprint, name="again", url_prefix="/again")
    async with app.app_context():
        assert github == blueprint.current_session()
        assert await github.authorized
        assert await github.access_token == "gho_1"


async def test_the_proxy_of_no_blueprint() -> None:
    """Without a blueprint `github` says what to register."""
    async with make().app_context():
        with pytest.raises(RuntimeError) as caught:
            await github.get("/user")
    assert "app.register_blueprint(make_github_blueprint())" in str(caught.value)


async def test_the_proxy_of_two_blueprints() -> None:
    """With two blueprints `github` names what to write instead."""
    storage = MemoryStorage(TOKEN)
    first = make_github_blueprint("1", "secret", storage=storage)
    second = make_github_blueprint("2", "secret", name="github-too")
    app = make(first, second)
    async with app.app_context():
        with pytest.raises(RuntimeError, match=r"write `blueprint\.session`"):
            await github.authorized
        assert await first.session.authorized
    url = await Visitor(app).start("/login/github-too")
    assert query(url)["client_id"] == "2"


def test_the_proxy_outside_of_any_application() -> None:
    """Outside of an application `github` raises, and its repr does not."""
    with pytest.raises(RuntimeError):
        _ = github.authorized
    assert "SessionProxy" in repr(github)


def test_the_module_offers_two_names() -> None:
    """The preset's module has the proxy and the factory."""
    assert sorted(preset.__all__) == ["github", "make_github_blueprint"]
