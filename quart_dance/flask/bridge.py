"""From sync code to coroutines: one event loop, in a thread of its own, per process.

Connections belong to an event loop, so all coroutines of a process run on the same
one. It is made when it is first needed, and made anew after a fork. A thread that
waits for a coroutine serves it meanwhile: what belongs to the application, such as
its receivers and its users, is called in that thread (`in_caller`).
"""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import copy_context
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from weakref import WeakSet

from flask import has_request_context

from ..consumer.runtime import Closable
from ..consumer.storage.base import BaseStorage
from ..consumer.storage.caller import caller

T = TypeVar("T")
C = TypeVar("C", bound=Closable)
_Outcome = tuple[Any, Exception | None]
#: Seconds that closing connections at the end of the process may take.
_CLOSING = 3.0


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that a forked process neither runs nor closes.

    A copy of the parent's loop shares the parent's selector: to close what waits
    there would take it from the parent.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        super().__init__()

    def is_running(self) -> bool:
        return os.getpid() == self._process and super().is_running()

    def __del__(self) -> None:
        if os.getpid() == self._process:
            super().__del__()


class _Waiter:
    """A thread that waits for one coroutine, and serves its calls meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[Any]
        self._calls: SimpleQueue[tuple[Callable[[], Any], Any] | None] = SimpleQueue()
        self._gone = False

    # On the event loop's thread

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Start the coroutine."""
        caller.set(self)
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(lambda _: self._leave())

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the thread that waits, or if it is gone in another one."""
        if not self._gone:
            served = self._loop.create_future()
            context = copy_context()
            self._calls.put((lambda: context.run(function), served))
            outcome: _Outcome | None = await served
            if outcome is not None:
                value, error = outcome
                if error is not None:
                    raise error
                return value
        return await asyncio.to_thread(function)

    def _leave(self) -> None:
        """Hand the calls that nobody serves any more back, and let the thread go."""
        self._gone = True
        with suppress(Empty):
            while (left := self._calls.get_nowait()) is not None:
                _set(left[1], None)
        self._calls.put(None)

    def _abandon(self) -> None:
        self._leave()
        self._task.cancel()

    # On the thread that waits

    def wait(self) -> Any:
        """Serve until the coroutine is done; return what it returns."""
        try:
            while (work := self._calls.get()) is not None:
                call, served = work
                outcome = _outcome(call)
                self._loop.call_soon_threadsafe(_set, served, outcome)
        except BaseException:
            # Such as KeyboardInterrupt: the coroutine is of no use to anybody.
            self._loop.call_soon_threadsafe(self._abandon)
            raise
        try:
            return self._task.result()
        finally:
            del self._task  # its exception holds this frame


def _outcome(call: Callable[[], Any]) -> _Outcome:
    try:
        return call(), None
    except Exception as error:
        return None, error


def _set(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


class Bridge:
    """The event loop of a process, and the way there.

    Attributes:
        kept: What is closed at the end of the process.
    """

    def __init__(self) -> None:
        self.kept: WeakSet[Closable] = WeakSet()
        self._loop: _Loop | None = None
        self._thread: threading.Thread
        self._lock = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event loop, and wait for it in this thread.

        It sees the ContextVars of this thread.

        Raises:
            RuntimeError: This thread runs an event loop, which would stand still.
        """
        try:
            self._check()
            loop = self._running_loop()
        except BaseException:
            coroutine.close()
            raise
        waiter = _Waiter(loop)
        loop.call_soon_threadsafe(waiter.begin, coroutine, context=copy_context())
        result: T = waiter.wait()
        return result

    def _check(self) -> None:
        if _are_threads_patched():
            raise RuntimeError(
                "gevent or eventlet has replaced threads, and quart_dance needs a real "
                "one for its event loop: serve the application with threads"
            )
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return
        # An async view of Flask's has a thread, and a loop, to itself.
        if running is self._loop or not has_request_context():
            raise RuntimeError(
                "an event loop runs in this thread and would stand still: write "
                "`await` on the async storage itself, or call this from another "
                "thread (asyncio.to_thread)"
            )

    def _running_loop(self) -> _Loop:
        if self._loop is None:
            with self._lock:
                if self._loop is None:
                    loop = _Loop()
                    self._thread = threading.Thread(
                        target=loop.run_forever, name="quart_dance", daemon=True
                    )
                    self._thread.start()
                    self._loop = loop
        return self._loop

    def close(self) -> None:
        """Close what is kept, and end the event loop and its thread."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        ending = asyncio.run_coroutine_threadsafe(self._end(), loop)
        with suppress(Exception):
            ending.result(2 * _CLOSING)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(_CLOSING)
        if not self._thread.is_alive():
            loop.close()

    async def _end(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                for kept in list(self.kept):
                    with suppress(Exception):
                        await kept.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_CLOSING)
        await asyncio.get_running_loop().shutdown_asyncgens()


def _are_threads_patched() -> bool:
    """Say whether threads are greenlets: an event loop would block them all."""
    gevent = sys.modules.get("gevent.monkey")
    if gevent is not None and gevent.is_module_patched("threading"):
        return True
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet is not None and bool(eventlet.is_monkey_patched("thread"))


def run(coroutine: Coroutine[Any, Any, T], storage: Closable | None = None) -> T:
    """Run a coroutine in this process's event loop, and wait for it in this thread.

    Args:
        coroutine: It sees the ContextVars of this thread.
        storage: Is kept, see `keep`.

    Raises:
        RuntimeError: This thread runs an event loop, which would stand still, or
            threads are greenlets.
    """
    if storage is not None:
        keep(storage)
    return _bridge.run(coroutine)


def keep(closable: C) -> C:
    """Have something closed at the end of the process, in its event loop."""
    _bridge.kept.add(closable)
    return closable


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that waits for nothing, without an event loop.

    Raises:
        RuntimeError: It does wait.
    """
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    coroutine.close()
    raise RuntimeError("something here waits that should not: is it a coroutine?")


_bridge = Bridge()
#: Of the processes that have forked us: to collect them would close what is theirs.
_parents: list[Bridge] = []


def _renew() -> None:
    global _bridge
    old, _bridge = _bridge, Bridge()
    _parents.append(old)
    for kept in list(old.kept):
        if isinstance(kept, BaseStorage):
            kept.after_fork()


def _close() -> None:
    _bridge.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
atexit.register(_close)
