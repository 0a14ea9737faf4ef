"""What we send: authorization URLs, forms, client authentication."""

from __future__ import annotations

import base64
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from quart_dance.errors import ConfigurationError
from quart_dance.oauth.oauth2 import (
    AUTHORIZATION_PARAMS,
    TOKEN_PARAMS,
    Client,
    authorization_url,
    check_params,
    code_form,
    new_code_verifier,
    new_state,
    refresh_form,
    revocation_form,
)

TOKEN_URL = "https://server.example.com/token"
# RFC 6749, sections 2.3.1 and 4.1
CALLBACK = "https://client.example.com/cb"
CODE = "SplxlOBeZQQYbYS6WxSbIA"
CLIENT = Client("s6BhdRkqt3", "gX1fBat3bV")
BASIC = "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"
# RFC 7636, appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def params_of(query: str) -> dict[str, list[str]]:
    return parse_qs(query, keep_blank_values=True, strict_parsing=True)


def exchange(client: Client = CLIENT, code: str = CODE, **options):
    given = {"redirect_uri": CALLBACK, "code_verifier": None, "params": {}, **options}
    return code_form(TOKEN_URL, client, code=code, **given)


def authorize(url: str = "https://server.example.com/authorize", **options) -> str:
    return authorization_url(
        url, client_id="s6BhdRkqt3", redirect_uri=CALLBACK, state="xyz", **options
    )


def test_authorization_url_is_that_of_the_rfc():
    """The URL has the parameters of the example in RFC 6749, 4.1.1, and no more."""
    url = urlsplit(authorize())
    assert url._replace(query="").geturl() == "https://server.example.com/authorize"
    assert params_of(url.query) == {
        "response_type": ["code"],
        "client_id": ["s6BhdRkqt3"],
        "state": ["xyz"],
        "redirect_uri": ["https://client.example.com/cb"],
    }


@pytest.mark.parametrize(
    ("method", "challenge"), [("S256", CHALLENGE), ("plain", VERIFIER)]
)
def test_authorization_url_carries_the_challenge(method, challenge):
    """C11: the challenge is that of RFC 7636, appendix B, or the verifier itself."""
    url = authorize(code_verifier=VERIFIER, code_challenge_method=method)
    params = params_of(urlsplit(url).query)
    assert params["code_challenge"] == [challenge]
    assert params["code_challenge_method"] == [method]


def test_authorization_url_keeps_a_query_and_takes_params():
    """R5: what the URL's query holds already is kept beside scope and parameters."""
    url = authorize(
        "https://server.example.com/authorize?tenant=a%26b",
        scope=["read:user", "repo"],
        params={"prompt": "consent", "absent": None},
    )
    params = params_of(urlsplit(url).query)
    assert params["tenant"] == ["a&b"]
    assert params["scope"] == ["read:user repo"]
    assert params["prompt"] == ["consent"]
    assert "absent" not in params


@pytest.mark.parametrize(
    ("params", "url"),
    [
        ({"state": "fixed"}, ""),
        ({"client_id": "another", "prompt": "none"}, ""),
        ({}, "https://server.example.com/authorize?redirect_uri=https://evil.example"),
        ({}, "https://server.example.com/authorize?response_type=token"),
        ({"scope": "admin"}, ""),
        ({"uri": "https://evil.example"}, ""),
    ],
)
def test_reserved_parameters_are_refused(params, url):
    """R5: nothing may compete with the parameters that are set for each login."""
    with pytest.raises(ConfigurationError, match="authorization_url_params may not"):
        check_params("authorization_url_params", params, url, AUTHORIZATION_PARAMS)


@pytest.mark.parametrize("name", ["code", "code_verifier", "grant_type", "body"])
def test_reserved_parameters_of_the_token_request_are_refused(name):
    """R5: likewise in a token request."""
    with pytest.raises(ConfigurationError, match=f"may not set {name}"):
        check_params("token_url_params", {name: "x"}, "", TOKEN_PARAMS)


def test_other_parameters_are_fine():
    """Parameters that the protocol does not know pass."""
    check_params("x", {"audience": "api"}, TOKEN_URL + "?a=b", TOKEN_PARAMS)


def test_code_form_is_that_of_the_rfc():
    """The request is the example of RFC 6749, 4.1.3, and asks for JSON."""
    form = exchange()
    assert form.url == TOKEN_URL
    assert dict(form.headers) == {
        "Authorization": BASIC,
        "Content-Type": "application/x-www-form-urlencoded",
        "Accept": "application/json",
    }
    assert params_of(form.body) == {
        "grant_type": ["authorization_code"],
        "code": ["SplxlOBeZQQYbYS6WxSbIA"],
        "redirect_uri": ["https://client.example.com/cb"],
    }


