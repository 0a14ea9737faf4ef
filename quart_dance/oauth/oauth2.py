"""OAuth 2.0, pure: what we send to a provider and what its answers mean."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote_plus, urlsplit

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc6749.parameters import prepare_grant_uri, prepare_token_request
from authlib.oauth2.rfc7009 import prepare_revoke_token_request
from authlib.oauth2.rfc7636 import create_s256_code_challenge

from ..errors import ConfigurationError
from .token import NO_SECRETS, Secrets

#: Parameters of the authorization request that are ours alone; "uri" is no parameter
#: of it, but one of Authlib's function, as is "body" below.
AUTHORIZATION_PARAMS = frozenset(
    "response_type client_id redirect_uri scope state code_challenge "
    "code_challenge_method uri".split()
)
#: Likewise of a request to the token endpoint.
TOKEN_PARAMS = frozenset(
    "grant_type code redirect_uri code_verifier refresh_token client_secret "
    "body".split()
)
CREDENTIALS = frozenset(["client_id", "client_secret"])
_FORM = "application/x-www-form-urlencoded"
#: What of a form may be shown: everything else in it can be a secret.
_PUBLIC = frozenset(
    "grant_type redirect_uri client_id token_type_hint scope resource audience".split()
)

#: A client authentication as Authlib's `ClientAuth` takes it.
AuthMethod = str | Callable[..., tuple[str, dict[str, str], str]]
#: Those that go by a name.
AUTH_METHODS = ("client_secret_basic", "client_secret_post", "none")


@dataclass(frozen=True)
class Client:
    """Who we are to a provider (RFC 6749, section 2.3).

    Attributes:
        client_id: As the provider issued it.
        client_secret: None for a public client.
        auth_method: ``client_secret_basic``, ``client_secret_post``, ``none`` or a
            function as Authlib's `ClientAuth` takes it.
    """

    client_id: str
    client_secret: str | None = field(repr=False)
    auth_method: AuthMethod = "client_secret_basic"


@dataclass(frozen=True)
class Form:
    """A form to be posted to a provider.

    Attributes:
        url: Where to.
        headers: Among them the client authentication.
        body: The encoded form.
        secrets: What must not be seen in anything that is said about this request.
    """

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: str = field(repr=False)
    secrets: Secrets = field(repr=False)


def new_state() -> str:
    """Return a fresh `state`: 256 random bits (RFC 6749, section 10.12)."""
    return secrets.token_urlsafe(32)


def new_code_verifier() -> str:
    """Return a fresh `code_verifier` of 64 characters (RFC 7636, section 4.1)."""
    return secrets.token_urlsafe(48)


def check_params(
    option: str, params: Mapping[str, Any], url: str, reserved: frozenset[str]
) -> None:
    """Refuse extra parameters that would compete with the protocol's own.

    Raises:
        ConfigurationError: `params`, or the query of `url`, holds a reserved name.
    """
    names = {name for name, _ in parse_qsl(urlsplit(url).query)} | set(params)
    if taken := sorted(reserved & names):
        raise ConfigurationError(
            f"{option} may not set {', '.join(taken)}: quart_dance sets it anew "
            "for every request"
        )


def authorization_url(
    url: str,
    *,
    client_id: str,
    redirect_uri: str,
    state: str,
    scope: str | Sequence[str] | None = None,
    code_verifier: str | None = None,
    code_challenge_method: str = "S256",
    params: Mapping[str, Any] | None = None,
) -> str:
    """Return the URL to send the visitor to (RFC 6749, 4.1.1; RFC 7636, 4.3)."""
    extra = dict(params or {})
    if code_verifier is not None:
        s256 = code_challenge_method == "S256"
        extra["code_challenge_method"] = code_challenge_method
        extra["code_challenge"] = (
            create_s256_code_challenge(code_verifier) if s256 else code_verifier
        )
    return str(
        prepare_grant_uri(
            url,
            client_id=client_id,
            response_type="code",
            redirect_uri=redirect_uri,
            scope=scope,
            state=state,
            **extra,
        )
    )


@dataclass(frozen=True)
class Callback:
    """What the visitor's browser brought back (RFC 6749, section 4.1.2).

    Attributes:
        states: Every `state` that came; one, if all is well.
        code: The authorization code, or None.
        error: The provider's error code, cleaned, or None.
        error_description: Likewise.
        error_uri: Likewise; only http(s).
        iss: The issuer (RFC 9207), or None.
        problem: What is wrong with the parameters, or None.
    """

    states: tuple[str, ...] = field(default=(), repr=False)
    code: str | None = field(default=None, repr=False)
    error: str | None = None
    error_description: str | None = None
    error_uri: str | None = None
    iss: str | None = None
    problem: str | None = None


def read_callback(query: bytes) -> Callback:
    """Read the query of a callback; never raises.

    Args:
        query: The raw query string.
    """
    if len(query) > 16_384:
        return Callback(problem="The callback's query is too long.")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict"
        )
    except ValueError:  # not ASCII, or not UTF-8 behind its percent signs
        return Callback(problem="The callback's query is not UTF-8.")
    found = dict(pairs)
    error, uri = found.get("error"), clean(found.get("error_uri"))
    return Callback(
        states=tuple(value for name, value in pairs if name == "state"),
        code=found.get("code"),
        error=clean(error, 64) or (error if error is None else "error"),
        error_description=clean(found.get("error_description")) or None,
        error_uri=uri if uri and uri.startswith(("https://", "http://")) else None,
        iss=found.get("iss"),
        problem=_callback_problem(found, repeated=len(found) < len(pairs)),
    )


def _callback_problem(found: Mapping[str, str], *, repeated: bool) -> str | None:
    if repeated:  # RFC 6749, section 3.1
        return "A parameter of the callback came twice."
    if "code" in found and "error" in found:
        return "The callback holds both a code and an error."
    if "error" in found:
        return None
    if not found.get("code"):
        return "The callback holds no code."
    return None


def clean(text: str | None, length: int = 200, secrets: Secrets = NO_SECRETS) -> str:
    """Return a provider's words as one line that is safe to log and to show.

    Args:
        text: What the provider said.
        length: Characters that are kept.
        secrets: Strings that are masked wherever they stand.
    """
    text = text or ""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    kept = "".join(char if char.isprintable() else " " for char in text[: 4 * length])
    return " ".join(kept.split())[:length]


def code_form(
    url: str,
    client: Client,
    *,
    code: str,
    redirect_uri: str,
    code_verifier: str | None,
    params: Mapping[str, Any],
) -> Form:
    """Return the request that turns a code into a token (RFC 6749, 4.1.3)."""
    extra = dict(params)
    if extra.pop("include_client_id", False):
        extra["client_id"] = client.client_id
    body = prepare_token_request(
        "authorization_code",
        redirect_uri=redirect_uri,
        **{**extra, "code": code, "code_verifier": code_verifier},
    )
    return _authenticated(url, client, body)


def refresh_form(
    url: str, client: Client, *, refresh_token: str, params: Mapping[str, Any]
) -> Form:
    """Return the request that refreshes a token (RFC 6749, section 6)."""
    # Flask-Dance asks for the client's id and secret here; ours are sent anyway.
    extra = {k: v for k, v in params.items() if k not in CREDENTIALS}
    body = prepare_token_request(
        "refresh_token", **{**extra, "refresh_token": refresh_token}
    )
    return _authenticated(url, client, body)


def revocation_form(url: str, client: Client, token: Mapping[str, Any]) -> Form:
    """Return the request that revokes a token (RFC 7009, section 2.1).

    The refresh token is named if there is one: with it its access tokens go.
    """
    hint = "refresh_token" if token.get("refresh_token") else "access_token"
    body, _ = prepare_revoke_token_request(token[hint], hint)
    return _authenticated(url, client, body)


def _authenticated(url: str, client: Client, body: str) -> Form:
    client_id, client_secret = client.client_id, client.client_secret or ""
    if client.auth_method == "client_secret_basic":
        # RFC 6749, section 2.3.1: form-urlencoded first, then base64.
        client_id, client_secret = quote_plus(client_id), quote_plus(client_secret)
    auth = ClientAuth(client_id, client_secret, client.auth_method)
    headers = {"Content-Type": _FORM, "Accept": "application/json"}
    url, headers, body = auth.prepare("POST", url, headers, body)
    said = {v for k, v in parse_qsl(body) if k not in _PUBLIC} | {client_secret}
    authorization = headers.get("Authorization", "")
    said |= {client.client_secret or "", authorization, authorization.split(" ")[-1]}
    said |= {quote_plus(value) for value in said}
    return Form(url, headers, body, Secrets(said - {""}))
