"""The OAuth session: a visitor's, or an account's, way to the provider's API."""

from __future__ import annotations

import functools
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
)
from typing import Any, ParamSpec, TypeVar, overload

from quart import Quart, current_app, has_app_context
from werkzeug.local import LocalProxy

from ..errors import NotAuthorizedError, TokenExpiredError
from ..oauth.token import Token, is_expired
from .http import Cookies, Response, is_base_origin, send, target
from .options import Consumer, Who
from .pending import Pending
from .refresh import can_refresh, refreshed
from .runtime import runtime
from .signals import oauth_revoked
from .storage.base import saved

P = ParamSpec("P")
R = TypeVar("R")

_INVALID_TOKEN = re.compile(r'\berror\s*=\s*"?invalid_token\b')


class OAuth2Session:
    """Calls a provider's API with a visitor's token.

    One is made for each request (`blueprint.session`) or on request for an account
    (`blueprint.session_for`). What the provider sets as cookies stays in it.

    Args:
        blueprint: The blueprint; it is what all configuration is read from.
        app: The application, where there will be no application context.
        who: The account, as the storage's methods take it; empty for the visitor.
    """

    def __init__(
        self, blueprint: Consumer, *, app: Quart | None = None, who: Who | None = None
    ) -> None:
        self.blueprint = blueprint
        self.cookies = Cookies()
        self._app = app
        self._who = dict(who or {})
        self.arrived: Token | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.blueprint.name!r}>"

    @property
    def base_url(self) -> str | None:
        """What relative URLs are joined to."""
        return self.blueprint.base_url

    @property
    def client_id(self) -> str | None:
        """As the provider issued it."""
        return self.blueprint.client_id

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

    async def _is_authorized(self) -> bool:
        async with self._context():
            token = await self._load()
            return token is not None and not self._is_over(token)

    async def _token(self) -> Token | None:
        async with self._context():
            return await self._load()

    async def _access_token(self) -> str | None:
        async with self._context():
            try:
                return str((await self._usable())["access_token"])
            except (NotAuthorizedError, TokenExpiredError):
                return None

    async def require(self) -> None:
        """Do nothing if authorized.

        Raises:
            NotAuthorizedError: Otherwise.
        """
        async with self._context():
            if not await self.authorized:
                error = NotAuthorizedError(f"not logged in with {self.blueprint.name}")
                raise self.blueprint.about(error)

    async def _load(self) -> Token | None:
        if self.arrived is not None:
            return self.arrived.copy()
        return await self.blueprint.load(**self._who)

    def _is_expired(self, token: Token) -> bool:
        return is_expired(token, runtime(current_app).clock())

    def _can_refresh(self, token: Token) -> bool:
        # A token that is not stored yet cannot be replaced there.
        return self.arrived is None and can_refresh(self.blueprint, token)

    def _is_over(self, token: Token) -> bool:
        return self._is_expired(token) and not self._can_refresh(token)

    async def _usable(self) -> Token:
        """Return a token to call the API with.

        Raises:
            NotAuthorizedError: There is none.
            TokenExpiredError: It has expired and cannot be refreshed.
        """
        token = await self._load()
        name = self.blueprint.name
        if token is None:
            raise self.blueprint.about(NotAuthorizedError(f"not logged in with {name}"))
        if not self._is_expired(token):
            return token
        if not self._can_refresh(token):
            raise self.blueprint.about(
                TokenExpiredError(f"the token of {name!r} has expired; log in again")
            )
        return await self._refreshed(token)

    async def _refreshed(self, token: Token) -> Token:
        return await refreshed(runtime(current_app), self.blueprint, token, self._who)

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
            ForeignOriginError: The token may not be seen at `url`; nothing was sent.
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
        async with self._context():
            token = None if withhold_token else await self._usable()
            for retry in (False, True):
                async with self._send(
                    method, url, token, follow_redirects, content
                ) as response:
                    token = (
                        None if retry else await self._after(response, token, content)
                    )
                    if token is None:
                        yield response
                        return

    def _send(
        self,
        method: str,
        url: str,
        token: Token | None,
        follow_redirects: bool | None,
        content: dict[str, Any],
    ) -> AbstractAsyncContextManager[Response]:
        if follow_redirects is None:
            follow_redirects = method.upper() in ("GET", "HEAD")
        return send(
            runtime(current_app),
            self.blueprint,
            method,
            target(self.blueprint, url, token),
            token=token,
            cookies=self.cookies,
            follow_redirects=follow_redirects,
            **content,
        )

    async def _after(
        self, response: Response, token: Token | None, content: dict[str, Any]
    ) -> Token | None:
        """Return another token if the call is to be made again with it, else None.

        Only the API's own word that the token is invalid counts (RFC 6750, 3.1).
        """
        if token is None or response.status_code != 401 or self.arrived is not None:
            return None
        challenge = response.headers.get("www-authenticate", "")
        if not _INVALID_TOKEN.search(challenge):
            return None
        if not is_base_origin(self.blueprint, response.url):
            return None
        if "Authorization" not in response.request.headers:
            return None  # lost on the way, in redirects: nobody has judged the token
        if not self.blueprint.storage.can_save():
            return None
        if self._can_refresh(token):
            new = await self._refreshed(token)
            return new if _can_be_sent_again(content) else None
        storage = self.blueprint.storage
        deleting = storage.replace(self.blueprint, token, None, **self._who)
        if await saved(deleting, token):
            await self.blueprint.notify(oauth_revoked, token=token)
        return None

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[None]:
        if self._app is None:
            yield
            return
        async with AsyncExitStack() as stack:
            if not has_app_context() or current_app != self._app:
                context: Any = self._app.app_context()
                await stack.enter_async_context(context)
            try:
                yield
            except (NotAuthorizedError, TokenExpiredError) as error:
                if self._who:  # the visitor's own login would not help
                    error.blueprint = None
                raise

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


def _can_be_sent_again(content: dict[str, Any]) -> bool:
    body, data = content.get("content"), content.get("data")
    return (
        not content.get("files")
        and isinstance(body, str | bytes | None)
        and isinstance(data, Mapping | str | bytes | None)
    )


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
