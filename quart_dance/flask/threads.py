"""Threads for an event loop that outlives the main thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """A pool of threads that still works when the main thread has ended.

    All pools of a process refuse work from then on, but other threads, and what is
    called at the process's end, have not ended: what an event loop hands them, such as
    the save of a token that the provider has just rotated, must be done.
    """

    def submit(
        self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]:
        """Call a function in a thread of the pool, or if it refuses in a new one."""
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as refused:
            if "shutdown" not in str(refused):
                raise  # no thread can be started: another one may do it yet
        future: Future[T] = Future()
        call = partial(fn, *args, **kwargs)
        Thread(target=_call, args=(call, future), daemon=True).start()
        return future


def _call(call: Callable[[], Any], future: Future[Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
        del call, future  # its traceback shows this frame
    else:
        future.set_result(result)
