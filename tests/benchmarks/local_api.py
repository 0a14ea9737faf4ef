"""An API that costs next to nothing: one answer to whatever is asked; a process."""

from __future__ import annotations

import asyncio
import os

BODY = b'{"id": 1, "login": "alice", "name": "Alice", "email": "alice@example.com"}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Answering(asyncio.Protocol):
    """Answers each request on a connection; no request has a body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._left = b""

    def data_received(self, data: bytes) -> None:
        *requests, self._left = (self._left + data).split(b"\r\n\r\n")
        for request in requests:
            right = b"authorization: bearer the-token" in request.lower()
            self._transport.write(ANSWER if right else ANSWER.replace(b"200", b"401"))


async def main() -> None:
    """Serve until the process is killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", int(os.environ["PORT"]))
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
