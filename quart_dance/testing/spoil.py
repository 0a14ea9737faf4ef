"""Where faults wait for their requests, and how they spoil them."""

from __future__ import annotations

import asyncio
from threading import Lock

from .asgi import ASGIApp, Captured, Receive, Scope, run, unless_gone
from .faults import (
    Altered,
    Answer,
    CallbackFault,
    Fault,
    FormEncoded,
    Hang,
    RequestFault,
    Slow,
)
from .gate import Gate


class FaultQueue:
    """The faults that wait for their requests."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._armed: list[tuple[str, Fault]] = []

    def arm(self, endpoint: str, fault: Fault, times: int) -> None:
        with self._lock:
            self._armed.extend([(endpoint, fault)] * times)

    def clear(self) -> None:
        with self._lock:
            self._armed.clear()

    def take(self, endpoint: str) -> RequestFault | None:
        """Use up the oldest fault of a request to an endpoint."""
        with self._lock:
            for index, (name, fault) in enumerate(self._armed):
                if name == endpoint and not isinstance(fault, CallbackFault):
                    del self._armed[index]
                    return fault
        return None

    def take_callback(self) -> CallbackFault | None:
        """Use up the oldest fault of a visitor's way back."""
        with self._lock:
            for index, (_, fault) in enumerate(self._armed):
                if isinstance(fault, CallbackFault):
                    del self._armed[index]
                    return fault
        return None


async def answer(
    app: ASGIApp,
    scope: Scope,
    body: bytes,
    receive: Receive,
    *,
    fault: RequestFault | None,
    gate: Gate,
) -> Captured | None:
    """Let an application answer, with a fault or without.

    Args:
        app: What answers.
        scope: The request.
        body: Its body.
        receive: Tells when the client leaves.
        fault: What goes wrong.
        gate: Where requests hang.

    Returns:
        What to send; None if the client left before.
    """
    if isinstance(fault, Answer):
        return Captured.canned(fault)
    late = isinstance(fault, Slow | Hang) and fault.after
    if isinstance(fault, Slow | Hang) and not late:
        if not await unless_gone(_delay(fault, gate), receive):
            return None
    captured = await run(app, scope, body)
    if isinstance(fault, Altered | FormEncoded):
        return captured.edited(fault)
    if isinstance(fault, Slow | Hang) and late:
        if not await unless_gone(_delay(fault, gate), receive):
            return None
    return captured


async def _delay(fault: Slow | Hang, gate: Gate) -> None:
    if isinstance(fault, Slow):
        await asyncio.sleep(fault.seconds)
    else:
        await gate.hold()