def test_code_form_carries_verifier_and_params():
    """The verifier (RFC 7636, 4.5) and parameters of one's own come along."""
    extra = {"audience": "api", "include_client_id": True}
    form = exchange(code_verifier=VERIFIER, params=extra)
    params = params_of(form.body)
    assert params["code_verifier"] == [VERIFIER]
    assert params["audience"] == ["api"]
    assert params["client_id"] == ["s6BhdRkqt3"]
    assert "include_client_id" not in params
    assert extra == {"audience": "api", "include_client_id": True}


def test_refresh_form_is_that_of_the_rfc():
    """The request is the example of RFC 6749, section 6."""
    form = refresh_form(
        TOKEN_URL, CLIENT, refresh_token="tGzv3JOkF0XG5Qx2TlKWIA", params={}
    )
    assert form.headers["Authorization"] == BASIC
    assert params_of(form.body) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["tGzv3JOkF0XG5Qx2TlKWIA"],
    }


def test_refresh_form_sends_credentials_once():
    """An id and a secret among the parameters, as Flask-Dance asks for, are ours."""
    params = {"client_id": "other", "client_secret": "other", "resource": "r"}
    form = refresh_form(TOKEN_URL, CLIENT, refresh_token="t", params=params)
    assert params_of(form.body) == {
        "grant_type": ["refresh_token"],
        "refresh_token": ["t"],
        "resource": ["r"],
    }


@pytest.mark.parametrize(
    ("token", "params"),
    [
        (
            {"access_token": "at", "refresh_token": "45ghiukldjahdnhzdauz"},
            {"token": ["45ghiukldjahdnhzdauz"], "token_type_hint": ["refresh_token"]},
        ),
        (
            {"access_token": "45ghiukldjahdnhzdauz", "refresh_token": None},
            {"token": ["45ghiukldjahdnhzdauz"], "token_type_hint": ["access_token"]},
        ),
    ],
)
def test_revocation_form_is_that_of_the_rfc(token, params):
    """The request is the example of RFC 7009, 2.1; the refresh token goes first."""
    form = revocation_form("https://server.example.com/revoke", CLIENT, token)
    assert form.headers["Authorization"] == BASIC
    assert params_of(form.body) == params


def test_basic_is_form_urlencoded_first():
    """T11: the halves are encoded as in RFC 6749, 2.3.1 and appendix B."""
    form = exchange(Client("a:b", " %&+£€"))
    scheme, _, value = form.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    assert base64.b64decode(value) == b"a%3Ab:+%25%26%2B%C2%A3%E2%82%AC"


def test_secret_in_the_body():
    """T11: client_secret_post puts both into the form (RFC 6749, 2.3.1)."""
    client = Client("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", "client_secret_post")
    form = exchange(client)
    assert "Authorization" not in form.headers
    assert params_of(form.body)["client_id"] == ["s6BhdRkqt3"]
    assert params_of(form.body)["client_secret"] == ["7Fjfp0ZBr1KtDRbnfVdmIw"]


def test_public_client_only_names_itself():
    """T11: a public client sends its client_id alone (RFC 6749, 3.2.1)."""
    form = exchange(Client("s6BhdRkqt3", None, "none"))
    assert "Authorization" not in form.headers
    assert params_of(form.body)["client_id"] == ["s6BhdRkqt3"]
    assert "client_secret" not in params_of(form.body)


def test_state_and_verifier_are_long_and_never_the_same():
    """C11: a thousand differ; the verifier has 43-128 unreserved characters."""
    states = {new_state() for _ in range(1000)}
    verifiers = {new_code_verifier() for _ in range(1000)}
    assert len(states) == len(verifiers) == 1000
    for value in states | verifiers:
        assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", value)


def test_what_is_said_of_a_form_shows_nothing():
    """L2: reprs hide secrets, and the secrets know how they look on the way."""

    def in_the_query(client, method, uri, headers, body):
        return f"{uri}?key={client.client_secret}", headers, body

    forms = [
        exchange(Client("id", "top&secret"), code="4/0Ab", code_verifier=VERIFIER),
        exchange(Client("id", "top&secret", in_the_query), code="4/0Ab"),
    ]
    for form in forms:
        said = f"{form!r} {form.secrets!r} {Client('id', 'top&secret')!r}"
        for secret in ("top", "4/0Ab", "4%2F0Ab", VERIFIER):
            assert secret not in said
        assert {"top&secret", "top%26secret", "4/0Ab", "4%2F0Ab"} <= form.secrets
    basic = "aWQ6dG9wJTI2c2VjcmV0"  # id:top%26secret
    assert {f"Basic {basic}", basic, VERIFIER} <= forms[0].secrets
