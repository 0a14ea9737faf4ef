"""The default storage: the visitor's own session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar

import quart
from werkzeug.http import dump_cookie

from ...errors import StorageError, TokenTooLargeError
from ...oauth.token import Token
from .base import BaseStorage, Owner, local_lock

#: What browsers accept as one cookie, name and attributes included, in bytes.
MAX_COOKIE = 4093
_ENDED = "quart_dance.request_ended"


class SessionStorage(BaseStorage):
    """Keeps the token in `quart.session`: one visitor, one browser, one token.

    With Quart's default sessions that is a cookie, signed but readable by whoever
    holds the browser, and lost with it. A token that would not fit into the cookie
    is refused. With a server-side session none of this applies.

    A cookie is saved with the response and only then: a refresh whose response never
    arrives is lost with it, and of two parallel responses the later one's cookie
    stays. Where that matters, use a storage on the server.

    Args:
        key: The session key; ``{bp.name}`` stands for the blueprint's name.
        refresh_tokens: Whether refresh tokens are kept too. Without them a token
            that has expired means another login.
    """

    #: The framework whose session it is; `flask` has the same names.
    web: ClassVar[Any] = quart

    def __init__(
        self, key: str = "{bp.name}_oauth_token", *, refresh_tokens: bool = True
    ) -> None:
        self.key = key
        self.refresh_tokens = refresh_tokens

    async def get(self, blueprint: Owner) -> Token | None:
        """Return the token in the session of the request at hand.

        Raises:
            StorageError: There is no request.
        """
        token = self._session(blueprint).get(self._key(blueprint))
        return Token(token).copy() if isinstance(token, dict) else None

    async def set(self, blueprint: Owner, token: Mapping[str, Any]) -> None:
        """Put a token into the session.

        Raises:
            TokenTooLargeError: The cookie would be too large; the session is as before.
            StorageError: There is no request, or no session (no secret key).
        """
        token = Token(token).copy()
        if not self.refresh_tokens:
            token.pop("refresh_token", None)
        # No variable holds the session: a traceback would show the token in it.
        interface = self.web.current_app.session_interface
        if interface.is_null_session(self._session(blueprint)):
            raise StorageError("there is no session: set app.secret_key")
        key = self._key(blueprint)
        size = self._cookie_size({**self._session(blueprint), key: token})
        if size > MAX_COOKIE:
            raise TokenTooLargeError(
                f"with this token the session cookie would have {size} bytes, and "
                f"browsers accept {MAX_COOKIE}: use a storage on the server"
            )
        self._session(blueprint)[key] = dict(token)

    async def delete(self, blueprint: Owner) -> None:
        """Take the token out of the session."""
        self._session(blueprint).pop(self._key(blueprint), None)

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        """Hold off other refreshes of this session, and of nobody else's."""
        key = id(self._session(blueprint)._get_current_object())
        async with local_lock(self, blueprint.name, key):
            yield

    def can_save(self) -> bool:
        """Say whether the session will still be saved: in a request, before its end."""
        return self.web.has_request_context() and _ENDED not in self._scope()

    def _key(self, blueprint: Owner) -> str:
        return self.key.format(bp=blueprint)

    def _scope(self) -> Any:
        """Return what lives as long as the request at hand."""
        return quart.request.scope

    def _has_session(self) -> bool:
        return quart.has_request_context() or quart.has_websocket_context()

    def _session(self, blueprint: Owner) -> Any:
        if self._has_session():
            return self.web.session
        raise StorageError(
            f"the token of {blueprint.name!r} is in the visitor's session, and there "
            "is no request here: a background job needs a storage on the server"
        )

    def _cookie_size(self, values: Mapping[str, Any]) -> int:
        """Return the size of the session cookie in bytes; 0 for one on the server."""
        app = self.web.current_app
        interface = app.session_interface
        if not isinstance(interface, self.web.sessions.SecureCookieSessionInterface):
            return 0
        serializer = interface.get_signing_serializer(app)
        if serializer is None:
            return 0
        cookie = dump_cookie(
            interface.get_cookie_name(app),
            str(serializer.dumps(dict(values))),
            domain=interface.get_cookie_domain(app),
            path=interface.get_cookie_path(app),
            secure=interface.get_cookie_secure(app),
            httponly=interface.get_cookie_httponly(app),
            samesite=interface.get_cookie_samesite(app),
            partitioned=bool(app.config.get("SESSION_COOKIE_PARTITIONED")),
            max_size=0,
        )
        # A permanent session's cookie has an Expires attribute as well.
        return len(cookie) + len("; Expires=Thu, 01 Jan 1970 00:00:00 GMT")


def mark_end(scope: MutableMapping[str, Any]) -> None:
    """Remember, after each request, that its session is about to be saved.

    Code that runs later with the request still at hand (a streaming body, a task)
    would change a session that nobody saves any more.
    """
    scope[_ENDED] = True
