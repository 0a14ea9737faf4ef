"""The OAuth session of Flask: a visitor's, or an account's, way to the API."""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, Generic, ParamSpec, TypeVar, cast

from flask import current_app, has_app_context
from werkzeug.local import LocalProxy

from ...consumer.calls import SyncResponse, send_now
from ...consumer.consumer import Consumer
from ...consumer.flow import SessionFlow
from ...consumer.http import URL, sync_pool
from ...consumer.room import outside
from ...consumer.runtime import Runtime, runtime
from ...oauth.token import Token
from ..async_storages import CallerStorage
from ..bridge import at_once, keep, run

__all__ = ["OAuth2Session"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _OfBlueprint(Generic[T]):
    """An attribute of the session that the blueprint knows."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, session: SessionFlow | None, owner: type) -> T:
        return cast(T, self if session is None else self._of(session))

    def _of(self, session: SessionFlow) -> Any:
        return getattr(session.blueprint, self._name)


class OAuth2Session(SessionFlow):
    """Calls a provider's API with a visitor's token.

    One is made for each request (`blueprint.session`) or on request for an account
    (`blueprint.session_for`). What the provider sets as cookies stays in it.

    Args:
        blueprint: The blueprint; it is what all configuration is read from.
        app: The application, where there will be no application context.
        who: The account, as the storage's methods take it; empty for the visitor.
    """

    scope = _OfBlueprint[Any]()
    client_secret = _OfBlueprint[str | None]()
    authorization_url = _OfBlueprint[str | None]()
    token_url = _OfBlueprint[str | None]()
    token_url_params = _OfBlueprint[Mapping[str, Any]]()
    auto_refresh_url = _OfBlueprint[str | None]()

    @property
    def authorized(self) -> bool:
        """Whether there is a token that is valid, or expired and refreshable."""
        return at_once(self._is_authorized())

    @property
    def token(self) -> Token | None:
        """The stored token, expired or not, or None."""
        return at_once(self._token())

    @property
    def access_token(self) -> str | None:
        """The access token, refreshed if need be; None if not authorized."""
        return at_once(self._access_token())

    def load_token(self) -> bool:
        """Say whether there is a token, expired or not."""
        return self.token is not None

    def require(self) -> None:
        """Do nothing if authorized.

        Raises:
            NotAuthorizedError: Otherwise.
        """
        at_once(self._require())

    def authorization_required(self, view: Callable[P, R]) -> Callable[P, R]:
        """Let only visitors with a token see a view.

        Others are sent to the login and come back; see `NotAuthorizedError`.
        """
        return _guard(lambda: self, view)

    def request(
        self,
        method: str,
        url: str,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        withhold_token: bool = False,
        follow_redirects: bool | None = None,
        **content: Any,
    ) -> SyncResponse:
        """Call the API.

        Args:
            method: The HTTP method.
            url: Absolute, or relative to `base_url`.
            data: A form as a dict, or the body itself.
            headers: Headers beside our own.
            withhold_token: Send no token; then any URL will do.
            follow_redirects: The default is yes for GET and HEAD; ``allow_redirects``
                is understood too. The token stays behind when a redirect leads to
                another origin.
            **content: ``params``, ``json``, ``content``, ``files``, ``timeout``, as
                `httpx2.Client.request` takes them.

        Returns:
            The `httpx2.Response`, whatever its status; it has an ``ok`` as well.

        Raises:
            NotAuthorizedError: There is no token.
            TokenExpiredError: It has expired and cannot be refreshed.
            TokenRequestError: It has expired and the provider fails to refresh it.
            ForeignOriginError: The token may not be seen at `url`, or it is no URL;
                nothing was sent.
            httpx2.HTTPError: The API cannot be reached.
        """
        with self.stream(
            method,
            url,
            data=data,
            headers=headers,
            withhold_token=withhold_token,
            follow_redirects=follow_redirects,
            **content,
        ) as response:
            response.read()
        return response

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        withhold_token: bool = False,
        follow_redirects: bool | None = None,
        **content: Any,
    ) -> Iterator[SyncResponse]:
        """Call the API and read the answer piece by piece; see `request`.

        Yields:
            The `httpx2.Response`, its body unread: ``response.iter_bytes()``.
        """
        allow_redirects = content.pop("allow_redirects", None)
        if not isinstance(content.get("data"), Mapping | None):
            content["content"] = content.pop("data")  # as requests takes a body
        streaming = self._stream(
            method,
            url,
            content,
            withhold_token=withhold_token,
            follow_redirects=(
                allow_redirects if follow_redirects is None else follow_redirects
            ),
        )
        response = at_once(streaming.__aenter__())
        try:
            yield cast(SyncResponse, response)
        except BaseException:
            if not at_once(streaming.__aexit__(*sys.exc_info())):
                raise
        else:
            at_once(streaming.__aexit__(None, None, None))

    # What waits: here in this thread, before it returns

    async def _stored(self) -> Token | None:
        return read(self.blueprint, super()._stored())

    async def _refreshed(self, token: Token) -> Token:
        return wait_for(self.blueprint, super()._refreshed(token))

    async def _delete(self, token: Token) -> None:
        wait_for(self.blueprint, super()._delete(token))

    @asynccontextmanager
    async def _send(
        self,
        method: str,
        url: URL,
        token: Token | None,
        follow_redirects: bool,
        content: dict[str, Any],
    ) -> AsyncIterator[SyncResponse]:
        with send_now(
            sync_pool(keep(self._runtime()), self.blueprint, run),
            method,
            url,
            token=token,
            cookies=self.cookies,
            follow_redirects=follow_redirects,
            **content,
        ) as response:
            yield response

    def _runtime(self) -> Runtime:
        if not has_app_context():
            raise outside(self.blueprint)
        return runtime(current_app)

    @asynccontextmanager
    async def _app_context(self) -> AsyncIterator[None]:
        at_hand = has_app_context() and current_app == self._app
        with nullcontext() if at_hand else self._app.app_context():
            yield

    def get(self, url: str, **kwargs: Any) -> SyncResponse:
        """Send a GET; see `request`."""
        return self.request("GET", url, **kwargs)

    def options(self, url: str, **kwargs: Any) -> SyncResponse:
        """Send an OPTIONS; see `request`."""
        return self.request("OPTIONS", url, **kwargs)

    def head(self, url: str, **kwargs: Any) -> SyncResponse:
        """Send a HEAD; see `request`."""
        return self.request("HEAD", url, **kwargs)

    def post(
        self, url: str, data: Any = None, json: Any = None, **kwargs: Any
    ) -> SyncResponse:
        """Send a POST; see `request`."""
        return self.request("POST", url, data=data, json=json, **kwargs)

    def put(self, url: str, data: Any = None, **kwargs: Any) -> SyncResponse:
        """Send a PUT; see `request`."""
        return self.request("PUT", url, data=data, **kwargs)

    def patch(self, url: str, data: Any = None, **kwargs: Any) -> SyncResponse:
        """Send a PATCH; see `request`."""
        return self.request("PATCH", url, data=data, **kwargs)

    def delete(self, url: str, **kwargs: Any) -> SyncResponse:
        """Send a DELETE; see `request`."""
        return self.request("DELETE", url, **kwargs)


def wait_for(consumer: Consumer, coroutine: Coroutine[Any, Any, T]) -> T:
    """Run what a consumer does in the event loop of this process, and wait for it.

    Raises:
        RuntimeError: There is no application at hand.
    """
    if not has_app_context():
        coroutine.close()
        raise outside(consumer)
    keep(runtime(current_app))
    return run(coroutine, consumer.async_storage)


def read(consumer: Consumer, reading: Coroutine[Any, Any, T]) -> T:
    """Read from a consumer's storage: in this thread, if the storage does so anyway."""
    if isinstance(consumer.async_storage, CallerStorage):
        return at_once(reading)
    if not getattr(consumer.storage, "waits", True):
        return at_once(reading)
    return run(reading, consumer.async_storage)


def _guard(
    session: Callable[[], OAuth2Session], view: Callable[P, R]
) -> Callable[P, R]:
    @functools.wraps(view)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        session().require()
        return cast(R, current_app.ensure_sync(view)(*args, **kwargs))

    return guarded


class SessionProxy(LocalProxy[OAuth2Session]):
    """Stands for the session of the visitor at hand, wherever it is used.

    It may be made, and its decorator used, when there is no application yet.
    """

    __slots__ = ()

    def authorization_required(self, view: Callable[P, R]) -> Callable[P, R]:
        """Let only visitors with a token see a view; works at import time."""
        return _guard(self._get_current_object, view)
