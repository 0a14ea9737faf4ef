"""The OAuth session of Quart: a visitor's, or an account's, way to the API."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ParamSpec, TypeVar, overload

from quart import current_app, has_app_context
from werkzeug.local import LocalProxy

from ..oauth.token import Token
from .calls import send
from .flow import SessionFlow
from .http import URL, Response
from .pending import Pending
from .runtime import Runtime, runtime

P = ParamSpec("P")
R = TypeVar("R")


class OAuth2Session(SessionFlow):
    """Calls a provider's API with a visitor's token.

    One is made for each request (`blueprint.session`) or on request for an account
    (`blueprint.session_for`). What the provider sets as cookies stays in it.

    Args:
        blueprint: The blueprint; it is what all configuration is read from.
        app: The application, where there will be no application context.
        who: The account, as the storage's methods take it; empty for the visitor.
    """

    @property
    def authorized(self) -> Pending[bool]:
        """Whether there is a token that is valid, or expired and refreshable."""
        return Pending(f"{self.blueprint.name}.authorized", self._is_authorized)

    @property
    def token(self) -> Pending[Token | None]:
        """The stored token, expired or not, or None."""
        return Pending(f"{self.blueprint.name}.token", self._token)

    @property
    def access_token(self) -> Pending[str | None]:
        """The access token, refreshed if need be; None if not authorized."""
        return Pending(f"{self.blueprint.name}.access_token", self._access_token)

    async def require(self) -> None:
        """Do nothing if authorized.

        Raises:
            NotAuthorizedError: Otherwise.
        """
        await self._require()

    @overload
    def authorization_required(
        self, view: Callable[P, Awaitable[R]]
    ) -> Callable[P, Awaitable[R]]: ...
    @overload
    def authorization_required(
        self, view: Callable[P, R]
    ) -> Callable[P, Awaitable[R]]: ...
    def authorization_required(self, view: Callable[P, Any]) -> Callable[P, Any]:
        """Let only visitors with a token see a view.

        Others are sent to the login and come back; see `NotAuthorizedError`.
        """
        return _guard(lambda: self, view)

    async def request(
        self,
        method: str,
        url: str,
        *,
        withhold_token: bool = False,
        follow_redirects: bool | None = None,
        **content: Any,
    ) -> Response:
        """Call the API.

        Args:
            method: The HTTP method.
            url: Absolute, or relative to `base_url`.
            withhold_token: Send no token; then any URL will do.
            follow_redirects: The default is yes for GET and HEAD. The token stays
                behind when a redirect leads to another origin.
            **content: ``params``, ``headers``, ``json``, ``data``, ``content``,
                ``files``, ``timeout``, as `httpx2.AsyncClient.request` takes them.

        Returns:
            The `httpx2.Response`, whatever its status.

        Raises:
            NotAuthorizedError: There is no token.
            TokenExpiredError: It has expired and cannot be refreshed.
            TokenRequestError: It has expired and the provider fails to refresh it.
            ForeignOriginError: The token may not be seen at `url`, or it is no URL;
                nothing was sent.
            httpx2.HTTPError: The API cannot be reached.
        """
        async with self.stream(
            method,
            url,
            withhold_token=withhold_token,
            follow_redirects=follow_redirects,
            **content,
        ) as response:
            await response.aread()
        return response

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        withhold_token: bool = False,
        follow_redirects: bool | None = None,
        **content: Any,
    ) -> AsyncIterator[Response]:
        """Call the API and read the answer piece by piece; see `request`.

        Yields:
            The `httpx2.Response`, its body unread: ``response.aiter_bytes()``.
        """
        async with self._stream(
            method,
            url,
            content,
            withhold_token=withhold_token,
            follow_redirects=follow_redirects,
        ) as response:
            yield response

    def _runtime(self) -> Runtime:
        return runtime(current_app)

    @asynccontextmanager
    async def _app_context(self) -> AsyncIterator[None]:
        if has_app_context() and current_app == self._app:
            yield
            return
        async with self._app.app_context():
            yield

    def _send(
        self,
        method: str,
        url: URL,
        token: Token | None,
        follow_redirects: bool,
        content: dict[str, Any],
    ) -> AbstractAsyncContextManager[Response]:
        return send(
            self._runtime(),
            self.blueprint,
            method,
            url,
            token=token,
            cookies=self.cookies,
            follow_redirects=follow_redirects,
            **content,
        )

    async def get(self, url: str, **kwargs: Any) -> Response:
        """Send a GET; see `request`."""
        return await self.request("GET", url, **kwargs)

    async def options(self, url: str, **kwargs: Any) -> Response:
        """Send an OPTIONS; see `request`."""
        return await self.request("OPTIONS", url, **kwargs)

    async def head(self, url: str, **kwargs: Any) -> Response:
        """Send a HEAD; see `request`."""
        return await self.request("HEAD", url, **kwargs)

    async def post(self, url: str, **kwargs: Any) -> Response:
        """Send a POST; see `request`."""
        return await self.request("POST", url, **kwargs)

    async def put(self, url: str, **kwargs: Any) -> Response:
        """Send a PUT; see `request`."""
        return await self.request("PUT", url, **kwargs)

    async def patch(self, url: str, **kwargs: Any) -> Response:
        """Send a PATCH; see `request`."""
        return await self.request("PATCH", url, **kwargs)

    async def delete(self, url: str, **kwargs: Any) -> Response:
        """Send a DELETE; see `request`."""
        return await self.request("DELETE", url, **kwargs)


def _guard(
    session: Callable[[], OAuth2Session], view: Callable[P, Any]
) -> Callable[P, Any]:
    @functools.wraps(view)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
        here = session()
        await here.require()
        return await current_app.ensure_async(view)(*args, **kwargs)

    return guarded


class SessionProxy(LocalProxy[OAuth2Session]):
    """Stands for the session of the visitor at hand, wherever it is used.

    It may be made, and its decorator used, when there is no application yet.
    """

    __slots__ = ()

    @overload
    def authorization_required(
        self, view: Callable[P, Awaitable[R]]
    ) -> Callable[P, Awaitable[R]]: ...
    @overload
    def authorization_required(
        self, view: Callable[P, R]
    ) -> Callable[P, Awaitable[R]]: ...
    def authorization_required(self, view: Callable[P, Any]) -> Callable[P, Any]:
        """Let only visitors with a token see a view; works at import time."""
        return _guard(self._get_current_object, view)
