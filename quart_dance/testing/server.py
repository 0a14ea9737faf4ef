"""The protocol, judged by Authlib's server classes; no framework, no I/O."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any, NoReturn
from urllib.parse import unquote_plus

from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc6749 import (
    AuthorizationServer,
    InvalidClientError,
    InvalidRequestError,
    OAuth2Payload,
    OAuth2Request,
)
from werkzeug.datastructures import Headers, MultiDict

from .grants import CodeGrant, Pkce, RefreshGrant, Revocation
from .records import AuthorizationCode, Client, IssuedToken, Person, Policy

#: What HTTP Basic may carry: the characters that form-encoding leaves (RFC 6749, B).
FORM_ENCODED = re.compile(r"(?:[A-Za-z0-9*._~+-]|%[0-9A-Fa-f]{2})+")


@dataclass(frozen=True)
class Message:
    """A request as the protocol sees it: parameters of its query or of its form."""

    method: str
    params: MultiDict[str, str] = field(repr=False)
    headers: Headers = field(repr=False)


@dataclass(frozen=True)
class Reply:
    """What the protocol answers."""

    status: int
    body: bytes = field(repr=False)
    headers: Headers = field(repr=False)


class Payload(OAuth2Payload):  # type: ignore[misc]
    """The parameters of a message, in the shape that Authlib asks for."""

    def __init__(self, params: MultiDict[str, str]) -> None:
        self._params = params

    @property
    def data(self) -> dict[str, str]:
        return self._params.to_dict()

    @property
    def datalist(self) -> dict[str, list[str]]:
        return self._params.to_dict(flat=False)

    @property
    def response_type(self) -> str | None:
        """Return what may stand in the error about it, where Authlib puts it."""
        value = super().response_type
        return None if value is None else printable(value)


class Request(OAuth2Request):  # type: ignore[misc]
    """A message with the attributes that Authlib's grants leave on a request."""

    def __init__(self, message: Message) -> None:
        # Authlib refuses plain http by the URL. Whether a development server has TLS
        # is its operator's choice, so it is told the URL of one that has.
        super().__init__(message.method, "https://provider", headers=message.headers)
        self.payload = Payload(message.params)

    @property
    def form(self) -> dict[str, str]:
        data: dict[str, str] = self.payload.data
        return data


class MaskedDict(dict[str, Any]):
    """A dict that Authlib may log: it writes every token it issues to its log."""

    def __repr__(self) -> str:
        return f"<{', '.join(self)}>"


