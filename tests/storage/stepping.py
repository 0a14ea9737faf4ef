"""Cancelling at every await: at the first one, the second one, and so on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class CancelAt:
    """Awaits a coroutine, and cancels the task where it waits for the nth time.

    Attributes:
        reached: Whether it waited so often.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], number: int) -> None:
        self._coroutine = coroutine
        self._number = number
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._coroutine.__await__()
        waits = 0
        try:
            future = next(inner)
            while True:
                waits += 1
                if waits == self._number:
                    self.reached = True
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel()
                try:
                    value = yield future
                except BaseException as error:
                    future = inner.throw(error)
                else:
                    future = inner.send(value)
        except StopIteration as end:
            return end.value


async def cancelled_at(coroutine: Coroutine[Any, Any, Any], number: int) -> bool:
    """Run a coroutine in a task of its own; say whether it was cancelled on the way.

    Whatever it has left running is awaited, too.
    """
    stepped = CancelAt(coroutine, number)

    async def run() -> None:
        await stepped

    before = asyncio.all_tasks()
    task = asyncio.create_task(run())
    try:
        await task
    except asyncio.CancelledError:
        assert stepped.reached
    while left := asyncio.all_tasks() - before:
        await asyncio.wait(left)
    return stepped.reached
