"""Calling an application's own functions in the thread that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")


class Caller(Protocol):
    """A thread that waits for a coroutine of ours, and serves calls meanwhile."""

    async def call(self, function: Callable[[], Any]) -> Any:
        """Call a function in that thread, and return what it returns."""


#: Whoever waits in another thread for the coroutine at hand; None if nobody does.
caller: ContextVar[Caller | None] = ContextVar("quart_dance_caller", default=None)


async def in_caller(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function where the application is: in the thread that called us.

    Sync code (`quart_dance.flask`) runs our coroutines in another thread, and what
    belongs to the application, its users, its database, its receivers, stays in its
    own. Under Quart that is the event loop's: the function is simply called.
    """
    thread = caller.get()
    if thread is None:
        return function(*args, **kwargs)
    return cast(T, await thread.call(lambda: function(*args, **kwargs)))
