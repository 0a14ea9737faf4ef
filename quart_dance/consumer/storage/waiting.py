"""Waiting for what somebody else does: not breaking it off, and not for too long."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from ...errors import StorageError

T = TypeVar("T")
#: Seconds that somebody who is cancelled waits for what must not be broken off.
GRACE = 1.0
#: How much of a lease may be over when it is known that it was taken: the rest must do
#: to read the token again, for the provider's answer, and for the save.
_SPENT = 1 / 6
#: Seconds that are not too much for any lease.
_PROMPT = 1.0
#: How often a lease is taken of which too little was left.
_TIMES = 3
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


async def until(attempt: Callable[[], Awaitable[T | None]]) -> T:
    """Try something again and again, ever less often, until its result is true.

    Others who want the same may sit in other processes: nobody tells us when to go on.
    """
    wait = 0.02
    while not (result := await attempt()):
        # Not all at the same moment.
        await asyncio.sleep(wait * random.uniform(0.5, 1))
        wait = min(2 * wait, 0.25)
    return result


async def leased(take: Callable[[], Awaitable[float | None]], seconds: float) -> None:
    """Wait for a lease until it is taken, and enough of it is left.

    Whoever takes it again has all of it, but keeps the others out meanwhile: so not
    for ever, where a process or what keeps the leases is slow.

    Args:
        take: Asks for it, and returns when it did, by the monotonic clock; None:
            somebody else has it.
        seconds: How long it lasts.

    Raises:
        StorageError: Too little was left, again and again; give it back all the same.
    """
    for _ in range(_TIMES):
        asked = await until(take)
        if time.monotonic() - asked < max(_PROMPT, seconds * _SPENT):
            return
    raise StorageError(
        f"too little was left of a lease of {seconds:g} s when it had been taken: the "
        "process, or what keeps the leases, is too slow"
    )


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
