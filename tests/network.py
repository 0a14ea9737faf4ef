"""Networks for the tests: in process and on a port, and clients that go away."""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote, urlsplit

import httpx2
from quart import Quart
from support import Visitor

from quart_dance.testing import DevProvider
from quart_dance.testing.asgi import run


@types.coroutine
def cancelled_at(
    coroutine: Coroutine[Any, Any, Any], step: int, cancelled: Callable[[], None]
) -> Generator[Any, Any, Any]:
    """Drive a coroutine; cancel its task where it waits for the `step`th time."""
    resume: Callable[[Any], Any] = coroutine.send
    value: Any = None
    while True:
        try:
            waited = resume(value)
        except StopIteration as end:
            return end.value
        step -= 1
        if step == 0:
            task = asyncio.current_task()
            assert task
            task.cancel()
            cancelled()
        try:
            value, resume = (yield waited), coroutine.send
        except BaseException as error:
            value, resume = error, coroutine.throw


def scope_of(url: str, visitor: Visitor) -> dict[str, Any]:
    """Return the ASGI scope of a visitor's GET."""
    parts = urlsplit(url)
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": [(b"host", visitor.host.encode()), (b"cookie", cookies.encode())],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 443),
        "extensions": {},
    }


async def get(app: Quart, url: str, visitor: Visitor, gone: asyncio.Event) -> int:
    """Open a page as a client that may go away; return the status, 0 for none."""
    status, sent = 0, False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(event: Any) -> None:
        nonlocal status
        status = event.get("status", status)
        if event["type"] == "http.response.body" and not event.get("more_body"):
            gone.set()

    scope: Any = scope_of(url, visitor)
    await app(scope, receive, send)
    return status


class Network(httpx2.AsyncBaseTransport):
    """Brings requests to a provider that goes on when its client is gone.

    Attributes:
        open: The answers that have not been closed.
    """

    def __init__(self, provider: DevProvider) -> None:
        self._inner = provider.transport()
        self._tasks: set[asyncio.Task[httpx2.Response]] = set()
        self.open: list[_Body] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(0)
        task = asyncio.ensure_future(self._inner.handle_async_request(request))
        self._tasks.add(task)
        answer = await asyncio.shield(task)
        body = _Body(self, await answer.aread())
        self.open.append(body)
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=body)

    async def rest(self) -> None:
        """Wait until the provider has answered all that it was asked."""
        await asyncio.gather(*self._tasks)
        self._tasks.clear()


class _Body(httpx2.AsyncByteStream):
    def __init__(self, network: Network, body: bytes) -> None:
        self._network = network
        self._halves = body[: len(body) // 2], body[len(body) // 2 :]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for half in self._halves:
            await asyncio.sleep(0)
            yield half

    async def aclose(self) -> None:
        if self in self._network.open:
            self._network.open.remove(self)
            await asyncio.sleep(0)


class Port:
    """A loopback port with a provider behind it.

    Attributes:
        connections: One task for each connection that is open.
    """

    def __init__(self) -> None:
        self.connections: set[asyncio.Task[Any]] = set()
        self.provider = DevProvider()

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer the requests of one connection until the client closes it."""
        task = asyncio.current_task()
        assert task
        self.connections.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._answer(head.decode("latin-1"), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.connections.discard(task)
            writer.close()

    async def _answer(
        self, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        pairs = [line.split(": ", 1) for line in lines]
        headers = [(k.lower().encode(), v.encode("latin-1")) for k, v in pairs]
        body = await reader.readexactly(int(dict(headers).get(b"content-length", 0)))
        parts = urlsplit(target)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(parts.path),
            "raw_path": parts.path.encode(),
            "query_string": parts.query.encode(),
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 0),
        }
        answer = await run(self.provider, scope, body)
        drop = (b"content-length", b"transfer-encoding")
        kept = [pair for pair in answer.headers if pair[0].lower() not in drop]
        kept.append((b"content-length", str(len(answer.body)).encode()))
        writer.write(b"HTTP/1.1 %d OK\r\n" % answer.status)
        writer.writelines(b"%s: %s\r\n" % pair for pair in kept)
        writer.write(b"\r\n" + answer.body)
        await writer.drain()

    async def closed(self) -> None:
        """Wait until no connection is open; five seconds are as good as for ever."""
        async with asyncio.timeout(5):
            await asyncio.gather(*self.connections)


@asynccontextmanager
async def on_a_port(**options: Any) -> AsyncIterator[Port]:
    """Serve a provider on a free loopback port; all connections must end by then."""
    port = Port()
    server = await asyncio.start_server(port.serve, "127.0.0.1", 0)
    number = server.sockets[0].getsockname()[1]
    port.provider = DevProvider(url=f"http://127.0.0.1:{number}", **options)
    try:
        yield port
    finally:
        server.close()
        await port.closed()
        await server.wait_closed()
