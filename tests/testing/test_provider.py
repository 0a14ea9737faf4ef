"""DevProvider keeps to the RFCs: its endpoints, asked by hand."""

from __future__ import annotations

import pytest
from by_hand import (
    CALLBACK,
    Clock,
    authorization_url,
    basic,
    call,
    client_of,
    code_form,
    exchange,
    new_code,
    new_token,
    params_of,
    post,
    refresh_form,
)

from quart_dance.testing import DevProvider

REVOKE = "https://provider.test/revoke"


async def test_whole_flow(dev_provider):
    """A visitor's consent becomes a token, and the token opens the API."""
    callback = await dev_provider.approve(authorization_url(), person="bob")
    assert callback.startswith(CALLBACK + "?")
    params = params_of(callback)
    assert params["state"] == ["xyz"]
    response = await exchange(dev_provider, code_form(params["code"][0]))
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Content-Type"] == "application/json"
    token = response.json()
    assert {name: token[name] for name in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": 3600,
        "scope": "profile",
    }
    user = await call(dev_provider, token["access_token"])
    assert user.json() == {
        "id": 2,
        "login": "bob",
        "name": "Bob Cratchit",
        "email": "bob@example.com",
    }


async def test_github_paths(dev_provider):
    """The paths of GitHub, at any host, lead to the same endpoints."""
    code = await new_code(
        dev_provider, base="https://github.com/login/oauth/authorize", scope="repo"
    )
    url = "https://github.com/login/oauth/access_token"
    token = (await post(dev_provider, url, code_form(code))).json()
    assert token["scope"] == "repo"
    async with client_of(dev_provider) as client:
        headers = {"Authorization": f"bearer {token['access_token']}"}
        user = await client.get("https://api.github.com/user", headers=headers)
        repos = await client.get("https://api.github.com/user/repos", headers=headers)
    assert user.json()["login"] == "alice"
    assert repos.json() == [{"name": "alice/hello-world"}, {"name": "alice/dotfiles"}]


async def test_deny(dev_provider):
    """A visitor who denies is sent back with access_denied (RFC 6749, 4.1.2.1)."""
    params = params_of(await dev_provider.deny(authorization_url()))
    assert params["error"] == ["access_denied"]
    assert params["state"] == ["xyz"]
    assert "code" not in params


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "somebody-else"},
        {"client_id": None},
        {"redirect_uri": "http://app.test/cb"},
        {"redirect_uri": "https://app.test/cb#fragment"},
        {"redirect_uri": 'https://app.test/"ü'},
        {"redirect_uri": "javascript:alert(1)"},
        {"redirect_uri": None},
        {"client_id": "somebody-else", "response_type": "token"},
    ],
)
async def test_never_redirects_to_a_stranger(dev_provider, changes):
    """A bad client or redirect URI gets a page, no redirect (RFC 6749, 4.1.2.1)."""
    async with client_of(dev_provider) as client:
        response = await client.get(authorization_url(**changes))
    assert response.status_code == 400
    assert "location" not in response.headers
    with pytest.raises(ValueError, match="400 and sends nobody back"):
        await dev_provider.approve(authorization_url(**changes))


async def test_registered_redirect_uri():
    """With an allow list a URI is compared as a string; the only one is the default."""
    provider = DevProvider(redirect_uris=[CALLBACK])
    with pytest.raises(ValueError, match="400"):
        await provider.approve(authorization_url(redirect_uri=CALLBACK + "/"))
    callback = await provider.approve(authorization_url(redirect_uri=None))
    assert callback.startswith(CALLBACK + "?")
    form = code_form(params_of(callback)["code"][0], redirect_uri=None)
    assert (await exchange(provider, form)).status_code == 200


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": '"ü'}, "unsupported_response_type"),
        ({"scope": "\u00fc"}, "invalid_scope"),
    ],
)
async def test_tells_the_client(dev_provider, changes, error):
    """Any other mistake of the client is told to it, with its state."""
    params = params_of(await dev_provider.approve(authorization_url(**changes)))
    assert params["error"] == [error]
    assert params["state"] == ["xyz"]


async def test_missing_response_type(dev_provider):
    """A request without a response type is refused."""
    params = params_of(
        await dev_provider.approve(authorization_url(response_type=None))
    )
    assert params["error"] == ["unsupported_response_type"]


async def test_default_scope(dev_provider):
    """A request without a scope gets the default one (RFC 6749, 3.3)."""
    code = await new_code(dev_provider, scope=None)
    assert (await exchange(dev_provider, code_form(code))).json()["scope"] == "profile"


