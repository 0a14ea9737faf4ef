"""Provider and application on two loopback ports, in one process."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart

from ..testing import DevProvider
from .app import CALLBACK_PATH, create_app

HOST = "127.0.0.1"
#: How many ports are tried, from the one that is asked for.
TRIES = 100
#: Seconds that an access token lives: so short that a person sees it refreshed.
TOKEN_LIFE = 120


class PortError(Exception):
    """There is no port to listen on; the message says why."""


@dataclass(frozen=True)
class Demo:
    """The two applications and the sockets that already listen for them."""

    app: Quart
    provider: DevProvider
    port: int
    provider_port: int
    app_socket: socket.socket
    provider_socket: socket.socket

    @property
    def url(self) -> str:
        """The application's origin."""
        return f"http://{HOST}:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Answer requests on both ports; can be used once.

        Raises:
            ExceptionGroup: A server failed, or what runs inside.
        """
        stop = asyncio.Event()
        with self.app_socket, self.provider_socket, direct_loopback():
            async with asyncio.TaskGroup() as group:
                group.create_task(_serve(self.app, self.app_socket, stop))
                group.create_task(_serve(self.provider, self.provider_socket, stop))
                try:
                    yield
                finally:
                    stop.set()


def create_demo(port: int, provider_port: int) -> Demo:
    """Take two ports and build the applications for them.

    Args:
        port: For the application, or the first free one above; 0 is any free one.
        provider_port: For the provider, likewise.

    Raises:
        PortError: There is no free port.
    """
    app_socket = listen(port)
    try:
        provider_socket = listen(provider_port)
    except PortError:
        app_socket.close()
        raise
    hosts = (HOST, "localhost")
    port, provider_port = port_of(app_socket), port_of(provider_socket)
    provider = DevProvider(
        url=f"http://{HOST}:{provider_port}",
        client_id="the sample application",
        client_secret=secrets.token_urlsafe(),
        redirect_uris=[f"http://{host}:{port}{CALLBACK_PATH}" for host in hosts],
        expires_in=TOKEN_LIFE,
    )
    app = create_app(**provider.options())
    return Demo(app, provider, port, provider_port, app_socket, provider_socket)


def listen(port: int) -> socket.socket:
    """Return a socket that listens on a loopback port, or on the next free one.

    Raises:
        PortError: There is none.
    """
    end = min(port + TRIES, 2**16)
    for candidate in range(port, end):
        sock = socket.socket()
        try:
            if os.name == "posix":  # elsewhere the option means another thing
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((HOST, candidate))
            sock.listen(100)
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE:
                reason = f"{HOST}:{candidate} cannot be used: {error.strerror}"
                raise PortError(reason) from None
        else:
            return sock
    raise PortError(f"every port of {HOST} from {port} to {end - 1} is taken")


def port_of(sock: socket.socket) -> int:
    """Return the port that a socket is bound to."""
    return int(sock.getsockname()[1])


async def _serve(app: Any, sock: socket.socket, stop: asyncio.Event) -> None:
    config = Config()
    config.bind = [f"fd://{sock.dup().detach()}"]
    config.loglevel = "WARNING"
    await serve(app, config, mode="asgi", shutdown_trigger=stop.wait)


@contextmanager
def direct_loopback() -> Iterator[None]:
    """Let this process reach this machine without any proxy that the user has set."""
    before = os.environ.get("no_proxy")
    others = before if before is not None else os.environ.get("NO_PROXY")
    os.environ["no_proxy"] = f"{others},{HOST}" if others else HOST
    try:
        yield
    finally:
        if before is None:
            del os.environ["no_proxy"]
        else:
            os.environ["no_proxy"] = before
