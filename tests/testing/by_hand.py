"""An OAuth client made by hand: raw requests, nothing of the library."""

from __future__ import annotations

import base64
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from quart_dance.testing import DevProvider

# RFC 7636, appendix B
VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
CALLBACK = "https://app.test/login/dev/authorized"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def client_of(provider: DevProvider) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=provider.transport())


def authorization_url(base: str = "https://provider.test/authorize", **changes) -> str:
    params = {
        "response_type": "code",
        "client_id": "dev-client-id",
        "redirect_uri": CALLBACK,
        "scope": "profile",
        "state": "xyz",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        **changes,
    }
    given = {name: value for name, value in params.items() if value is not None}
    return f"{base}?{urlencode(given)}"


def params_of(url: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(url).query, keep_blank_values=True)


async def new_code(provider: DevProvider, person: str = "alice", **changes) -> str:
    callback = await provider.approve(authorization_url(**changes), person=person)
    return params_of(callback)["code"][0]


def code_form(code: str, **changes) -> dict[str, str]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
        "client_id": "dev-client-id",
        "client_secret": "dev-client-secret",
        **changes,
    }
    return {name: value for name, value in form.items() if value is not None}


def refresh_form(refresh_token: str, **changes) -> dict[str, str]:
    return {
        "grant_type": "refresh_token",
        "refresh_token": refresh_token,
        "client_id": "dev-client-id",
        "client_secret": "dev-client-secret",
        **changes,
    }


async def post(provider: DevProvider, url: str, form, headers=None) -> httpx2.Response:
    async with client_of(provider) as client:
        return await client.post(url, data=form, headers=headers)


async def exchange(provider: DevProvider, form, headers=None) -> httpx2.Response:
    return await post(provider, "https://provider.test/token", form, headers)


async def new_token(provider: DevProvider, person: str = "alice") -> dict:
    response = await exchange(provider, code_form(await new_code(provider, person)))
    assert response.status_code == 200, response.text
    return response.json()


async def call(
    provider: DevProvider, access_token: str, path: str = "user", method="GET", **kwargs
) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {access_token}", **kwargs.pop("headers", {})}
    async with client_of(provider) as client:
        url = f"https://provider.test/api/{path}"
        return await client.request(method, url, headers=headers, **kwargs)


def basic(user: str, password: str) -> dict[str, str]:
    """Make the header of HTTP Basic out of two halves, encoded already."""
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}
