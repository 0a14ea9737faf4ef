"""The Google preset, held to what Google documents.

https://developers.google.com/identity/protocols/oauth2/web-server
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest
from quart import Quart
from scheduler import Clock
from support import Visitor, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.contrib.google import google, make_google_blueprint
from quart_dance.testing import DevProvider

LOGIN = "/login/google"
PROFILE = "https://www.googleapis.com/auth/userinfo.profile"


def google_app(**options: Any) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application with a Google blueprint, its client in the app config."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    app.config["GOOGLE_OAUTH_CLIENT_ID"] = "dev-client-id"
    app.config["GOOGLE_OAUTH_CLIENT_SECRET"] = "dev-client-secret"
    blueprint = make_google_blueprint(**options)
    app.register_blueprint(blueprint, url_prefix="/login")

    @app.get("/me")
    async def me() -> Any:
        return (await google.get("/api/user")).json()["login"]

    return app, blueprint


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {}),
        ({"offline": True}, {"access_type": "offline"}),
        ({"reprompt_consent": True}, {"prompt": "consent"}),
        ({"reprompt_select_account": True}, {"prompt": "select_account"}),
        (
            {"reprompt_consent": True, "reprompt_select_account": True},
            {"prompt": "consent select_account"},
        ),
        ({"hosted_domain": "example.com"}, {"hd": "example.com"}),
        (
            {"offline": True, "reprompt_consent": True, "hosted_domain": "example.com"},
            {"access_type": "offline", "prompt": "consent", "hd": "example.com"},
        ),
    ],
    ids=str,
)
async def test_authorization_request(options, expected):
    """The visitor is sent to Google with the documented parameters, and no others."""
    app, _ = google_app(**options)
    url = await Visitor(app).start(LOGIN)
    parts, params = urlsplit(url), query(url)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == (
        "https://accounts.google.com/o/oauth2/v2/auth"
    )
    for name in ("state", "code_challenge"):
        assert params.pop(name)
    assert params == {
        "response_type": "code",
        "client_id": "dev-client-id",
        "redirect_uri": "https://app.test/login/google/authorized",
        "scope": PROFILE,
        "code_challenge_method": "S256",
        **expected,
    }


async def test_scope():
    """What is asked for can be chosen."""
    app, _ = google_app(scope=["openid", "email"], client_id="mine")
    params = query(await Visitor(app).start(LOGIN))
    assert (params["scope"], params["client_id"]) == ("openid email", "mine")


async def test_login_and_refresh():
    """A code, and an expired token, are exchanged at Google's token endpoint.

    The client's id and secret are sent in the form, as Google documents.
    """
    clock = Clock()
    provider = DevProvider(clock=clock)
    app, _ = google_app(offline=True, storage=MemoryStorage())
    runtime(app).clock = clock
    provider.install(app)
    visitor = Visitor(app)
    url = await visitor.start(LOGIN)
    there = f"{provider.authorization_url}?{urlsplit(url).query}"
    response = await visitor.get(await provider.approve(there))
    assert response.status_code == 302
    clock.now += 3600
    assert await (await visitor.get("/me")).get_data(as_text=True) == "alice"
    code, refresh, call = (
        call for call in provider.calls if call.endpoint in ("token", "user")
    )
    assert code.url == refresh.url == "https://oauth2.googleapis.com/token"
    client = {"client_id": "dev-client-id", "client_secret": "dev-client-secret"}
    for sent in (code, refresh):
        assert "Authorization" not in sent.headers
        assert {name: sent.form[name] for name in client} == client
    assert code.form["grant_type"] == "authorization_code"
    assert set(refresh.form) == {"grant_type", "refresh_token", *client}
    assert refresh.form["grant_type"] == "refresh_token"
    assert call.url == "https://www.googleapis.com/api/user"


async def test_revocation():
    """A token is revoked at Google's revocation endpoint."""
    provider = DevProvider()
    app, blueprint = google_app(storage=MemoryStorage(provider.issue_token()))
    provider.install(app)
    async with app.app_context():
        await blueprint.revoke_token()
        assert await blueprint.token is None
        await blueprint.aclose()
    assert [call.url for call in provider.calls] == [
        "https://oauth2.googleapis.com/revoke"
    ]
    assert provider.tokens == []


def test_a_name_of_its_own():
    """A second blueprint of Google files its tokens under another name."""
    blueprint = make_google_blueprint("id", "secret", name="workspace")
    assert blueprint.name == "workspace"
    assert blueprint.import_name == "quart_dance.contrib.google"
