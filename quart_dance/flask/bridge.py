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
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from typing import Any, TypeVar
from weakref import WeakSet, WeakValueDictionary

from flask import has_request_context

from ..consumer.flight import SAVING
from ..consumer.runtime import Closable, Runtime
from ..consumer.storage.base import BaseStorage
from ..consumer.storage.forks import leave
from .gate import Gate
from .threads import Threads
from .waiter import Waiter

T = TypeVar("T")
#: Seconds that closing connections may take at the end of the process.
_CLOSING = 3.0


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that a forked process neither runs nor closes.

    A copy of the parent's loop shares the parent's selector: to close what waits
    there would take it from the parent.
    """

    def __init__(self) -> None:
        self._process = os.getpid()
        super().__init__()
        self.set_default_executor(Threads(thread_name_prefix="quart_dance"))

    def serve(self) -> None:
        """Run until it is stopped."""
        ended = False
        while not ended:
            # To end the process is for the thread that waits: it gets this as well.
            with suppress(SystemExit, KeyboardInterrupt):
                self.run_forever()
                ended = True

    def is_running(self) -> bool:
        return os.getpid() == self._process and super().is_running()

    def __del__(self) -> None:
        if os.getpid() == self._process:
            super().__del__()


class Bridge:
    """The event loop of a process, and the way there.

    Attributes:
        process: Whose it is.
        gate: What lets calls in.
        storages: Those with something to be closed at the end of the process, by its
            id. Nobody else can: their connections belong to this event loop.
        runtimes: Of the applications; they are closed then, too, those still there.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.gate = Gate()
        self.storages: dict[int, BaseStorage] = {}
        self._known: WeakValueDictionary[int, BaseStorage] = WeakValueDictionary()
        self.runtimes: WeakSet[Runtime] = WeakSet()
        self._loop: _Loop | None = None
        self._thread: threading.Thread
        self._lock = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Run a coroutine in the event loop, and wait for it; see the function."""
        with ExitStack() as stack:
            try:
                self._check()
                stack.enter_context(self.gate.passing())
                waiter = Waiter(self._running_loop())
            except BaseException:
                coroutine.close()
                raise
            return waiter.wait(coroutine, timeout)

    def keep(self, storage: BaseStorage) -> None:
        """Have a storage closed, or another one of the same connections."""
        if self._known.get(id(storage)) is storage:
            return
        with suppress(Exception):  # it has nothing yet; its methods will say why
            self.storages[id(storage._holds)] = storage
            self._known[id(storage)] = storage

    def forget(self, storage: BaseStorage) -> None:
        """Let go of a storage that has been closed."""
        self._known.clear()  # others of the same connections may open them again
        self.storages.pop(id(storage._holds), None)

    def _check(self) -> None:
        check_threads()
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
                        target=loop.serve, name="quart_dance", daemon=True
                    )
                    self._thread.start()
                    self._loop = loop
        return self._loop

    def close(self) -> None:
        """Close what is kept, and end the event loop and its thread, for good.

        Threads that come later wait at the gate until the process is no more.
        """
        if self._loop is not None:
            self._land(self._loop)
        self.gate.close()
        loop = self._loop
        if loop is not None:
            self._await(self._end(), loop, 2 * _CLOSING)
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join(_CLOSING)
            if not self._thread.is_alive():
                loop.close()
        elif self.runtimes:
            asyncio.run(self._end())

    def _await(
        self, coroutine: Coroutine[Any, Any, None], loop: _Loop, timeout: float
    ) -> None:
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout)

    def _land(self, loop: _Loop) -> None:
        """Let no refresh begin to spend a token any more, and wait for the others.

        Nothing is closed before: to save a token may take storages, and the gate.
        """
        runtimes = [*self.runtimes]
        states = [runtime.at(loop) for runtime in runtimes]
        for state in states:
            state.ending = True
        # Seen from here: an event loop that stands still would not say.
        if any(state.tasks for state in states):
            deadline = max(runtime.deadline for runtime in runtimes)
            self._await(self._flights(), loop, deadline + SAVING + _CLOSING)

    async def _flights(self) -> None:
        """Wait for the refreshes: of what they are given nobody else has a copy."""
        while flights := {task for r in self.runtimes for task in r.here.tasks}:
            await asyncio.wait(flights)

    async def _end(self) -> None:
        everything: list[Closable] = [*self.runtimes, *self.storages.values()]
        with suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING):
                for kept in everything:
                    with suppress(Exception):
                        await kept.aclose()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others, timeout=_CLOSING)
        await asyncio.get_running_loop().shutdown_asyncgens()


def check_threads() -> None:
    """See that threads are threads.

    Raises:
        RuntimeError: They are greenlets, and an event loop would block them all.
    """
    gevent, eventlet = map(sys.modules.get, ("gevent.monkey", "eventlet.patcher"))
    if (gevent is not None and gevent.is_module_patched("threading")) or (
        eventlet is not None and eventlet.is_monkey_patched("thread")
    ):
        raise RuntimeError(
            "gevent or eventlet has replaced threads, and quart_dance needs a real "
            "one for its event loop: serve the application with threads"
        )


def run(
    coroutine: Coroutine[Any, Any, T],
    storage: BaseStorage | None = None,
    timeout: float | None = None,
) -> T:
    """Run a coroutine in this process's event loop, and wait for it in this thread.

    Args:
        coroutine: It sees the ContextVars of this thread.
        storage: What it uses; closed at the end of the process.
        timeout: Seconds after which it is cancelled, and nobody waits any more.

    Raises:
        TimeoutError: It has been cancelled.
        RuntimeError: This thread runs an event loop, which would stand still, or
            threads are greenlets, or somebody else has cancelled the coroutine, or
            the process has ended.
    """
    if storage is not None and type(storage).aclose is not BaseStorage.aclose:
        _here().keep(storage)
    return _here().run(coroutine, timeout)


def keep(runtime: Runtime) -> Runtime:
    """Have an application's runtime closed at the end of the process."""
    _here().runtimes.add(runtime)
    return runtime


def close(storage: BaseStorage) -> None:
    """Close a storage now."""
    run(storage.aclose())
    _here().forget(storage)


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
_renewing = threading.Lock()


def _here() -> Bridge:
    """Return the bridge of this process: a parent's event loop runs in no child.

    A server may fork without telling Python, so whoever needs it asks.
    """
    global _bridge
    if _bridge.process != os.getpid():
        with _renewing:
            if _bridge.process != os.getpid():
                leave(_bridge)
                _bridge = Bridge()
    return _bridge


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=lambda: _here().gate.close(),
        after_in_parent=lambda: _here().gate.open(),
        after_in_child=_here,
    )
atexit.register(lambda: _here().close())
