"""HTTP: pools, deadlines, caps and origins; the only importer of httpx2."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

from authlib.oauth2.rfc6750 import add_bearer_token
from httpx2 import (
    URL,
    ASGITransport,
    AsyncBaseTransport,
    AsyncClient,
    BaseTransport,
    ByteStream,
    Client,
    HTTPError,
    InvalidURL,
    Request,
    Response,
    StreamError,
    TimeoutException,
    TooManyRedirects,
)
from httpx2 import Cookies as AnyCookies

from ..errors import ForeignOriginError, TokenRequestError
from ..oauth.answer import Answer
from ..oauth.oauth2 import Form
from ..oauth.token import Token
from ..oauth.urls import is_secure
from .options import Consumer
from .runtime import Runtime

__all__ = [
    "URL",
    "ASGITransport",
    "AsyncBaseTransport",
    "AsyncClient",
    "Cookies",
    "Request",
    "Response",
]

#: Runs a coroutine to its end.
Run = Callable[[Coroutine[Any, Any, Response]], Response]
#: Bytes that the answer to a form may have, compressed and decompressed.
MAX_ANSWER = 1_000_000
_MAX_REDIRECTS = 10

_logger = logging.getLogger(__name__)
_ours: ContextVar[bool] = ContextVar("quart_dance_http", default=False)


def _not_ours(record: logging.LogRecord) -> bool:
    return not _ours.get()


# httpx2 logs whole URLs and httpcore2 whole headers, with whatever secrets are in
# them. Of our own requests we log one line ourselves; those of the application stay.
for _name in ("httpx2", *(f"httpcore2.{n}" for n in "connection http11 http2".split())):
    logging.getLogger(_name).addFilter(_not_ours)
for _name in ("httpcore2.proxy", "httpcore2.socks"):
    logging.getLogger(_name).addFilter(_not_ours)


class Cookies(AnyCookies):
    """A visitor's cookies at the provider; the repr shows only their names.

    A cookie without a domain goes back to its host alone (RFC 6265, 5.1.3).
    """

    def __init__(self) -> None:
        strict = DefaultCookiePolicy.DomainStrictNonDomain
        super().__init__(CookieJar(DefaultCookiePolicy(strict_ns_domain=strict)))

    def __repr__(self) -> str:
        return f"<Cookies {' '.join(cookie.name for cookie in self.jar)}>"


@contextmanager
def _quiet() -> Iterator[None]:
    reset = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(reset)


def _pool(runtime: Runtime, consumer: Consumer) -> AsyncClient:
    """Return the connections to a blueprint's provider, of this app and event loop."""
    pools, key = runtime.here.pools, (consumer, runtime.transport)
    pool = pools.get(key)
    if not isinstance(pool, AsyncClient):
        pool = pools[key] = AsyncClient(
            # A jar that takes nothing: cookies belong to visitors, not to the pool.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            verify=consumer.verify,
            timeout=consumer.timeout,
            transport=runtime.transport,
        )
    return pool


def sync_pool(runtime: Runtime, consumer: Consumer, run: Run) -> Client:
    """Return the connections of sync code; of this app and process, for all threads.

    Args:
        runtime: Of the application that calls.
        consumer: Whose pool it is.
        run: Runs a coroutine on an event loop in another thread, for a transport that
            has only coroutines.
    """
    # The process as well: after a fork both would read from one connection.
    key = os.getpid(), consumer, runtime.transport
    pool = runtime.sync_pools.get(key)
    if isinstance(pool, Client):
        return pool
    transport = runtime.transport
    if transport is not None and not isinstance(transport, BaseTransport):
        transport = _InLoop(transport, run)
    made = Client(
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        verify=consumer.verify,
        timeout=consumer.timeout,
        transport=transport,
    )
    return cast(Client, runtime.sync_pools.setdefault(key, made))


