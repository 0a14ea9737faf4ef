"""API calls: one request, and where redirects lead it."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, cast

from authlib.oauth2.rfc6750 import add_bearer_token

from ..oauth.token import Token
from .consumer import Consumer
from .http import (
    URL,
    AsyncClient,
    Client,
    Cookies,
    Request,
    Response,
    TooManyRedirects,
    pool_of,
    quiet,
    safe,
)
from .origins import origin
from .runtime import Runtime

_MAX_REDIRECTS = 10

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def send(
    runtime: Runtime,
    consumer: Consumer,
    method: str,
    url: URL,
    *,
    token: Token | None,
    cookies: Cookies,
    follow_redirects: bool,
    **content: Any,
) -> AsyncIterator[Response]:
    """Make an API call and yield the response, its body unread.

    Args:
        runtime: Of the application that calls.
        consumer: Whose pool is used.
        method: The HTTP method.
        url: From `target`.
        token: Sent as a header (RFC 6750, section 2.1), or None.
        cookies: The visitor's; what the provider sets is added.
        follow_redirects: Whether redirects are followed; the token stays behind when
            they lead to another origin.
        **content: As `httpx2.AsyncClient.build_request` takes it, without params.
    """
    pool = pool_of(runtime, consumer)
    request = _request(pool, method, url, token, content)
    hops = _Hops(request, cookies, follow_redirects)
    following: Request | None = request
    with quiet():
        while following is not None:
            hops.before(following)
            response = await pool.send(following, stream=True, auth=None)
            following = hops.after(response)
            if following is not None:
                await response.aclose()
    _logger.debug("%s %s: %d", method, safe(url), response.status_code)
    try:
        yield response
    finally:
        with quiet():
            await response.aclose()


class SyncResponse(Response):
    """A response as sync code knows it from requests."""

    @property
    def ok(self) -> bool:
        """Whether the status is below 400."""
        return not self.is_error


@contextmanager
def send_now(
    pool: Client,
    method: str,
    url: URL,
    *,
    token: Token | None,
    cookies: Cookies,
    follow_redirects: bool,
    **content: Any,
) -> Iterator[SyncResponse]:
    """Make an API call in the caller's own thread; see `send`.

    Args:
        pool: From `sync_pool`.
        method: See `send`, as all that follows.
        url: …
        token: …
        cookies: …
        follow_redirects: …
        **content: …
    """
    request = _request(pool, method, url, token, content)
    hops = _Hops(request, cookies, follow_redirects)
    following: Request | None = request
    with quiet():
        while following is not None:
            hops.before(following)
            response = pool.send(following, stream=True, auth=None)
            following = hops.after(response)
            if following is not None:
                response.close()
    response.__class__ = SyncResponse  # httpx2 lets nobody choose the class
    _logger.debug("%s %s: %d", method, safe(url), response.status_code)
    try:
        yield cast(SyncResponse, response)
    finally:
        with quiet():
            response.close()


def _request(
    pool: AsyncClient | Client,
    method: str,
    url: URL,
    token: Token | None,
    content: dict[str, Any],
) -> Request:
    request = pool.build_request(method, url, **content)
    if token is not None:
        add_bearer_token(token["access_token"], "", request.headers, "")
    return request


class _Hops:
    """The way of a call through redirects, and what it carries on each hop."""

    def __init__(
        self, request: Request, cookies: Cookies, follow_redirects: bool
    ) -> None:
        self._home = origin(request.url)
        self._cookies = cookies
        self._follow_redirects = follow_redirects
        self._left = _MAX_REDIRECTS

    def before(self, request: Request) -> None:
        """Give a request the visitor's cookies, if there may be another request."""
        if self._left == 0:
            raise TooManyRedirects("Too many redirects.", request=request)
        self._left -= 1
        # A cookie knows no port and not always a scheme; elsewhere it stays behind.
        if origin(request.url) == self._home:
            self._cookies.set_cookie_header(request)

    def after(self, response: Response) -> Request | None:
        """Return the request that an answer leads to, or None."""
        here = origin(response.request.url)
        if here == self._home:
            self._cookies.extract_cookies(response)
        following = response.next_request
        if not self._follow_redirects or following is None:
            return None
        if origin(following.url) != here:
            following.headers.pop("Authorization", None)
        return following
