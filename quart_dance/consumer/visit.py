"""A request to the login or the callback, and the reply, without a framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

from werkzeug.sansio.response import Response as AnyResponse

from ..errors import ConfigurationError
from ..oauth.attempt import Seal
from ..oauth.urls import common_path
from .runtime import Runtime


@dataclass(frozen=True)
class Visit:
    """A request to the login or to the callback, as far as we look at it.

    Attributes:
        query: The raw query string.
        next: The query argument of that name, or None.
        cookies: All of the request's.
        cross_site: Whether another site made the browser come here (Fetch Metadata).
        login_url: Of this blueprint, as a path.
        callback_url: Of this blueprint, absolute, as the provider is told it.
        home: Where the visitor goes after the login, without a `next`.
        secret_keys: The application's, the current one first.
        runtime: The application's.
    """

    query: bytes = field(repr=False)
    next: str | None
    cookies: Mapping[str, str] = field(repr=False)
    cross_site: bool
    login_url: str
    callback_url: str
    home: str
    secret_keys: Sequence[str | bytes] = field(repr=False)
    runtime: Runtime

    def seal(self) -> Seal:
        """Return what seals attempts.

        Raises:
            ConfigurationError: The application has no secret key.
        """
        if not self.secret_keys:
            raise ConfigurationError(
                "a login needs a secret key: set app.secret_key to a long random "
                "string that stays the same, such as that of secrets.token_hex()"
            )
        return Seal(self.secret_keys)

    def login_with(self, wanted: str | None) -> str:
        """Return the URL of a login that ends at the path that is wanted."""
        return self.login_url + (f"?{urlencode({'next': wanted})}" if wanted else "")

    def cookie_path(self, redirect_uri: str) -> str:
        """Return the path under which the login and its callback lie."""
        return common_path(self.login_url, urlsplit(redirect_uri).path)


@dataclass(frozen=True)
class Cookie:
    """A cookie to set, or without a value to delete (RFC 6265)."""

    name: str
    path: str
    secure: bool
    value: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reply:
    """What the visitor is told: a redirect, a page, or a receiver's response."""

    location: str | None = field(default=None, repr=False)
    page: str | None = None
    status: int = 302
    response: AnyResponse | None = None
    cookies: tuple[Cookie, ...] = ()
