"""The OAuth 2.0 blueprint for Flask."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, ClassVar, Unpack, cast

import flask
from blinker import Signal
from flask import Blueprint, Flask, Response, current_app

from ...consumer.dance import OAuth2Dance
from ...consumer.options import OAuth2Options, Option
from ...consumer.room import Room, dress
from ...consumer.runtime import runtime
from ...consumer.storage import base
from ...consumer.storage.base import saved
from ...consumer.storage.caller import in_caller
from ...consumer.visit import Cookie, Reply, Visit
from ...oauth import oauth2
from ...oauth.attempt import Attempt, Seal, cookie_name
from ...oauth.token import Token
from ..async_storages import as_async
from ..bridge import check_threads, run
from .hooks import NobodysConfig, ensure_sync, install
from .requests import OAuth2Session, SessionProxy, read, wait_for
from .storage.session import SessionStorage


class _Elsewhere(Attempt):
    """A login that was begun under Flask-Dance, or by a test: in the session."""


class FlaskOptions(OAuth2Options, total=False):
    """The options that there are under Flask beside `OAuth2Options`.

    Attributes:
        state: A fixed `state`, for tests only: it protects nobody.
    """

    state: str | None


class OAuth2ConsumerBlueprint(Room, OAuth2Dance, Blueprint):
    """A Flask blueprint that logs visitors in with an OAuth 2.0 provider.

    Args:
        name: The blueprint's name; storages file tokens under it.
        import_name: As `flask.Blueprint` takes it.
        client_id: As the provider issued it.
        client_secret: Likewise.
        **options: See `OAuth2Options`; `storage` is a sync storage, or an async one.

    Raises:
        ConfigurationError: An option contradicts the protocol.
    """

    web: ClassVar[Any] = flask
    default_storage: ClassVar[Any] = SessionStorage()
    default_session_class: ClassVar[type[Any]] = OAuth2Session
    state = Option[str | None](None)

    def __init__(
        self,
        name: str,
        import_name: str,
        client_id: str | None = None,
        client_secret: str | None = None,
        **options: Unpack[FlaskOptions],
    ) -> None:
        given = {"client_id": client_id, "client_secret": client_secret, **options}
        super().__init__(name, import_name, given)

    def register(self, app: Flask, options: dict[str, Any]) -> None:  # type: ignore[override]
        """Register the blueprint with an application.

        Raises:
            ConfigurationError: Another one of the same name is there already; their
                tokens would be filed under one name.
            RuntimeError: gevent or eventlet has replaced threads.
        """
        check_threads()
        self._check_name(app)
        super().register(app, options)
        install(app)

    def login(self, **view_args: Any) -> Response:
        """Send the visitor to the provider; the view of the route ``login``."""
        return self._respond(wait_for(self, self.begin(self._visit(view_args))))

    def authorized(self, **view_args: Any) -> Response:
        """Take the visitor back; the view of the route ``authorized``."""
        return self._respond(wait_for(self, self.finish(self._visit(view_args))))

    def _respond(self, reply: Reply) -> Response:
        made = current_app.make_response(self._content(reply))
        dress(made, reply)
        return made

    async def notify(self, signal: Signal, **data: Any) -> list[Any]:
        def send() -> list[Any]:
            wrap = cast(Any, ensure_sync)
            results = signal.send(self, _async_wrapper=wrap, **data)
            return [value for _, value in results]

        return await in_caller(send) if signal.has_receivers_for(self) else []

    def _as_async(self, storage: Any) -> base.BaseStorage:
        return as_async(storage)

    # The visitor

    def _scope(self) -> MutableMapping[str, Any]:
        if flask.has_request_context():
            return flask.request.environ
        return super()._scope()

    @property
    def session(self) -> OAuth2Session:
        """The OAuth session of the visitor at hand, looked up at each use."""
        return cast(OAuth2Session, SessionProxy(self.current_session))

    def current_session(self) -> Any:
        # Flask-Dance's tells its configuration anywhere; the token needs a context.
        if not flask.has_app_context():
            return self._new_session()
        return super().current_session()

    @property
    def config(self) -> MutableMapping[str, Any]:
        """Whose visit it is, as ``config["user"]`` or ``config["user_id"]``.

        Flask-Dance has one for all; this is the visit's alone. `SQLAlchemyStorage`
        looks into it where it has no user of its own. Without an application context
        it is empty, and setting it raises a RuntimeError.
        """
        if not flask.has_app_context():
            return NobodysConfig(self)
        return cast(dict[str, Any], self._of_visit("config", dict))

    def session_for(
        self,
        user: Any = None,
        user_id: Any = None,
        *,
        anonymous: bool = False,
        app: Flask | None = None,
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

    # The token

    @property
    def token(self) -> Token | None:
        """The stored token of the visitor at hand, or None; set it, or delete it."""
        return read(self, self.load())

    @token.setter
    def token(self, value: Mapping[str, Any]) -> None:
        setting = self._set_token(value)
        value = {}  # a traceback may show this frame
        wait_for(self, setting)

    @token.deleter
    def token(self) -> None:
        self.delete_token()

    def set_token(self, token: Mapping[str, Any]) -> None:
        """Store a token in place of whatever is there; so does ``token = …``.

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
        wait_for(self, setting)

    def delete_token(self) -> None:
        """Forget the visitor's token; so does ``del blueprint.token``.

        Raises:
            StorageError: The storage cannot save here and now.
        """
        wait_for(self, self._delete_token())

    def revoke_token(self) -> None:
        """Have the provider revoke the visitor's token (RFC 7009), then delete it.

        Raises:
            TokenRequestError: The provider failed; the token is kept.
            ConfigurationError: There is no `revocation_url`.
            StorageError: The storage cannot save here and now; nothing is revoked.
        """
        wait_for(self, self._revoke_token())

    def close(self, app: Flask | None = None) -> None:
        """Wait for the refreshes that run and close the connections to the provider.

        The end of the process does this by itself. Call it when nothing else runs any
        more: logins and API calls are not waited for, and may fail.
        """
        run(runtime(app or current_app).aclose(self))

    # What Flask-Dance does differently

    def _new_state(self) -> str:
        return self.state or super()._new_state()

    def _use_up(self, visit: Visit, state: str) -> bool:
        return super()._use_up(visit, state) or state == self.state

    def _denied(self, visit: Visit, reply: Reply) -> Reply:
        return Reply(location=visit.home)

    def _told(
        self, error: Exception, callback: oauth2.Callback | None
    ) -> dict[str, str | None]:
        if callback is None or callback.error is None:
            return super()._told(error, callback)
        # With Flask-Dance they hear of it whatever the state; the typed error knows.
        return {
            "error": callback.error,
            "error_description": callback.error_description,
            "error_uri": callback.error_uri,
        }

    def _remember(self, visit: Visit, attempt: Attempt) -> tuple[Cookie, ...]:
        cookies = super()._remember(visit, attempt)
        with suppress(RuntimeError):  # there may be no session at all
            flask.session[f"{self.name}_oauth_state"] = attempt.state
            flask.session[f"{self.name}_oauth_attempt"] = cookie_name(attempt.state)
        return cookies

    def _find(self, visit: Visit, seal: Seal, state: str) -> Attempt | None:
        begun = self._begun_elsewhere(visit, state)
        return super()._find(visit, seal, state) or begun

    def _begun_elsewhere(self, visit: Visit, state: str) -> Attempt | None:
        """Take a login out of the session that Flask-Dance, or a test, put there.

        Ours leave a mark beside their state: they are only good with their cookie.
        """
        key = f"{self.name}_oauth_state"
        kept = str(flask.session.get(key, ""))
        if not kept or not hmac.compare_digest(
            kept.encode(), state.encode("utf-8", "surrogatepass")
        ):
            return None
        del flask.session[key]
        verifier = flask.session.pop(f"{self.name}_oauth_code_verifier", None)
        mark = flask.session.pop(f"{self.name}_oauth_attempt", None)
        if mark == cookie_name(state) or (self.use_pkce and not verifier):
            return None
        return _Elsewhere(
            started=int(visit.runtime.clock()),
            blueprint=self.name,
            state=state,
            code_verifier=verifier if self.use_pkce else None,
            redirect_uri=self._redirect_uri(visit),
            next=None,
            account=None,
        )

    async def _receive(
        self, visit: Visit, callback: oauth2.Callback, attempts: Sequence[Attempt]
    ) -> Reply:
        if any(isinstance(attempt, _Elsewhere) for attempt in attempts):
            # Who was logged in when it began, nobody has written down.
            account = await saved(self.async_storage.account(self))
            attempts = [replace(attempt, account=account) for attempt in attempts]
        return await super()._receive(visit, callback, attempts)
