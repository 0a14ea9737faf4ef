"""A token endpoint behind a real socket, and what may go wrong on the way there."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias
from urllib.parse import parse_qsl

import pytest
from failures import failures_of, make_stage, stored_token
from support import Visitor, query

from quart_dance.consumer.runtime import runtime
from quart_dance.testing import DevProvider

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Behaviour: TypeAlias = Callable[[Reader, Writer], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
LARGE = b"Content-Length: 50000000\r\n\r\n"


def answer(token: str) -> Behaviour:
    """Give a token, as a provider that is well."""
    body = json.dumps({"access_token": token, "token_type": "Bearer"}).encode()

    async def behave(reader: Reader, writer: Writer) -> None:
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return behave


def cut(*pieces: bytes) -> Behaviour:
    """Send a part of an answer, or nothing, and hang up."""

    async def behave(reader: Reader, writer: Writer) -> None:
        writer.write(b"".join(pieces))
        writer.close()

    return behave


async def reset(reader: Reader, writer: Writer) -> None:
    """Break the connection off: the client sees ECONNRESET."""
    linger = struct.pack("ii", 1, 0)
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def never(reader: Reader, writer: Writer) -> None:
    """Say nothing until the client hangs up."""
    await reader.read()


def drip(start: bytes, drop: bytes) -> Behaviour:
    """Send a few bytes, again and again, until the client hangs up."""

    async def behave(reader: Reader, writer: Writer) -> None:
        writer.write(start)
        gone = asyncio.ensure_future(reader.read())
        while not gone.done():
            writer.write(drop)
            await asyncio.wait({gone}, timeout=0.005)

    return behave


class Server:
    """Behaves as it is told: one behaviour for each request, in turn."""

    def __init__(self) -> None:
        self.behaviours: list[Behaviour] = []
        self.forms: list[dict[str, str]] = []
        self.port = 0
        self.sent = 0
        self._open: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/token"

    async def idle(self) -> None:
        """Wait until the client has hung up on every connection."""
        async with asyncio.timeout(30):
            await asyncio.gather(*self._open)

    async def flood(self, reader: Reader, writer: Writer) -> None:
        """Send fifty million bytes, or as many as the client takes."""
        writer.write(HEAD + LARGE)
        for _ in range(50):
            writer.write(b" " * 1_000_000)
            await writer.drain()
            self.sent += 1_000_000

    async def serve(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task
        self._open.add(task)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has hung up
        finally:
            self._open.discard(task)
            writer.transport.abort()

    async def _talk(self, reader: Reader, writer: Writer) -> None:
        while not writer.is_closing():
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            form = (await reader.readexactly(length)).decode()
            self.forms.append(dict(parse_qsl(form)))
            await self.behaviours.pop(0)(reader, writer)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.idle()
        # A connection or a pool that was left open says so now.
        gc.collect()


FAILURES = {
    "reset": (reset, "unreachable"),
    "closed": (cut(), "unreachable"),
    "no-http": (cut(b"SSH-2.0-OpenSSH_9.6\r\n"), "unreachable"),
    "half-a-head": (cut(b"HTTP/1.1 200 OK\r\nContent-Ty"), "unreachable"),
    "half-a-body": (cut(HEAD, LARGE, b'{"access_token":"leak-me"'), "unreachable"),
    "half-a-chunk": (
        cut(HEAD, b"Transfer-Encoding: chunked\r\n\r\nff\r\n{"),
        "unreachable",
    ),
    "never": (never, "timeout"),
    "drip-in-the-head": (drip(HEAD, b"X-A: b\r\n"), "timeout"),
    "drip-in-the-body": (drip(HEAD + LARGE, b" "), "timeout"),
    "drip-of-information": (drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n"), "timeout"),
}


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach 127.0.0.1 directly, whatever proxy the machine has."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


async def fail(visitor: Visitor, blueprint, provider: DevProvider, server: Server):
    """Go through a login that fails on the network; return the typed error."""
    requests = len(server.forms)
    callback = await provider.approve(await visitor.start())
    with failures_of(blueprint) as failures:
        async with asyncio.timeout(30):  # else the test itself would hang
            response = await visitor.get(callback)
    [error] = failures
    assert response.status_code == error.status == 502
    assert error.status_code is None
    assert error.__cause__ is None and error.__context__ is None
    said = failures.said + await response.get_data(as_text=True)
    secrets = {"dev-client-secret", "leak-me", query(callback)["code"]}
    secrets |= {form["code_verifier"] for form in server.forms[requests:]}
    assert [text for text in secrets if text in said] == []
    return error


@pytest.mark.parametrize("case", FAILURES)
async def test_failing_network(dev_provider, case):
    """T9 T14 L2 L3: one request, a typed error within the deadline, the older token
    stays, the connection is hung up, and the next login works.
    """
    behaviour, code = FAILURES[case]
    async with serving() as server:
        app, blueprint = make_stage(dev_provider, token_url=server.url, timeout=600.0)
        visitor = Visitor(app)
        here = runtime(app)
        here.transport = None
        server.behaviours = [answer("older"), behaviour, answer("newer")]
        assert (await visitor.login(dev_provider)).status_code == 302
        here.deadline = 0.2 if code == "timeout" else 60.0
        error = await fail(visitor, blueprint, dev_provider, server)
        assert error.error == code
        assert len(server.forms) == 2
        await server.idle()
        assert (await stored_token(visitor))["access_token"] == "older"
        here.deadline = 60.0
        assert (await visitor.login(dev_provider)).status_code == 302
        assert (await stored_token(visitor))["access_token"] == "newer"
        assert len(server.forms) == 3
        await blueprint.aclose(app)


async def test_an_endless_answer_is_not_read_to_its_end(dev_provider):
    """T8 T9: after a million bytes the client hangs up."""
    async with serving() as server:
        app, blueprint = make_stage(dev_provider, token_url=server.url)
        runtime(app).transport = None
        server.behaviours = [server.flood]
        error = await fail(Visitor(app), blueprint, dev_provider, server)
        assert error.error == "invalid_response"
        await server.idle()
        assert server.sent < 50_000_000
        await blueprint.aclose(app)


async def test_refused_connection(dev_provider):
    """T9: nobody listens at the token endpoint; once somebody does, logins work."""
    async with serving() as server:
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            port = unheard.getsockname()[1]
            refusing = f"http://127.0.0.1:{port}/token"
            app, blueprint = make_stage(dev_provider, token_url=refusing)
            runtime(app).transport = None
            visitor = Visitor(app)
            error = await fail(visitor, blueprint, dev_provider, server)
            assert error.error == "unreachable"
            assert await stored_token(visitor) is None
        blueprint.token_url = server.url
        server.behaviours = [answer("newer")]
        assert (await visitor.login(dev_provider)).status_code == 302
        assert (await stored_token(visitor))["access_token"] == "newer"
        await blueprint.aclose(app)