class _InLoop(BaseTransport):
    """Makes a sync transport of an async one."""

    def __init__(self, transport: AsyncBaseTransport, run: Run) -> None:
        self._transport = transport
        self._run = run

    def handle_request(self, request: Request) -> Response:
        request.read()
        return self._run(self._handle(request))

    async def _handle(self, request: Request) -> Response:
        response = await self._transport.handle_async_request(request)
        body = ByteStream(b"".join([part async for part in response.aiter_raw()]))
        await response.aclose()
        return Response(response.status_code, headers=response.headers, stream=body)


async def post_form(runtime: Runtime, consumer: Consumer, form: Form) -> Answer:
    """Post a form to the provider; redirects are not followed, nothing is retried.

    Raises:
        TokenRequestError: There is no answer within `runtime.deadline` seconds and
            `MAX_ANSWER` bytes.
    """
    pool = _pool(runtime, consumer)
    try:
        with _quiet():
            async with asyncio.timeout(runtime.deadline):
                answer = await _post(pool, form)
    except (TimeoutError, TimeoutException):
        problem = "timeout", "the provider did not answer in time"
    except _TooLarge:
        problem = "invalid_response", f"the answer is larger than {MAX_ANSWER} bytes"
    except (zlib.error, StreamError):
        problem = "invalid_response", "the answer cannot be read"
    except (HTTPError, InvalidURL, OSError) as error:
        problem = "unreachable", f"the provider cannot be reached ({_kind(error)})"
    else:
        _logger.debug("POST %s: %d", _safe(URL(form.url)), answer.status)
        return answer
    # Raised here, out of reach of the HTTP library's errors: those hold the request.
    raise TokenRequestError(*problem)


def _kind(error: BaseException) -> str:
    return type(error).__name__


class _TooLarge(Exception):
    pass


async def _post(pool: AsyncClient, form: Form) -> Answer:
    # Compression is of no use here, and a small answer may hide a large one.
    headers = {**form.headers, "Accept-Encoding": "identity"}
    request = pool.build_request("POST", form.url, content=form.body, headers=headers)
    response = await pool.send(request, stream=True, auth=None, follow_redirects=False)
    names = {name.lower(): value for name, value in response.headers.items()}
    if response.is_stream_consumed:  # of a mock transport, read and decompressed
        return Answer(response.status_code, names, response.content)
    try:
        raw = bytearray()
        async for chunk in response.aiter_raw():
            raw += chunk
            if len(raw) > MAX_ANSWER:
                raise _TooLarge
    finally:
        await response.aclose()
    return Answer(response.status_code, names, _decompress(bytes(raw), names))


def _decompress(raw: bytes, headers: dict[str, str]) -> bytes:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "deflate"):
        raise zlib.error(f"unknown encoding {encoding[:20]!r}")
    stream = zlib.decompressobj(wbits=47)
    body = stream.decompress(raw, MAX_ANSWER + 1)
    if not stream.eof or len(body) > MAX_ANSWER:
        raise zlib.error("it is too large, or its end is missing")
    return body


def _safe(url: URL) -> str:
    """Return a URL without what may be secret: its query, its user, its fragment."""
    return str(url.copy_with(query=None, fragment=None, userinfo=b""))


def target(
    consumer: Consumer, url: str, token: Token | None, params: Any = None
) -> URL:
    """Return where an API call goes to, if the token may be seen there.

    Args:
        consumer: Its `base_url` is what relative URLs are joined to.
        url: Absolute, or relative: ``/user`` and ``user`` both lie under `base_url`.
        token: The token to be sent, or None: then any URL will do.
        params: Parameters beside those that the URL has.

    Raises:
        ForeignOriginError: The token may not be seen there, the path climbs, or it is
            no URL: too long, for instance, or with control characters.
    """
    try:
        found = _target(consumer, URL(url), url, token)
        return found.copy_merge_params(params) if params else found
    except (InvalidURL, UnicodeError):  # f"/users/{name}", and a name with a line end
        problem = f"what {consumer.name!r} is asked for is not a URL"
    raise consumer.about(ForeignOriginError(problem))