class Server(AuthorizationServer):  # type: ignore[misc]
    """An authorization server with one client, in memory.

    Attributes:
        codes: Every code that was issued, also the used ones: to see a second use.
        tokens: Every answer of the token endpoint, also the dead ones.
        reuse_detected: The tokens whose spent refresh token was presented again.
    """

    def __init__(
        self, client: Client, policy: Policy, clock: Callable[[], float]
    ) -> None:
        super().__init__()
        self.client = client
        self.policy = policy
        self.clock = clock
        self._lock = Lock()
        self.codes: dict[str, AuthorizationCode] = {}
        self.tokens: list[IssuedToken] = []
        self.reuse_detected: list[IssuedToken] = []
        self.register_grant(CodeGrant, [Pkce()])
        self.register_grant(RefreshGrant)
        self.register_endpoint(Revocation)
        self.register_client_auth_method("client_secret_basic", authenticate_basic)
        self.register_token_generator("default", self.issue)

    # What Authlib asks of every server

    def query_client(self, client_id: str) -> Client | None:
        return self.client if client_id == self.client.client_id else None

    def create_oauth2_request(self, request: Message) -> Request:
        return request if isinstance(request, Request) else Request(request)

    def handle_response(self, status: int, body: Any, headers: Any) -> Reply:
        content = json.dumps(body).encode() if isinstance(body, dict) else b""
        return Reply(status, content, Headers(headers))

    def send_signal(self, name: str, *args: Any, **kwargs: Any) -> None:
        """Do nothing: nobody listens."""

    def save_token(self, token: dict[str, Any], request: Request) -> None:
        credential = request.authorization_code or request.refresh_token
        self._keep(token, request.user, credential.family)

    def issue(
        self, *, scope: str, include_refresh_token: bool, **_: object
    ) -> MaskedDict:
        """Make the answer of the token endpoint (RFC 6749, section 5.1).

        Authlib's own generator leaves out an `expires_in` of 0.
        """
        token = MaskedDict(
            token_type="Bearer", access_token=secrets.token_urlsafe(), scope=scope
        )
        if self.policy.expires_in is not None:
            token["expires_in"] = self.policy.expires_in
        if include_refresh_token and self.policy.issue_refresh_token:
            token["refresh_token"] = secrets.token_urlsafe()
        return token

    # What the views ask

    def answer_token(self, message: Message) -> Reply:
        """Answer a request to the token endpoint."""
        return self._answer(message, self.create_token_response)

    def answer_revocation(self, message: Message) -> Reply:
        """Answer a request to the revocation endpoint (RFC 7009)."""
        create = partial(self.create_endpoint_response, "revocation")
        return self._answer(message, create)

    def _answer(self, message: Message, create: Callable[[Request], Reply]) -> Reply:
        request = Request(message)
        try:
            for name, values in request.payload.datalist.items():
                if len(values) > 1:  # RFC 6749, section 3.2; Authlib takes one of them
                    raise InvalidRequestError(f"Multiple '{printable(name)}'.")
            with self._lock:
                return create(request)
        except OAuth2Error as error:
            return self.handle_error_response(request, error)  # type: ignore[no-any-return]

    def grant(self, person: Person, scope: str) -> dict[str, Any]:
        """Issue a token to somebody who has not been asked."""
        token = self.issue(scope=scope, include_refresh_token=True)
        self._keep(token, person, secrets.token_hex())
        return dict(token)

    def find_access_token(self, access_token: str) -> IssuedToken | None:
        """Return a token that the API accepts now."""
        for token in self.tokens:
            if token.access_token == access_token:
                return token if token.is_valid(self.clock()) else None
        return None

    def revoke_family(self, family: str) -> None:
        """Kill every token that stems from one login."""
        for token in self.tokens:
            if token.family == family:
                token.revoked = token.refresh_revoked = True

    def _keep(self, token: dict[str, Any], person: Person, family: str) -> None:
        expires_in = token.get("expires_in")
        self.tokens.append(
            IssuedToken(
                person=person,
                scope=token["scope"],
                expires_in=expires_in,
                expires_at=None if expires_in is None else self.clock() + expires_in,
                access_token=token["access_token"],
                refresh_token=token.get("refresh_token"),
                family=family,
            )
        )


def printable(text: str) -> str:
    """Keep what may stand in an error_description (RFC 6749, section 5.2).

    Authlib raises ValueError for the rest, which would be a 500.
    """
    return re.sub(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]", "?", text)[:100]


def authenticate_basic(
    query_client: Callable[[str], Client | None], request: Request
) -> Client | None:
    """Check HTTP Basic, both halves form-urlencoded (RFC 6749, section 2.3.1).

    Authlib's own method takes a "+" for itself where it stands for a space, and lets
    bytes that are not UTF-8 escape as an exception.
    """
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    if "client_secret" in request.form:
        raise InvalidRequestError("More than one way of client authentication.")
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        _refuse()
    halves = text.split(":")
    if len(halves) != 2 or not all(FORM_ENCODED.fullmatch(half) for half in halves):
        _refuse()
    client_id, client_secret = map(unquote_plus, halves)
    client = query_client(client_id)
    if client is None or not client.check_client_secret(client_secret):
        _refuse()
    return client


def _refuse() -> NoReturn:
    raise InvalidClientError(status_code=401, description="Wrong client credentials.")
