"""Faults on demand: small frozen values that say what goes wrong.

``provider.fault("token", SERVER_ERROR)`` arms one; the next request uses it up.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from secrets import token_urlsafe
from typing import ClassVar, TypeAlias
from urllib.parse import urlencode

Params: TypeAlias = list[tuple[str, str]]


@dataclass(frozen=True)
class Answer:
    """Answer with this, whatever was asked; the provider itself does nothing."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def json(
        cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Make an answer of JSON; NaN and Infinity may stand in it."""
        sent = {"Content-Type": "application/json", **(headers or {})}
        return cls(status, json.dumps(value).encode(), sent)

    @classmethod
    def html(cls, text: str, status: int = 200) -> Answer:
        """Make an answer that is a page for people."""
        return cls(status, text.encode(), {"Content-Type": "text/html; charset=utf-8"})


@dataclass(frozen=True)
class Slow:
    """Answer, but not before some seconds have passed.

    Attributes:
        after: The provider does its work first (a refresh token is spent) and only
            its answer is late.
    """

    seconds: float
    after: bool = False


@dataclass(frozen=True)
class Hang:
    """Answer only after `DevProvider.release`, or never if the client leaves.

    Attributes:
        after: The provider does its work first, as in `Slow`.
    """

    after: bool = False


@dataclass(frozen=True)
class Altered:
    """Give the real answer with some members of its JSON object changed.

    Attributes:
        changes: The members that are set, whatever they were.
        without: The members that are left out.
    """

    changes: Mapping[str, object] = field(default_factory=dict, repr=False)
    without: Collection[str] = ()
    content_type: ClassVar[str] = "application/json"

    def body(self, body: bytes) -> bytes:
        """Return the answer to send instead of `body`, a JSON object."""
        value = json.loads(body) | dict(self.changes)
        kept = {name: value[name] for name in value if name not in self.without}
        return json.dumps(kept).encode()


@dataclass(frozen=True)
class FormEncoded:
    """Give the real answer form-encoded, as GitHub does if nobody asks for JSON."""

    content_type: ClassVar[str] = "application/x-www-form-urlencoded; charset=utf-8"

    def body(self, body: bytes) -> bytes:
        """Return the answer to send instead of `body`, a JSON object."""
        return urlencode(json.loads(body)).encode()


@dataclass(frozen=True)
class WrongState:
    """Send the visitor back with a state that nobody asked for."""

    def params(self, params: Params) -> Params:
        """Return the parameters to send to the callback instead of `params`."""
        wrong = [pair for pair in params if pair[0] != "state"]
        return [*wrong, ("state", token_urlsafe())]


@dataclass(frozen=True)
class NoCode:
    """Send the visitor back without a code (and without an error)."""

    def params(self, params: Params) -> Params:
        """Return the parameters to send to the callback instead of `params`."""
        return [pair for pair in params if pair[0] != "code"]


@dataclass(frozen=True)
class TwoCodes:
    """Send the visitor back with the code and another one (RFC 6749, 3.1)."""

    def params(self, params: Params) -> Params:
        """Return the parameters to send to the callback instead of `params`."""
        return [*params, ("code", token_urlsafe())]


#: What goes wrong with a request and its answer.
RequestFault: TypeAlias = Answer | Slow | Hang | Altered | FormEncoded
#: What goes wrong with the visitor's way back; for the endpoint "authorize".
CallbackFault: TypeAlias = WrongState | NoCode | TwoCodes
Fault: TypeAlias = RequestFault | CallbackFault

SERVER_ERROR = Answer.json({"message": "Internal Server Error"}, 500)
BAD_GATEWAY = Answer.html("<html><h1>502 Bad Gateway</h1></html>", 502)
HTML_PAGE = Answer.html("<!doctype html><title>Hello</title><p>Not JSON at all.")
TOO_MANY_REQUESTS = Answer.json(
    {"message": "Slow down"}, 429, headers={"Retry-After": "30"}
)
NO_CONTENT = Answer(204)
EMPTY = Answer(200, b"", {"Content-Type": "application/json"})
TRUNCATED = Answer(200, b'{"access_token": "cut-', {"Content-Type": "application/json"})
#: The refresh token (or the code) is not accepted any more (RFC 6749, 5.2).
DEAD_REFRESH_TOKEN = Answer.json({"error": "invalid_grant"}, 400)

#: The faults that a person may choose on the consent page, for one login.
CHOICES: Mapping[str, tuple[str, Fault]] = {
    "wrong-state": ("come back with a wrong state", WrongState()),
    "no-code": ("come back without a code", NoCode()),
    "two-codes": ("come back with two codes", TwoCodes()),
    "token-500": ("token endpoint: 500", SERVER_ERROR),
    "token-html": ("token endpoint: a page instead of JSON", HTML_PAGE),
    "token-slow": ("token endpoint: 5 seconds late", Slow(5)),
}