async def test_repeated_parameters(dev_provider):
    """Parameters must not come twice (RFC 6749, 3.1 and 3.2)."""
    with pytest.raises(ValueError, match="400"):
        await dev_provider.approve(authorization_url() + "&state=other")
    code = await new_code(dev_provider)
    form = {**code_form(code), "code": [code, code]}
    assert (await exchange(dev_provider, form)).json()["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "x" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_request"),
        ({"redirect_uri": CALLBACK + "/"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_grant"),
        ({"code": "guessed"}, "invalid_grant"),
        ({"code": None}, "invalid_request"),
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_secret": None}, "invalid_client"),
        ({"client_id": "somebody-else"}, "invalid_client"),
        ({"grant_type": "client_credentials"}, "unsupported_grant_type"),
        ({"grant_type": '"ü'}, "unsupported_grant_type"),
    ],
)
async def test_token_request_refused(dev_provider, changes, error):
    """The token endpoint refuses what does not fit the authorization request."""
    response = await exchange(
        dev_provider, code_form(**{"code": await new_code(dev_provider), **changes})
    )
    assert response.status_code in (400, 401)
    assert response.json()["error"] == error
    assert response.headers["Cache-Control"] == "no-store"
    assert dev_provider.tokens == []


async def test_verifier_without_challenge():
    """A verifier without a challenge is refused (RFC 9700, section 4.8)."""
    provider = DevProvider(require_pkce=False)
    plain = {"code_challenge": None, "code_challenge_method": None}
    code = await new_code(provider, **plain)
    assert (await exchange(provider, code_form(code))).status_code == 400
    form = code_form(code, code_verifier=None)
    assert (await exchange(provider, form)).status_code == 200


async def test_code_is_used_once(dev_provider):
    """A code that comes twice kills the tokens it gave (RFC 6749, 4.1.2)."""
    form = code_form(await new_code(dev_provider))
    token = (await exchange(dev_provider, form)).json()
    other = await new_token(dev_provider)
    assert (await exchange(dev_provider, form)).json()["error"] == "invalid_grant"
    assert (await call(dev_provider, token["access_token"])).status_code == 401
    again = await exchange(dev_provider, refresh_form(token["refresh_token"]))
    assert again.json()["error"] == "invalid_grant"
    assert (await call(dev_provider, other["access_token"])).status_code == 200


async def test_code_lives_a_minute():
    """A code is good for 60 seconds, not longer."""
    clock = Clock()
    provider = DevProvider(clock=clock)
    first, second = await new_code(provider), await new_code(provider)
    clock.now += 59.9
    assert (await exchange(provider, code_form(first))).status_code == 200
    clock.now += 0.1
    assert (await exchange(provider, code_form(second))).status_code == 400


@pytest.mark.parametrize(
    ("secret", "encoded"),
    [
        ("dev-client-secret", "dev-client-secret"),
        ("a:b", "a%3Ab"),
        ("100%", "100%25"),
        ("1+1", "1%2B1"),
        ("a b", "a+b"),
        ("a b", "a%20b"),
        ("ü", "%C3%BC"),
        ("✓", "%E2%9C%93"),
    ],
)
async def test_basic_is_form_urlencoded(secret, encoded):
    """HTTP Basic carries both halves form-urlencoded (RFC 6749, 2.3.1)."""
    provider = DevProvider(client_id="id:ü", client_secret=secret)
    code = await new_code(provider, client_id="id:ü")
    form = code_form(code, client_id=None, client_secret=None)
    response = await exchange(provider, form, basic("id%3A%C3%BC", encoded))
    assert response.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        basic("dev-client-id", "wrong")["Authorization"],
        basic("somebody-else", "dev-client-secret")["Authorization"],
        basic("dev-client-id", "a:b")["Authorization"],
        basic("dev-client-id", "")["Authorization"],
        basic("dev-client-id", "100%")["Authorization"],
        basic("dev-client-id", "ü")["Authorization"],
        "Basic !!!",
        "Basic",
        "Bearer dev-client-secret",
    ],
)
async def test_basic_refused(dev_provider, header):
    """Wrong or badly encoded credentials get 401 and a challenge (RFC 6749, 5.2)."""
    form = code_form(await new_code(dev_provider), client_id=None, client_secret=None)
    response = await exchange(dev_provider, form, {"Authorization": header})
    assert response.status_code == 401
    assert response.json()["error"] == "invalid_client"
    assert response.headers["WWW-Authenticate"].startswith("Basic ")


async def test_one_way_of_authentication(dev_provider):
    """A client must not authenticate in two ways at once (RFC 6749, 2.3)."""
    form = code_form(await new_code(dev_provider))
    header = basic("dev-client-id", "dev-client-secret")
    response = await exchange(dev_provider, form, header)
    assert response.json()["error"] == "invalid_request"


async def test_public_client():
    """A client without a secret needs none, and PKCE still holds."""
    provider = DevProvider(client_secret=None)
    code = await new_code(provider)
    bad = code_form(code, client_secret=None, code_verifier=None)
    assert (await exchange(provider, bad)).status_code == 400
    good = code_form(code, client_secret=None)
    token = (await exchange(provider, good)).json()
    response = await post(
        provider, REVOKE, {"token": token["access_token"], "client_id": "dev-client-id"}
    )
    assert response.status_code == 200
    assert provider.options()["client_secret"] is None
