"""What the provider remembers: people, its client, codes, tokens and calls."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from hmac import compare_digest

from authlib.oauth2.rfc6749 import AuthorizationCodeMixin, ClientMixin, TokenMixin
from werkzeug.datastructures import Headers, ImmutableMultiDict

from ..oauth.urls import is_secure

#: Seconds that an authorization code lives (RFC 6749, 4.1.2: 10 minutes at most).
CODE_LIFE = 60

#: The characters of a scope token (RFC 6749, 3.3), and the space between two.
SCOPE_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F))) - set('"\\')


@dataclass(frozen=True)
class Person:
    """Somebody who has an account at the provider."""

    id: int
    login: str
    name: str
    email: str


ALICE = Person(1, "alice", "Alice Liddell", "alice@example.com")
BOB = Person(2, "bob", "Bob Cratchit", "bob@example.com")


@dataclass
class Policy:
    """What the provider grants; a test may change it between two requests.

    Attributes:
        expires_in: Life of an access token in seconds; None for one that never
            expires, about which the answer is silent.
        issue_refresh_token: Give a refresh token with an access token.
        rotate_refresh_tokens: Replace it with every refresh (RFC 9700, 4.14.2).
        require_pkce: Refuse an authorization request without a code challenge.
    """

    expires_in: int | None = 3600
    issue_refresh_token: bool = True
    rotate_refresh_tokens: bool = True
    require_pkce: bool = True


@dataclass(frozen=True)
class Client(ClientMixin):  # type: ignore[misc]
    """The one application that the provider knows (RFC 6749, section 2)."""

    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_uris: Collection[str] | None

    def get_default_redirect_uri(self) -> str | None:
        """Return the only registered redirect URI (RFC 6749, section 3.1.2.3)."""
        uris = list(self.redirect_uris or ())
        return uris[0] if len(uris) == 1 else None

    def get_allowed_scope(self, scope: str | None) -> str | None:
        """Return the scope that is granted; None if it is malformed."""
        if not scope:
            return "profile"
        return scope if SCOPE_CHARACTERS.issuperset(scope) else None

    def check_redirect_uri(self, redirect_uri: str) -> bool:
        """Compare as plain strings (RFC 9700, section 2.1)."""
        if self.redirect_uris is not None:
            return redirect_uri in self.redirect_uris
        visible = all("!" <= char <= "~" for char in redirect_uri)
        return visible and "#" not in redirect_uri and is_secure(redirect_uri)

    def check_client_secret(self, client_secret: str) -> bool:
        expected = (self.client_secret or "").encode()
        return compare_digest(expected, client_secret.encode())

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        """Let a client without a secret, and no other, go without one."""
        return (method == "none") == (self.client_secret is None)

    def check_response_type(self, response_type: str) -> bool:
        return response_type == "code"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type in ("authorization_code", "refresh_token")


@dataclass
class AuthorizationCode(AuthorizationCodeMixin):  # type: ignore[misc]
    """A code on its way to the client, and the grant that it stands for."""

    code: str = field(repr=False)
    person: Person
    scope: str
    redirect_uri: str | None
    expires_at: float
    code_challenge: str | None = field(repr=False)
    code_challenge_method: str | None
    family: str = field(default_factory=secrets.token_hex, repr=False)
    used: bool = False

    def get_redirect_uri(self) -> str | None:
        return self.redirect_uri

    def get_scope(self) -> str:
        return self.scope


@dataclass(eq=False)
class IssuedToken(TokenMixin):  # type: ignore[misc]
    """One answer of the token endpoint.

    Attributes:
        family: The same for every token that stems from one login.
        cookie: The value that the API's cookie has for this token.
        revoked: The access token is dead.
        refresh_revoked: The refresh token is dead.
        spent: The refresh token was replaced by a newer one.
    """

    person: Person
    scope: str
    expires_in: int | None
    expires_at: float | None
    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    family: str = field(repr=False)
    cookie: str = field(default_factory=secrets.token_hex, repr=False)
    revoked: bool = False
    refresh_revoked: bool = False
    spent: bool = False

    def check_client(self, client: Client) -> bool:
        # There is one client, and it has been authenticated.
        return True

    def get_scope(self) -> str:
        return self.scope

    def is_valid(self, now: float) -> bool:
        """Say whether the API accepts the access token at `now` (a Unix time)."""
        in_time = self.expires_at is None or now < self.expires_at
        return in_time and not self.revoked

    def is_refreshable(self) -> bool:
        """Say whether the token endpoint accepts the refresh token."""
        return bool(self.refresh_token) and not (self.refresh_revoked or self.spent)


@dataclass(frozen=True, eq=False)
class Call:
    """One request that arrived, with all its secrets; its repr shows none.

    Attributes:
        endpoint: A name such as "token" or "user"; "unknown" for any other path.
        url: The whole URL, with the host that the caller believed to talk to.
    """

    endpoint: str
    method: str
    path: str
    url: str = field(repr=False)
    query: ImmutableMultiDict[str, str] = field(repr=False)
    headers: Headers = field(repr=False)
    form: ImmutableMultiDict[str, str] = field(repr=False)
