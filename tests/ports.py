"""Ports of this machine, free and taken."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def occupied(port: int = 0) -> Iterator[int]:
    """Listen on a port for a while, unless somebody else does already."""
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
            yield port
        else:
            yield int(sock.getsockname()[1])
