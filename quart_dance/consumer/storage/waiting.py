"""Waiting for what somebody else does: not breaking it off, and not for too long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

T = TypeVar("T")
#: Seconds that somebody who is cancelled waits for what must not be broken off.
GRACE = 1.0
_running: set[asyncio.Future[Any]] = set()


async def finished(work: Awaitable[T]) -> T:
    """Wait for something short that a cancelled caller must not break off.

    A statement that is broken off takes its connection with it, and SQLite's keeps
    its locks until it is collected; a thread goes on in any case. So the caller is
    cancelled when it is done, or after `GRACE`: then it goes on without them.
    """
    task = _begun(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=GRACE)
        raise


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Wait for something, but no longer than that, and not once we are cancelled.

    Libraries lose a cancellation now and then, where it meets a deadline of their own.
    So what they do is told to end, but nobody waits until it has.

    Raises:
        TimeoutError: It took longer, or somebody else has cancelled it.
    """
    task = _begun(work)
    try:
        await asyncio.wait([task], timeout=seconds)
        if not task.done() or task.cancelled():
            raise TimeoutError
        return task.result()
    finally:
        task.cancel()


def is_cancelled() -> bool:
    """Say whether whoever runs is cancelled, and not only what they have waited for."""
    with suppress(RuntimeError):  # without an event loop nobody is
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return False


async def until(attempt: Callable[[], Awaitable[bool]]) -> None:
    """Try something again and again, ever less often, until it is done.

    Others who want the same may sit in other processes: nobody tells us when to go on.
    """
    wait = 0.02
    while not await attempt():
        # Not all at the same moment.
        await asyncio.sleep(wait * random.uniform(0.5, 1))
        wait = min(2 * wait, 0.25)


@asynccontextmanager
async def in_turn(lock: asyncio.Lock, patience: float) -> AsyncIterator[None]:
    """Let one at a time do something; it may be done at once, but not as well.

    Args:
        lock: Whoever holds it has the turn.
        patience: Seconds after which somebody goes on without the turn.
    """
    has_turn = False
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            has_turn = await lock.acquire()
    try:
        yield
    finally:
        if has_turn:
            lock.release()


def _begun(work: Awaitable[T]) -> asyncio.Future[T]:
    task = asyncio.ensure_future(work)
    _running.add(task)  # a loop holds its tasks weakly
    task.add_done_callback(_running.discard)
    # Its error is nobody's business if nobody waits any more.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
