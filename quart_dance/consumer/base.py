"""What the blueprints of Quart have in common."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any, ClassVar, NoReturn, cast

import quart
from blinker import Signal
from quart import Blueprint, Quart, current_app, has_request_context, request, websocket

from ..oauth.token import Token
from .client import OAuth2Session, SessionProxy
from .hooks import find_preset, install
from .pending import Pending
from .room import Room
from .runtime import runtime


class BaseOAuthConsumerBlueprint(Room, Blueprint):
    """A Quart blueprint with a login, a callback, a storage and a session; see `Room`.

    Args:
        name: The blueprint's name; storages file tokens under it.
        import_name: As `quart.Blueprint` takes it.
        options: Our options, and those of `quart.Blueprint`; None means not given.

    Raises:
        ConfigurationError: An option contradicts the protocol.
    """

    web: ClassVar[Any] = quart
    default_session_class: ClassVar[type[Any]] = OAuth2Session

    def register(self, app: Quart, options: dict[str, Any]) -> None:  # type: ignore[override]
        """Register the blueprint with an application.

        Raises:
            ConfigurationError: Another one of the same name is there already; their
                tokens would be filed under one name.
        """
        self._check_name(app)
        super().register(app, options)
        install(app)

    async def notify(self, signal: Signal, **data: Any) -> list[Any]:
        wrap = cast(Any, current_app.ensure_async)
        results = await signal.send_async(self, _sync_wrapper=wrap, **data)
        return [value for _, value in results]

    @property
    def session(self) -> OAuth2Session:
        """The OAuth session of the visitor at hand, looked up at each use."""
        return cast(OAuth2Session, SessionProxy(self.current_session))

    def _scope(self) -> MutableMapping[str, Any]:
        if has_request_context():
            return cast(MutableMapping[str, Any], request.scope)
        if quart.has_websocket_context():
            return cast(MutableMapping[str, Any], websocket.scope)
        return super()._scope()

    def session_for(
        self,
        user: Any = None,
        user_id: Any = None,
        *,
        anonymous: bool = False,
        app: Quart | None = None,
    ) -> OAuth2Session:
        """Return a session for an account, with or without a request.

        Args:
            user: A user, as the storage knows them.
            user_id: Or a user's id.
            anonymous: Or the account of nobody, that all share.
            app: The application; needed where there is no application context.

        Raises:
            TypeError: The storage keeps no tokens for users.
            ValueError: Not exactly one account is named; None is nobody's name.
            RuntimeError: There is no application.
        """
        return cast(OAuth2Session, self._session_for(user, user_id, anonymous, app))

    @property
    def token(self) -> Pending[Token | None]:
        """The stored token of the visitor at hand, or None."""
        return Pending("blueprint.token", self.load)

    @token.setter
    def token(self, value: object) -> NoReturn:
        raise TypeError("write `await blueprint.set_token(token)`")

    @token.deleter
    def token(self) -> NoReturn:
        raise TypeError("write `await blueprint.delete_token()`")

    async def set_token(self, token: Mapping[str, Any]) -> None:
        """Store a token in place of whatever is there.

        Args:
            token: A dict with an `access_token`. If it has an `expires_in` in seconds
                and no `expires_at`, that is computed from our clock.

        Raises:
            TypeError: It is not a dict, or holds what JSON cannot express.
            ValueError: It has no `access_token` that a header can carry.
            StorageError: The storage failed, or cannot save here and now.
        """
        setting = self._set_token(token)
        token = {}  # a traceback may show this frame
        await setting

    async def delete_token(self) -> None:
        """Forget the visitor's token: they are logged out of the provider here.

        Raises:
            StorageError: The storage cannot save here and now.
        """
        await self._delete_token()

    async def revoke_token(self) -> None:
        """Have the provider revoke the visitor's token (RFC 7009), then delete it.

        Raises:
            TokenRequestError: The provider failed; the token is kept.
            ConfigurationError: There is no `revocation_url`.
            StorageError: The storage cannot save here and now; nothing is revoked.
        """
        await self._revoke_token()

    async def aclose(self, app: Quart | None = None) -> None:
        """Wait for the refreshes that run and close the connections to the provider.

        An application that is served does this by itself; a script does it here, when
        nothing else runs any more: logins and API calls are not waited for, and may
        fail.
        """
        await runtime(app or current_app).aclose(self)


def preset_session(module: str) -> OAuth2Session:
    """Return a stand-in for the session at the one blueprint that a preset made.

    Args:
        module: The preset's module, which is its blueprints' `import_name`.
    """

    def find() -> Any:
        return find_preset(quart, BaseOAuthConsumerBlueprint, module)

    return cast(OAuth2Session, SessionProxy(find))
