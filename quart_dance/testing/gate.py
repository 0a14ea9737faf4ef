"""A place where requests wait until a test lets them go on."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from threading import Lock


class Gate:
    """Hold callers until `release`; any thread and any event loop may call it.

    Futures of `concurrent.futures` carry the news, because the caller that waits may
    live on another loop than the test that releases it.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._held: list[Future[None]] = []
        self._watchers: list[tuple[int, Future[None]]] = []

    async def hold(self) -> None:
        """Wait for `release`."""
        opened: Future[None] = Future()
        with self._lock:
            self._held.append(opened)
            self._tell_watchers()
        try:
            await asyncio.wrap_future(opened)
        finally:
            with self._lock:
                if opened in self._held:
                    self._held.remove(opened)

    async def held(self, count: int) -> None:
        """Wait until at least `count` callers are held at once."""
        reached: Future[None] = Future()
        with self._lock:
            self._watchers.append((count, reached))
            self._tell_watchers()
        await asyncio.wrap_future(reached)

    def release(self) -> int:
        """Let all who are held go on; return how many there were."""
        with self._lock:
            held, self._held = self._held, []
        for opened in held:
            _settle(opened)
        return len(held)

    def _tell_watchers(self) -> None:
        for watcher in list(self._watchers):
            count, reached = watcher
            if len(self._held) >= count:
                self._watchers.remove(watcher)
                _settle(reached)


def _settle(future: Future[None]) -> None:
    # False means that its waiter was cancelled meanwhile.
    if future.set_running_or_notify_cancel():
        future.set_result(None)
