"""What the blueprints of Quart and of Flask have in common.

Both frameworks call the same things by the same names: `web` is the framework's own
module, `quart` or `flask`. What differs is which of its functions are awaited, and
that is left to the blueprints.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit, urlunsplit

from werkzeug.exceptions import BadRequest, MethodNotAllowed

from ..errors import ConfigurationError, StorageError, TokenRequestError
from ..oauth import oauth2
from ..oauth.answer import Answer, check
from ..oauth.attempt import LIFE
from ..oauth.token import Token, complete
from ..oauth.urls import has_host
from . import pages
from .consumer import Consumer
from .hooks import registered_name
from .http import post_form
from .runtime import runtime
from .signals import oauth_revoked
from .storage.base import NOBODY, saved
from .storage.locks import refresh_locked
from .storage.session import SessionStorage
from .visit import Reply, Visit

#: Of every answer of a login; those of a page are more.
_HEADERS = {k: pages.HEADERS[k] for k in ("Cache-Control", "Referrer-Policy")}


class Room(Consumer):
    """A blueprint with a login, a callback, a storage and a session.

    Args:
        name: The blueprint's name; storages file tokens under it.
        import_name: As the framework's own blueprint takes it.
        options: Our options, and those of that blueprint; None means not given.

    Attributes:
        web: The framework, `quart` or `flask`.
        options: What was given, but for the storage and what was None.

    Raises:
        ConfigurationError: An option contradicts the protocol.
    """

    web: ClassVar[Any]
    #: The class of `session`, where `session_class` names none.
    default_session_class: ClassVar[type[Any]]

    def __init__(self, name: str, import_name: str, options: Mapping[str, Any]) -> None:
        rest = {key: value for key, value in options.items() if value is not None}
        storage = rest.pop("storage", None)
        self.options = dict(rest)
        given = {key: rest.pop(key) for key in self.option_names() if key in rest}
        rules = {
            "login": rest.pop("login_url", "/{bp.name}"),
            "authorized": rest.pop("authorized_url", "/{bp.name}/authorized"),
        }
        rule_kwargs = {"methods": ["GET"], **rest.pop("rule_kwargs", {})}
        super().__init__(name, import_name, **rest)  # type: ignore[call-arg]
        self._configure(given, storage)
        blueprint = cast(Any, self)
        for endpoint, rule in rules.items():
            view = getattr(self, endpoint)
            blueprint.add_url_rule(rule.format(bp=self), endpoint, view, **rule_kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def _check_name(self, app: Any) -> None:
        """Refuse a second blueprint of one name in an application.

        Raises:
            ConfigurationError: Another one is there; their tokens would be filed under
                one name.
        """
        known = [b for b in app.blueprints.values() if b is not self]
        if any(isinstance(b, Consumer) and b.name == self.name for b in known):
            raise ConfigurationError(
                f"two OAuth blueprints are named {self.name!r}, and tokens are filed "
                "under that name: make one of them with another name"
            )

    def _app_config(self) -> Mapping[str, Any]:
        return self.web.current_app.config if self.web.has_app_context() else {}

    async def post_form(self, form: oauth2.Form) -> Answer:
        return await post_form(runtime(self.web.current_app), self, form)

    # The sessions

    def current_session(self) -> Any:
        """Return the session of the request, WebSocket or context at hand.

        Raises:
            RuntimeError: There is none.
        """
        if not self.web.has_app_context():
            raise outside(self)
        return self._of_visit("sessions", self._new_session)

    def _of_visit(self, kind: str, make: Any) -> Any:
        """Return something of this visit and blueprint, made on first use."""
        # Both: on Quart 0.22, and in Flask's tests, requests that are served within a
        # context share its `g`, and a background task has the request, but its own `g`.
        key = self, self.web.g._get_current_object()
        made = self._scope().setdefault(f"quart_dance.{kind}", {})
        if key not in made:
            made[key] = make()
        return made[key]

    def _scope(self) -> MutableMapping[str, Any]:
        """Return what lives as long as the request, WebSocket or context at hand."""
        return cast(MutableMapping[str, Any], self.web.g)

    def _new_session(self, **kwargs: Any) -> Any:
        session_class = self.session_class or self.default_session_class
        return session_class(self, **kwargs)

    def _session_for(
        self, user: Any, user_id: Any, anonymous: bool, app: Any | None
    ) -> Any:
        """Return a session for an account; see the blueprints' `session_for`."""
        if (user is not None) + (user_id is not None) + anonymous != 1:
            raise ValueError(
                "name one account: session_for(user=…), session_for(user_id=…), or "
                "session_for(anonymous=True) for the token that all share"
            )
        if app is None and not self.web.has_app_context():
            raise RuntimeError("there is no application here: pass session_for(app=…)")
        storage = self.async_storage
        # Under Flask it is inside of the one that is assigned.
        if isinstance(getattr(self.storage, "async_storage", storage), SessionStorage):
            raise TypeError(
                "SessionStorage keeps each visitor's token in the visitor's session: "
                "there is no account to name"
            )
        who = {"user": user} if user is not None else {"user_id": user_id}
        if not storage.keeps_accounts:
            if not anonymous:
                kind = type(self.storage).__name__
                raise TypeError(f"{kind} keeps no tokens for users")
            who = {}
        elif anonymous:
            who = {"user_id": NOBODY}
        application = app or self.web.current_app._get_current_object()
        return self._new_session(app=application, who=who)

    @contextmanager
    def session_with(self, token: Token) -> Iterator[None]:
        session = self.current_session()
        session.arrived = token
        try:
            yield
        finally:
            session.arrived = None

    # The token

    async def _set_token(self, token: Mapping[str, Any]) -> None:
        try:
            new = complete(token, runtime(self.web.current_app).clock())
        finally:
            token = {}  # a traceback may show this frame
        self._must_save()
        await self.keep(new)

    async def _delete_token(self) -> None:
        self._must_save()
        await self.forget()

    def _must_save(self) -> None:
        if not self.async_storage.can_save():
            raise self.about(
                StorageError(
                    f"the token of {self.name!r} would stay as it is: a session is "
                    "saved with the response to a request, and only then"
                )
            )

    async def _revoke_token(self) -> None:
        self._must_save()
        # A refresh would bring another token, which nobody would revoke.
        async with refresh_locked(self.async_storage, self):
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
            await saved(self.async_storage.replace(self, token, None), token)
        await self.notify(oauth_revoked, token=token)

    # A request to the login or the callback, and the response

    def _visit(self, view_args: dict[str, Any]) -> Visit:
        request, url_for, app = self.web.request, self.web.url_for, self.web.current_app
        if request.method != "GET":  # HEAD comes with every GET rule
            raise MethodNotAllowed(["GET"])
        name = registered_name(self.web, self)
        keys = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
        home = self.redirect_url
        if not home:
            root = request.root_path.rstrip("/") + "/"
            home = url_for(self.redirect_to) if self.redirect_to else root
        return Visit(
            query=request.query_string,
            next=request.args.get("next"),
            cookies=request.cookies,
            cross_site=request.headers.get("Sec-Fetch-Site") == "cross-site",
            login_url=url_for(f"{name}.login", _external=False, **view_args),
            callback_url=(
                self.redirect_uri or self._external(f"{name}.authorized", view_args)
            ),
            home=home,
            secret_keys=[key for key in keys if key],
            runtime=runtime(app),
        )

    def _external(self, endpoint: str, values: dict[str, Any]) -> str:
        """Return the absolute URL of an endpoint as the configuration wants it.

        The request's Host header counts only where there is no ``SERVER_NAME``: with
        one, the frameworks build URLs from it.

        Raises:
            BadRequest: The request names no host (RFC 9112, section 3.2).
        """
        url = self.web.url_for(endpoint, _external=True, **values)
        if not has_host(url):
            raise BadRequest("The Host header is missing or invalid.")
        parts = urlsplit(url)
        if self.web.current_app.config.get("PREFER_SECURE_URLS"):  # Quart's
            parts = parts._replace(scheme="https")
        return str(urlunsplit(parts))

    def _content(self, reply: Reply) -> Any:
        """Return what the framework's `make_response` makes a response of."""
        if reply.response is not None:
            return reply.response
        if reply.page is not None:
            return reply.page, reply.status
        return self.web.redirect(reply.location or "/")


def outside(consumer: Consumer) -> RuntimeError:
    """Return what is raised where a visitor's token is wanted, and nobody visits."""
    return RuntimeError(
        f"the session of {consumer.name!r} belongs to a visitor, and there is no "
        "request here: in a background job, use "
        "blueprint.session_for(user_id=…, app=app)"
    )


def dress(response: Any, reply: Reply) -> None:
    """Set a reply's cookies, and see that no cache keeps it and no referrer tells."""
    headers = pages.HEADERS if reply.page is not None else _HEADERS
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    for cookie in reply.cookies:
        response.set_cookie(
            cookie.name,
            cookie.value or "",
            max_age=LIFE if cookie.value else 0,
            expires=None if cookie.value else 0,
            path=cookie.path,
            secure=cookie.secure,
            httponly=True,
            samesite="Lax",
        )
