"""What the blueprints have in common: a room in Quart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, cast

from blinker import Signal
from quart import (
    Blueprint,
    Quart,
    current_app,
    g,
    has_app_context,
    has_request_context,
    has_websocket_context,
    request,
    websocket,
)

from ..errors import ConfigurationError, StorageError, TokenRequestError
from ..oauth import oauth2
from ..oauth.answer import Answer, check
from ..oauth.token import Token, complete
from .client import OAuth2Session, SessionProxy
from .hooks import install
from .http import post_form
from .options import Consumer
from .pending import Pending
from .runtime import runtime
from .signals import oauth_revoked
from .storage.base import NOBODY, BaseStorage, saved
from .storage.session import SessionStorage


class BaseOAuthConsumerBlueprint(Consumer, Blueprint):
    """A Quart blueprint with a login, a callback, a storage and a session.

    Args:
        name: The blueprint's name; storages file tokens under it.
        import_name: As `quart.Blueprint` takes it.
        options: Our options, and those of `quart.Blueprint`; None means not given.

    Raises:
        ConfigurationError: An option contradicts the protocol.
    """

    def __init__(self, name: str, import_name: str, options: Mapping[str, Any]) -> None:
        rest = {key: value for key, value in options.items() if value is not None}
        given = {key: rest.pop(key) for key in self.option_names() if key in rest}
        storage = rest.pop("storage", None)
        rules = {
            "login": rest.pop("login_url", "/{bp.name}"),
            "authorized": rest.pop("authorized_url", "/{bp.name}/authorized"),
        }
        rule_kwargs = {"methods": ["GET"], **rest.pop("rule_kwargs", {})}
        Blueprint.__init__(self, name, import_name, **rest)
        self._configure(given, storage)
        for endpoint, rule in rules.items():
            view = getattr(self, endpoint)
            self.add_url_rule(rule.format(bp=self), endpoint, view, **rule_kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def register(self, app: Quart, options: dict[str, Any]) -> None:  # type: ignore[override]
        """Register the blueprint with an application.

        Raises:
            ConfigurationError: Another one of the same name is there already; their
                tokens would be filed under one name.
        """
        known: list[Any] = [b for b in app.blueprints.values() if b is not self]
        if any(isinstance(b, Consumer) and b.name == self.name for b in known):
            raise ConfigurationError(
                f"two OAuth blueprints are named {self.name!r}, and tokens are filed "
                "under that name: make one of them with another name"
            )
        super().register(app, options)
        install(app)

    def _app_config(self) -> Mapping[str, Any]:
        return current_app.config if has_app_context() else {}

    async def notify(self, signal: Signal, **data: Any) -> list[Any]:
        wrap = cast(Any, current_app.ensure_async)
        results = await signal.send_async(self, _sync_wrapper=wrap, **data)
        return [value for _, value in results]

    async def post_form(self, form: oauth2.Form) -> Answer:
        return await post_form(runtime(current_app), self, form)

    @property
    def session(self) -> OAuth2Session:
        """The OAuth session of the visitor at hand, looked up at each use."""
        return cast(OAuth2Session, SessionProxy(self.current_session))

    def current_session(self) -> OAuth2Session:
        """Return the session of the request, WebSocket or context at hand.

        Raises:
            RuntimeError: There is none.
        """
        if not has_app_context():
            raise RuntimeError(
                f"the session of {self.name!r} belongs to a visitor, and there is no "
                "request here: in a background job, use "
                "blueprint.session_for(user_id=…, app=app)"
            )
        # Both: on Quart 0.22 the requests of an application that is served within a
        # context share its `g`, and a background task has the request, but its own `g`.
        key = self, cast(Any, g)._get_current_object()
        sessions = _visit().setdefault("quart_dance.sessions", {})
        if key not in sessions:
            sessions[key] = self._new_session()
        return cast(OAuth2Session, sessions[key])

    def _new_session(self, **kwargs: Any) -> OAuth2Session:
        session_class = self.session_class or OAuth2Session
        return cast(OAuth2Session, session_class(self, **kwargs))

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
        if (user is not None) + (user_id is not None) + anonymous != 1:
            raise ValueError(
                "name one account: session_for(user=…), session_for(user_id=…), or "
                "session_for(anonymous=True) for the token that all share"
            )
        if app is None and not has_app_context():
            raise RuntimeError("there is no application here: pass session_for(app=…)")
        storage = self.storage
        if isinstance(storage, SessionStorage):
            raise TypeError(
                "SessionStorage keeps each visitor's token in the visitor's session: "
                "there is no account to name"
            )
        who = {"user": user} if user is not None else {"user_id": user_id}
        if type(storage).account is BaseStorage.account:
            if not anonymous:
                raise TypeError(f"{type(storage).__name__} keeps no tokens for users")
            who = {}
        elif anonymous:
            who = {"user_id": NOBODY}
        application = app or cast(Any, current_app)._get_current_object()
        return self._new_session(app=application, who=who)

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
        try:
            new = complete(token, runtime(current_app).clock())
        finally:
            token = {}  # a traceback may show this frame
        self._must_save()
        await self.keep(new)

    async def delete_token(self) -> None:
        """Forget the visitor's token: they are logged out of the provider here.

        Raises:
            StorageError: The storage cannot save here and now.
        """
        self._must_save()
        await self.forget()

    def _must_save(self) -> None:
        if not self.storage.can_save():
            raise self.about(
                StorageError(
                    f"the token of {self.name!r} would stay as it is: a session is "
                    "saved with the response to a request, and only then"
                )
            )

    async def revoke_token(self) -> None:
        """Have the provider revoke the visitor's token (RFC 7009), then delete it.

        Raises:
            TokenRequestError: The provider failed; the token is kept.
            ConfigurationError: There is no `revocation_url`.
            StorageError: The storage cannot save here and now; nothing is revoked.
        """
        self._must_save()
        # A refresh would bring another token, which nobody would revoke.
        async with self.storage.refresh_lock(self):
            token = await self.load(past_cache=True)
            if token is None:
                return
            url = self.provider_url("revocation_url")
            form = oauth2.revocation_form(url, self.client(), token)
            try:
                check(await self.post_form(form), secrets=form.secrets)
            except TokenRequestError as error:
                self.about(error)
                raise
            await saved(self.storage.replace(self, token, None), token)
        await self.notify(oauth_revoked, token=token)

    async def aclose(self, app: Quart | None = None) -> None:
        """Wait for what runs and close the connections to the provider.

        An application that is served does this by itself; a script does it here.
        """
        await runtime(app or current_app).aclose(self)


def _visit() -> Any:
    """Return what lives as long as the request, WebSocket or context at hand."""
    if has_request_context():
        return request.scope
    if has_websocket_context():
        return websocket.scope
    return g


def preset_session(module: str) -> OAuth2Session:
    """Return a stand-in for the session at the one blueprint that a preset made.

    Args:
        module: The preset's module, which is its blueprints' `import_name`.
    """

    def find() -> OAuth2Session:
        made = dict.fromkeys(
            blueprint
            for blueprint in current_app.blueprints.values()
            if isinstance(blueprint, BaseOAuthConsumerBlueprint)
            and blueprint.import_name == module
        )
        if len(made) == 1:
            return next(iter(made)).current_session()
        name = module.rpartition(".")[2]
        if made:
            raise RuntimeError(
                f"this application has {len(made)} blueprints of {name}: write "
                "`blueprint.session` for the one you mean"
            )
        raise RuntimeError(
            f"this application has no {name} blueprint: "
            f"app.register_blueprint(make_{name}_blueprint())"
        )

    return cast(OAuth2Session, SessionProxy(find))
