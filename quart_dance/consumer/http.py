"""HTTP: pools, forms, deadlines and caps; the only importer of httpx2."""

from __future__ import annotations

import asyncio
import logging
import os
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

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

from ..errors import TokenRequestError
from ..oauth.answer import Answer
from ..oauth.oauth2 import Form
from .consumer import Consumer
from .runtime import Runtime

__all__ = [
    "URL",
    "ASGITransport",
    "AsyncBaseTransport",
    "AsyncClient",
    "Client",
    "Cookies",
    "InvalidURL",
    "Request",
    "Response",
    "TooManyRedirects",
]

#: Runs a coroutine to its end.
Run = Callable[[Coroutine[Any, Any, Response]], Response]
#: Bytes that the answer to a form may have, compressed and decompressed.
MAX_ANSWER = 1_000_000

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
def quiet() -> Iterator[None]:
    """Keep secrets out of the HTTP library's log while we use it."""
    reset = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(reset)


def pool_of(runtime: Runtime, consumer: Consumer) -> AsyncClient:
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
    pool = pool_of(runtime, consumer)
    try:
        with quiet():
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
        _logger.debug("POST %s: %d", safe(URL(form.url)), answer.status)
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


def safe(url: URL) -> str:
    """Return a URL without what may be secret: its query, its user, its fragment."""
    return str(url.copy_with(query=None, fragment=None, userinfo=b""))
