"""A thread that waits for a coroutine, which runs in another thread's event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar, cast

from ..consumer.storage.caller import caller

T = TypeVar("T")
_Outcome = tuple[Any, BaseException | None]


class Waiter:
    """A thread that waits for one coroutine, and serves its calls meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._task: asyncio.Task[Any] | None = None
        self._calls: SimpleQueue[tuple[Callable[[], Any], Any] | None] = SimpleQueue()
        self._gone = False

    # On the event loop's thread

    def _begin(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        caller.set(self)
        self._task = self._loop.create_task(coroutine)
        self._task.add_done_callback(lambda _: self._leave())

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in the thread that waits, or if it is gone in another one."""
        context = copy_context()
        context.run(caller.set, None)  # nobody serves what it calls in turn
        call = partial(_in_context, context, context.copy(), function)
        try:
            return await self._called(call)
        finally:
            _adopt(context, call.args[1])

    async def _called(self, call: Callable[[], Any]) -> Any:
        if not self._gone:
            served = self._loop.create_future()
            self._calls.put((call, served))
            outcome: _Outcome | None = await served
            if outcome is not None:
                value, error = outcome
                if error is not None:
                    raise error
                return value
        return await asyncio.to_thread(call)

    def _leave(self) -> None:
        """Hand the calls that nobody serves any more back, and let the thread go."""
        self._gone = True
        with suppress(Empty):
            while (left := self._calls.get_nowait()) is not None:
                _set(left[1], None)
        self._calls.put(None)

    def _abandon(self, served: asyncio.Future[Any] | None) -> None:
        self._leave()
        if self._task is not None:
            self._task.cancel()
        if served is not None:  # by half: what must be done is done by another thread
            _set(served, None)

    # On the thread that waits

    def wait(self, coroutine: Coroutine[Any, Any, T], timeout: float | None) -> T:
        """Serve until the coroutine is done; return what it returns.

        Raises:
            TimeoutError: That took longer than `timeout` seconds.
            RuntimeError: Somebody else has cancelled it.
        """
        end = None if timeout is None else time.monotonic() + timeout
        served = None
        try:
            context = copy_context()
            self._loop.call_soon_threadsafe(self._begin, coroutine, context=context)
            while (work := self._next(end)) is not None:
                call, served = work
                self._loop.call_soon_threadsafe(_set, served, _outcome(call))
                # A traceback may show this frame, and they what the call returned.
                work = served = None
        except BaseException:
            # Such as KeyboardInterrupt: the coroutine is of no use to anybody.
            self._loop.call_soon_threadsafe(self._abandon, served)
            raise
        task, self._task = cast(asyncio.Task[T], self._task), None
        try:
            return task.result()
        except asyncio.CancelledError as error:
            # This is none that sync code expects: servers die of it.
            raise RuntimeError(
                "what this thread waited for has been cancelled"
            ) from error
        finally:
            del task  # its exception holds this frame

    def _next(self, end: float | None) -> tuple[Callable[[], Any], Any] | None:
        if end is None:
            return self._calls.get()
        try:
            return self._calls.get(timeout=max(0, end - time.monotonic()))
        except Empty:
            raise TimeoutError("a storage did not answer in time") from None


def _in_context(context: Context, before: Context, function: Callable[[], T]) -> T:
    try:
        return context.run(function)
    finally:
        _adopt(context, before)


def _adopt(context: Context, before: Context) -> None:
    """Set the ContextVars here that a call in another context has set there."""
    for variable, value in context.items():
        if variable not in before or before[variable] is not value:
            variable.set(value)


def _outcome(call: Callable[[], Any]) -> _Outcome:
    try:
        return call(), None
    except (Exception, asyncio.CancelledError) as error:
        return None, error


def _set(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