def _target(consumer: Consumer, parsed: URL, url: str, token: Token | None) -> URL:
    if not parsed.scheme and not parsed.host and not url.startswith("//"):
        base = URL(consumer.provider_url("base_url"))
        if ".." in parsed.path.split("/"):  # f"/users/{name}", and a name of "../.."
            problem = f"{parsed.path[:50]!r} would lead out of the base_url"
            raise consumer.about(ForeignOriginError(problem))
        path = base.raw_path.rstrip(b"/") + b"/" + parsed.raw_path.lstrip(b"/")
        return base.copy_with(raw_path=path)
    if token is None or _is_allowed(consumer, parsed, token):
        return parsed
    problem = (
        f"the token of {consumer.name!r} is not sent to {parsed.scheme}://{parsed.host}"
        ": if it belongs there, name the origin in allowed_origins"
    )
    raise consumer.about(ForeignOriginError(problem))


def _is_allowed(consumer: Consumer, url: URL, token: Token) -> bool:
    if not is_secure(str(url)):
        return False
    base, allowed = consumer.base_url, consumer.allowed_origins
    if base and _origin(URL(base)) == _origin(url):
        return True
    origins = allowed(token.copy()) if callable(allowed) else allowed
    return any(_matches(origin, url) for origin in origins)


def _matches(pattern: str, url: URL) -> bool:
    scheme, _, host = pattern.rstrip("/").partition("://")
    if not host.startswith("*."):
        return _origin(URL(pattern)) == _origin(url)
    label, _, rest = url.host.partition(".")
    # The label is checked by shape: an empty one would be the parent's own.
    return bool(re.fullmatch(r"[a-z0-9-]+", label)) and (
        _origin(URL(f"{scheme}://{host[2:]}")) == _origin(url.copy_with(host=rest))
    )


def _origin(url: URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port (RFC 6454, section 4)."""
    default = {"https": 443, "http": 80}.get(url.scheme)
    return url.scheme, url.host, url.port or default


def is_base_origin(consumer: Consumer, url: URL) -> bool:
    """Say whether a URL is of the provider's own API."""
    base = consumer.base_url
    return bool(base) and _origin(URL(str(base))) == _origin(url)


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
    pool = _pool(runtime, consumer)
    request = _request(pool, method, url, token, content)
    hops = _Hops(request, cookies, follow_redirects)
    following: Request | None = request
    with _quiet():
        while following is not None:
            hops.before(following)
            response = await pool.send(following, stream=True, auth=None)
            following = hops.after(response)
            if following is not None:
                await response.aclose()
    _logger.debug("%s %s: %d", method, _safe(url), response.status_code)
    try:
        yield response
    finally:
        with _quiet():
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
    with _quiet():
        while following is not None:
            hops.before(following)
            response = pool.send(following, stream=True, auth=None)
            following = hops.after(response)
            if following is not None:
                response.close()
    response.__class__ = SyncResponse  # httpx2 lets nobody choose the class
    _logger.debug("%s %s: %d", method, _safe(url), response.status_code)
    try:
        yield cast(SyncResponse, response)
    finally:
        with _quiet():
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
        self._home = _origin(request.url)
        self._cookies = cookies
        self._follow_redirects = follow_redirects
        self._left = _MAX_REDIRECTS

    def before(self, request: Request) -> None:
        """Give a request the visitor's cookies, if there may be another request."""
        if self._left == 0:
            raise TooManyRedirects("Too many redirects.", request=request)
        self._left -= 1
        # A cookie knows no port and not always a scheme; elsewhere it stays behind.
        if _origin(request.url) == self._home:
            self._cookies.set_cookie_header(request)

    def after(self, response: Response) -> Request | None:
        """Return the request that an answer leads to, or None."""
        here = _origin(response.request.url)
        if here == self._home:
            self._cookies.extract_cookies(response)
        following = response.next_request
        if not self._follow_redirects or following is None:
            return None
        if _origin(following.url) != here:
            following.headers.pop("Authorization", None)
        return following
