"""A client of Redis, and a network to it that is slow, cut off, or silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from sites import HOST


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Redis]:
    """Give a client that tries again once, and at once, when its server is gone."""
    again = Retry(NoBackoff(), 1)
    errors = [redis.exceptions.ConnectionError]  # before version 6, none by itself
    client = Redis.from_url(url, retry=again, retry_on_error=errors)
    async with client:
        yield client


class Proxy:
    """A port of this machine that leads to another one.

    Attributes:
        port: Its number.
        delay: Seconds after which an answer goes on, from the time when it is there;
            with None nothing goes on, in either direction.
        swallow: How many answers are to be lost, each with its connection.
        answers: How many pieces of answers have gone on.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self.delay: float | None = 0
        self.swallow = 0
        self.answers = 0
        self._target = target
        self._connections: set[asyncio.Task[None]] = set()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        try:
            inner_reader, inner_writer = await asyncio.open_connection(
                HOST, self._target
            )
            answering = asyncio.create_task(self._answer(inner_reader, writer))
            try:
                while data := await reader.read(65536):
                    if self.delay is not None:
                        inner_writer.write(data)
            finally:
                answering.cancel()
                inner_writer.close()
        except OSError:
            pass  # the server, or the client, is gone
        finally:
            writer.close()
            self._connections.discard(task)

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if self.swallow:
                    self.swallow -= 1
                    break
                if self.delay is not None:
                    await asyncio.sleep(self.delay)
                    writer.write(data)
                    self.answers += 1
        writer.close()

    async def close(self) -> None:
        """Cut all connections."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)


@asynccontextmanager
async def proxied(target: int) -> AsyncIterator[Proxy]:
    """Put a proxy before a port."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy._serve, HOST, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
        await server.wait_closed()
