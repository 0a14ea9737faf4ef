"""Requests and answers as ASGI messages, whole: so that faults can get at them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from werkzeug.datastructures import Headers, ImmutableMultiDict

from .faults import Altered, Answer, FormEncoded
from .records import Call
from .web import ENDPOINTS

Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True)
class Captured:
    """An answer before it is sent."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    chunks: list[bytes] = field(repr=False)

    @classmethod
    def canned(cls, answer: Answer) -> Captured:
        """Take a canned answer."""
        headers = [
            (name.lower().encode("latin-1"), value.encode("latin-1"))
            for name, value in answer.headers.items()
        ]
        return cls(answer.status, headers, [answer.body])

    def edited(self, fault: Altered | FormEncoded) -> Captured:
        """Return it with another body."""
        changed = (b"content-type", b"content-length")
        headers = [pair for pair in self.headers if pair[0].lower() not in changed]
        headers.append((b"content-type", fault.content_type.encode()))
        return Captured(self.status, headers, [fault.body(self.body)])

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def header(self, name: bytes) -> str | None:
        """Return the value of a header, its name in small letters."""
        found = [value for key, value in self.headers if key.lower() == name]
        return found[0].decode("latin-1") if found else None

    async def send(self, send: Send) -> None:
        """Send it."""
        start = {"type": "http.response.start", "status": self.status}
        await send({**start, "headers": self.headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def describe(scope: Scope, body: bytes) -> Call:
    """Write down a request."""
    headers = Headers(
        [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
    )
    path, query = scope["path"], scope["query_string"].decode("latin-1")
    raw_path = (scope.get("raw_path") or path.encode()).decode("latin-1")
    host = headers.get("Host", "")
    content_type = headers.get("Content-Type", "").partition(";")[0]
    is_form = content_type == "application/x-www-form-urlencoded"
    return Call(
        endpoint=ENDPOINTS.get(path, "unknown"),
        method=scope["method"],
        path=path,
        url=f"{scope['scheme']}://{host}{raw_path}{'?' if query else ''}{query}",
        query=_params(query),
        headers=headers,
        form=_params(body.decode("utf-8", "replace") if is_form else ""),
    )


async def read_body(receive: Receive) -> bytes | None:
    """Read the whole body; None if the client leaves before its end."""
    chunks: list[bytes] = []
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        chunks.append(event.get("body", b""))
        if not event.get("more_body", False):
            return b"".join(chunks)


async def run(app: ASGIApp, scope: Scope, body: bytes) -> Captured:
    """Let an application answer a request whose body has been read."""
    finished = asyncio.Event()
    requests: list[Event] = [{"type": "http.request", "body": body}]
    events: list[Event] = []

    async def receive() -> Event:
        if requests:
            return requests.pop()
        # Quart listens for this to the end, and 0.23 does not return without it.
        await finished.wait()
        return {"type": "http.disconnect"}

    async def send(event: Event) -> None:
        events.append(event)
        if event["type"] == "http.response.body" and not event.get("more_body"):
            finished.set()

    await app(scope, receive, send)
    start, *rest = events
    chunks = [event["body"] for event in rest if event["body"]]
    return Captured(start["status"], [(k, v) for k, v in start["headers"]], chunks)


async def unless_gone(wait: Awaitable[object], receive: Receive) -> bool:
    """Wait for something; return False if the client leaves before."""
    waiting = asyncio.ensure_future(wait)
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.done()
    finally:
        waiting.cancel()
        gone.cancel()
        await asyncio.gather(waiting, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _params(text: str) -> ImmutableMultiDict[str, str]:
    return ImmutableMultiDict(parse_qsl(text, keep_blank_values=True))
