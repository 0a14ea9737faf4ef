"""What a blueprint knows of its provider and of us."""

from __future__ import annotations

import ssl
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar
from urllib.parse import urljoin, urlsplit

from blinker import Signal

from ..errors import (
    ConfigurationError,
    OAuthError,
    StorageError,
    UserRequiredError,
)
from ..oauth import oauth2
from ..oauth.token import Token, has_access_token
from ..oauth.urls import is_secure
from .options import AllowedOrigins, AnyStorage, Configured, Option
from .storage.base import BaseStorage, saved, turn
from .storage.session import SessionStorage

E = TypeVar("E", bound=OAuthError)
#: An account, as a storage's methods take it: nothing, or `user` or `user_id`.
Who = Mapping[str, Any]
#: The default of options that are dicts: all blueprints share it.
_NOTHING: Mapping[str, Any] = MappingProxyType({})

_URLS = (
    "base_url",
    "authorization_url",
    "token_url",
    "auto_refresh_url",
    "revocation_url",
)


class Consumer(Configured):
    """What a blueprint knows of its provider and of us; configuration only.

    An option that is not given is read from the app config at each use, under the
    key that `from_config` names for it.

    Attributes:
        from_config: Names of options, each with its key in the app config.
        client_id: As the provider issued it.
        client_secret: None for a public client.
        token_endpoint_auth_method: ``client_secret_basic`` (the default: RFC 6749,
            section 2.3.1), ``client_secret_post``, ``none``, or a function as
            Authlib's `ClientAuth` takes it.
        scope: What to ask for: a string, or a list of strings.
        base_url: The API; relative URLs are joined to it.
        allowed_origins: Further origins that may see the token; ``https://*.x.org``
            stands for one label; or a function of the token that returns them.
        authorization_url: Where visitors are sent; may be relative to `base_url`.
        authorization_url_params: Further parameters of it.
        token_url: Where codes become tokens; may be relative to `base_url`.
        token_url_params: Further parameters of the request.
        token_types: Values of `token_type` that are accepted, in lower case.
        auto_refresh_url: Where tokens are refreshed; None means never.
        auto_refresh_kwargs: Further parameters of that request.
        revocation_url: Where tokens are revoked (RFC 7009), or None.
        issuer: What `iss` in a callback must be (RFC 9207), or None.
        redirect_url: Where a visitor goes after the login, without a `next`.
        redirect_to: Likewise, the name of an endpoint.
        redirect_uri: The callback's own URL, for the provider; else it comes from
            ``SERVER_NAME``, else from the request.
        allow_insecure_redirect: Allow a plain http callback beyond loopback.
        use_pkce: Whether to use PKCE (RFC 7636).
        code_challenge_method: ``S256``, or ``plain`` for a provider without it.
        session_class: The class of `session`.
        verify: False, or an SSL context, for a provider with a private certificate.
        timeout: Seconds that an API call may wait for the network.
    """

    name: str
    #: What `storage` is where none is given; it holds nothing of a blueprint's.
    default_storage: ClassVar[Any] = SessionStorage()
    client_id = Option[str | None](None)
    client_secret = Option[str | None](None)
    token_endpoint_auth_method = Option[oauth2.AuthMethod]("client_secret_basic")
    scope = Option[str | Sequence[str] | None](None)
    base_url = Option[str | None](None)
    allowed_origins = Option[AllowedOrigins](())
    authorization_url = Option[str | None](None)
    authorization_url_params = Option[Mapping[str, Any]](_NOTHING)
    token_url = Option[str | None](None)
    token_url_params = Option[Mapping[str, Any]](_NOTHING)
    token_types = Option[Collection[str]](("bearer",))
    auto_refresh_url = Option[str | None](None)
    auto_refresh_kwargs = Option[Mapping[str, Any]](_NOTHING)
    revocation_url = Option[str | None](None)
    issuer = Option[str | None](None)
    redirect_url = Option[str | None](None)
    redirect_to = Option[str | None](None)
    redirect_uri = Option[str | None](None)
    allow_insecure_redirect = Option[bool](False)
    use_pkce = Option[bool](True)
    code_challenge_method = Option[str]("S256")
    session_class = Option[type[Any] | None](None)
    verify = Option[bool | ssl.SSLContext](True)
    timeout = Option[float](10.0)

    def _configure(
        self, given: Mapping[str, Any], storage: AnyStorage | type[AnyStorage] | None
    ) -> None:
        """Take over what the constructor was given, and check it."""
        self._given = dict(given)
        self.from_config: dict[str, str] = {}
        del self.storage
        if storage is not None:
            self.storage = storage
        for name in _URLS:
            if self._given.get(name):
                self.provider_url(name)
        if not callable(self.allowed_origins):
            _check_origins(self.allowed_origins)
        if self.code_challenge_method not in ("S256", "plain"):
            raise ConfigurationError("code_challenge_method is 'S256' or 'plain'")
        oauth2.check_params(
            "authorization_url_params",
            self.authorization_url_params,
            self.authorization_url or "",
            oauth2.AUTHORIZATION_PARAMS,
        )
        for name in ("token_url_params", "auto_refresh_kwargs"):
            reserved = oauth2.TOKEN_PARAMS
            if name == "auto_refresh_kwargs":
                reserved -= oauth2.CREDENTIALS
            oauth2.check_params(name, getattr(self, name), "", reserved)

    @abstractmethod
    async def notify(self, signal: Signal, **data: Any) -> list[Any]:
        """Send a signal of ours to its receivers and return what they return."""

    async def load(self, *, past_cache: bool = False, **who: Any) -> Token | None:
        """Return a copy of the stored token; None if there is none, or no user.

        Raises:
            StorageError: The storage failed, or what it holds is not a token.
        """
        storage = self.async_storage
        read = storage.reread if past_cache else storage.get
        try:
            token = await saved(read(self, **who), named=bool(who))
        except UserRequiredError:
            if who:
                raise
            return None  # a visitor who is nobody has no token
        if token is None:
            return None
        # Masks itself, should a traceback show this frame.
        token = Token(token if isinstance(token, dict) else {})
        if not has_access_token(token):
            raise self.about(
                StorageError(f"the token stored for {self.name!r} is broken")
            )
        return token.copy()

    async def keep(self, token: Token) -> None:
        """Store a token in place of whatever is there.

        Raises:
            StorageError: The storage failed.
            UserRequiredError: It keeps tokens for users, and nobody is known.
        """
        async with turn(self.async_storage, self):
            await saved(self.async_storage.set(self, token.copy()), token)

    async def forget(self) -> None:
        """Delete the token; fine if there is none; see `keep`."""
        async with turn(self.async_storage, self):
            await saved(self.async_storage.delete(self))

    def about(self, error: E) -> E:
        """Name this blueprint in an error."""
        error.blueprint = self
        return error

    @property
    def storage(self) -> Any:
        """Where the tokens are kept, a `BaseStorage` or a class of one.

        Deleting it brings the default back, `SessionStorage`.
        """
        return self._storage[0]

    @storage.setter
    def storage(self, value: Any) -> None:
        storage = value() if isinstance(value, type) else value
        self._storage = storage, self._as_async(storage)

    @storage.deleter
    def storage(self) -> None:
        self.storage = self.default_storage

    @property
    def async_storage(self) -> BaseStorage:
        """The same as our coroutines use it; under Quart it is that very object."""
        return self._storage[1]

    def _as_async(self, storage: Any) -> BaseStorage:
        """Return a storage as one with coroutines.

        Raises:
            TypeError: It is not a storage.
        """
        if isinstance(storage, BaseStorage):
            return storage
        raise TypeError(
            f"a storage is a subclass of BaseStorage, not {type(storage).__name__}"
        )

    #: The older name of `storage`.
    backend = storage

    def client(self) -> oauth2.Client:
        """Return who we are to the provider.

        Raises:
            ConfigurationError: `client_id` or `client_secret` is missing, or there is
                no such `token_endpoint_auth_method`.
        """
        method = self.token_endpoint_auth_method
        if not callable(method) and method not in oauth2.AUTH_METHODS:
            raise ConfigurationError(
                f"token_endpoint_auth_method of {self.name!r} is a function or one of "
                f"{', '.join(oauth2.AUTH_METHODS)}"
            )
        if not self.client_id:
            raise self._missing("client_id")
        if not self.client_secret and method != "none":
            raise self._missing(
                "client_secret", " (a public client: token_endpoint_auth_method='none')"
            )
        return oauth2.Client(self.client_id, self.client_secret, method)

    def provider_url(self, name: str) -> str:
        """Return one of the provider's URLs, absolute.

        Raises:
            ConfigurationError: It is missing, or not https (RFC 6749, 3.1.2.1);
                http is for loopback only.
        """
        url: str | None = getattr(self, name)
        if not url:
            raise self._missing(name)
        if name != "base_url":
            with suppress(ValueError):  # what cannot be joined is not secure either
                url = urljoin(self.base_url or "", url)
        if not is_secure(url):
            raise ConfigurationError(
                f"{name} of {self.name!r} must be an https URL without a user name "
                "(http only on loopback)"
            )
        return url

    def _missing(self, name: str, hint: str = "") -> ConfigurationError:
        key = self.from_config.get(name)
        where = f"app.config[{key!r}], or pass {name}=" if key else f"{name}="
        return ConfigurationError(f"{self.name!r} has no {name}: set {where}{hint}")


def _check_origins(origins: Collection[str]) -> None:
    """Refuse what could never be the origin of a URL.

    Raises:
        ConfigurationError: One is not an https origin, or all are one string.
    """
    for origin in [""] if isinstance(origins, str) else origins:
        url = origin.replace("://*.", "://x.", 1)
        if not is_secure(url) or urlsplit(url).path.strip("/") or "*" in url:
            raise ConfigurationError(
                "allowed_origins is a list of origins such as https://api.example.org "
                f"or https://*.example.org, not {origin or origins!r}"
            )
