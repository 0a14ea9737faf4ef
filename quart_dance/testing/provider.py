"""`DevProvider`: an OAuth 2.0 provider for tests and for development."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import Any
from urllib.parse import urlsplit

from ..consumer.http import ASGITransport
from ..consumer.runtime import Application, runtime
from .asgi import Receive, Scope, Send, describe, read_body
from .consent import Consent
from .faults import CallbackFault, Fault
from .gate import Gate
from .records import ALICE, BOB, Call, Client, IssuedToken, Person, Policy
from .server import Server
from .spoil import FaultQueue, answer
from .visitor import visit
from .web import ROUTES, create_app


class DevProvider:
    """A real OAuth 2.0 provider, as an ASGI application, with people made up.

    In a test it is called in process::

        provider = DevProvider()
        blueprint = OAuth2ConsumerBlueprint("dev", __name__, **provider.options())
        provider.install(app)

    On a port any ASGI server runs it. Two providers share nothing.

    Attributes:
        policy: What is granted; may be changed between two requests.
        calls: Every request that arrived, oldest first, secrets and all.
    """

    def __init__(
        self,
        *,
        url: str = "https://provider.test",
        client_id: str = "dev-client-id",
        client_secret: str | None = "dev-client-secret",
        redirect_uris: Collection[str] | None = None,
        people: Sequence[Person] = (ALICE, BOB),
        expires_in: int | None = 3600,
        issue_refresh_token: bool = True,
        rotate_refresh_tokens: bool = True,
        require_pkce: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Set a provider up; it works at once, and keeps everything in memory.

        Args:
            url: Where it is reachable, without a path.
            client_id: The one client that it knows.
            client_secret: None makes the client a public one, without a secret.
            redirect_uris: The redirect URIs that are accepted, character by
                character; None accepts any https or loopback URI.
            people: Who may log in.
            expires_in: See `Policy`; seconds.
            issue_refresh_token: See `Policy`.
            rotate_refresh_tokens: See `Policy`.
            require_pkce: See `Policy`.
            clock: The time in seconds since 1970.

        Raises:
            ValueError: `url` is not an origin.
        """
        parts = urlsplit(url)
        if parts.path.strip("/") or parts.query or not (parts.scheme and parts.netloc):
            raise ValueError(f"Not an origin such as https://provider.test: {url!r}")
        self.url = url.rstrip("/")
        self.policy = Policy(
            expires_in=expires_in,
            issue_refresh_token=issue_refresh_token,
            rotate_refresh_tokens=rotate_refresh_tokens,
            require_pkce=require_pkce,
        )
        self.calls: list[Call] = []
        self._people = {person.login: person for person in people}
        self._faults = FaultQueue()
        self._gate = Gate()
        client = Client(client_id, client_secret, redirect_uris)
        self._server = Server(client, self.policy, clock)
        self._consent = Consent(self._server, people, self._faults.take_callback)
        self._app = create_app(self._server, self._consent)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    # Where it is, and how to get there

    @property
    def authorization_url(self) -> str:
        return f"{self.url}/authorize"

    @property
    def token_url(self) -> str:
        return f"{self.url}/token"

    @property
    def revocation_url(self) -> str:
        return f"{self.url}/revoke"

    @property
    def base_url(self) -> str:
        return f"{self.url}/api/"

    def options(self) -> dict[str, Any]:
        """Return what an `OAuth2ConsumerBlueprint` must know of this provider."""
        return {
            "client_id": self._server.client.client_id,
            "client_secret": self._server.client.client_secret,
            "scope": "profile",
            "base_url": self.base_url,
            "authorization_url": self.authorization_url,
            "token_url": self.token_url,
            "auto_refresh_url": self.token_url,
            "revocation_url": self.revocation_url,
        }

    def transport(self) -> ASGITransport:
        """Return a transport that brings every request, to any host, here."""
        return ASGITransport(app=self)

    def install(self, app: Application) -> None:
        """Make every token, refresh, revocation and API call of `app` come here.

        Whatever host its blueprints name: only the path counts, and the paths of
        GitHub are known too.
        """
        runtime(app).transport = self.transport()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)  # type: ignore[arg-type]
            return
        body = await read_body(receive)
        if body is None:
            return
        call = describe(scope, body)
        self.calls.append(call)
        fault = self._consent.fault_of(call) or self._faults.take(call.endpoint)
        captured = await answer(
            self._app, scope, body, receive, fault=fault, gate=self._gate
        )
        if captured:
            await captured.send(send)

    # What goes wrong

    def fault(self, endpoint: str, fault: Fault, times: int = 1) -> None:
        """Let something go wrong, in the order in which faults were armed.

        Args:
            endpoint: "authorize", "token", "revoke", "user", "repos", "echo",
                "cookie", "stream" or "redirect".
            fault: One of `quart_dance.testing.faults`.
            times: How many requests it spoils.

        Raises:
            ValueError: There is no such endpoint, or this cannot go wrong there.
        """
        if endpoint not in ROUTES:
            raise ValueError(f"No endpoint {endpoint!r}; there are {', '.join(ROUTES)}")
        if isinstance(fault, CallbackFault) and endpoint != "authorize":
            raise ValueError(f"{fault!r} can only happen at 'authorize'")
        self._faults.arm(endpoint, fault, times)

    def clear_faults(self) -> None:
        """Forget the faults that have not happened yet."""
        self._faults.clear()

    async def held(self, count: int = 1) -> None:
        """Wait until at least `count` requests hang (see `faults.Hang`) at once."""
        await self._gate.held(count)

    def release(self) -> int:
        """Let the requests that hang be answered; return how many there were."""
        return self._gate.release()

    # What happened, and what is alive

    def count(self, endpoint: str) -> int:
        """Return how many requests an endpoint has had."""
        return sum(call.endpoint == endpoint for call in self.calls)

    @property
    def tokens(self) -> list[IssuedToken]:
        """The tokens of which at least one half is alive, oldest first."""
        now = self._server.clock()
        return [
            token
            for token in self._server.tokens
            if token.is_valid(now) or token.is_refreshable()
        ]

    @property
    def reuse_detected(self) -> list[IssuedToken]:
        """The tokens whose spent refresh token was presented once more."""
        return list(self._server.reuse_detected)

    def expire_access_tokens(self, person: str | None = None) -> None:
        """Let the access tokens of one person, or of all, be expired from now on."""
        for token in self._tokens_of(person):
            token.expires_at = self._server.clock()

    def revoke_tokens(self, person: str | None = None) -> None:
        """Withdraw all that one person, or everybody, has granted."""
        for token in self._tokens_of(person):
            token.revoked = token.refresh_revoked = True

    def issue_token(
        self, person: str = "alice", *, scope: str = "profile"
    ) -> dict[str, Any]:
        """Return a token of somebody as the token endpoint gives it, without a login.

        Raises:
            KeyError: There is nobody of that name.
        """
        return self._server.grant(self._people[person], scope)

    def _tokens_of(self, person: str | None) -> list[IssuedToken]:
        if person is None:
            return self._server.tokens
        return [t for t in self._server.tokens if t.person == self._people[person]]

    # The visitor

    async def approve(self, authorization_url: str, *, person: str = "alice") -> str:
        """Log in as somebody, allow what is asked, and return the way back.

        The real pages are opened and their forms sent, in process.

        Returns:
            The callback URL that a browser would be sent to.

        Raises:
            ValueError: The provider shows an error page and sends nobody back.
        """
        return await visit(self, authorization_url, person, "allow")

    async def deny(self, authorization_url: str, *, person: str = "alice") -> str:
        """Log in as somebody and deny what is asked; otherwise as `approve`."""
        return await visit(self, authorization_url, person, "deny")
