"""The options of a blueprint: what is given, else what the app config says."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Generic, Protocol, TypedDict, TypeVar, overload

from ..oauth import oauth2

T = TypeVar("T")
#: Origins that may see the token, or a function of the token that returns them.
AllowedOrigins = Collection[str] | Callable[[Mapping[str, Any]], Collection[str]]


class Option(Generic[T]):
    """An attribute that was given, else is read from the app config at each use."""

    def __init__(self, default: T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, consumer: None, owner: type) -> Option[T]: ...
    @overload
    def __get__(self, consumer: Configured, owner: type) -> T: ...
    def __get__(self, consumer: Configured | None, owner: type) -> Option[T] | T:
        if consumer is None:
            return self
        value = consumer._given.get(self._name)
        if value is None:
            value = consumer._configured(self._name)
        return self._default if value is None else value

    def __set__(self, consumer: Configured, value: T) -> None:
        consumer._given[self._name] = value


class Configured(ABC):
    """What has options; those that are not given are read from the app config.

    Attributes:
        from_config: Names of options, each with its key in the app config.
    """

    from_config: dict[str, str]
    _given: dict[str, Any]

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of the options that the app config may hold."""
        return [name for name in dir(cls) if isinstance(getattr(cls, name), Option)]

    @abstractmethod
    def _app_config(self) -> Mapping[str, Any]:
        """Return the config of the application at hand; empty without one."""

    def _configured(self, name: str) -> Any:
        # Flask-Dance also knows the names as "session.client_id".
        key = self.from_config.get(name) or self.from_config.get(f"session.{name}")
        return self._app_config().get(key) if key else None


class AnyStorage(Protocol):
    """A storage: one with coroutines, or under Flask also one with plain functions."""

    def get(self, blueprint: Any) -> Any: ...

    def set(self, blueprint: Any, token: Any) -> Any: ...

    def delete(self, blueprint: Any) -> Any: ...


class BlueprintOptions(TypedDict, total=False):
    """The options that every preset takes beside its own; None means not given.

    Attributes:
        login_url: The rule of the login; ``{bp.name}`` stands for the name.
        authorized_url: The rule of the callback, likewise.
        storage: Where the tokens are kept; the default is `SessionStorage`.
        rule_kwargs: Further arguments of both rules.
        redirect_url: See `Consumer`, as all that follows.
        redirect_to: …
        redirect_uri: …
        allow_insecure_redirect: …
        allowed_origins: …
        session_class: …
        verify: …
        timeout: …
        url_prefix: As `quart.Blueprint` takes it, as all that follows.
        subdomain: …
        static_folder: …
        static_url_path: …
        template_folder: …
        url_defaults: …
        root_path: …
        cli_group: …
    """

    login_url: str | None
    authorized_url: str | None
    storage: AnyStorage | type[AnyStorage] | None
    rule_kwargs: Mapping[str, Any] | None
    redirect_url: str | None
    redirect_to: str | None
    redirect_uri: str | None
    allow_insecure_redirect: bool | None
    allowed_origins: AllowedOrigins | None
    session_class: type[Any] | None
    verify: bool | ssl.SSLContext | None
    timeout: float | None
    url_prefix: str | None
    subdomain: str | None
    static_folder: str | None
    static_url_path: str | None
    template_folder: str | None
    url_defaults: dict[str, Any] | None
    root_path: str | None
    cli_group: str | None


class OAuth2Options(BlueprintOptions, total=False):
    """The options of an `OAuth2ConsumerBlueprint`; see `Consumer` for each."""

    scope: str | Sequence[str] | None
    base_url: str | None
    authorization_url: str | None
    authorization_url_params: Mapping[str, Any] | None
    token_url: str | None
    token_url_params: Mapping[str, Any] | None
    token_endpoint_auth_method: oauth2.AuthMethod | None
    token_types: Collection[str] | None
    auto_refresh_url: str | None
    auto_refresh_kwargs: Mapping[str, Any] | None
    revocation_url: str | None
    issuer: str | None
    use_pkce: bool | None
    code_challenge_method: str | None
