"""Waiting for libraries that lose a cancellation: nobody is held up by them."""

from __future__ import annotations

import asyncio
import gc
from contextlib import suppress

import pytest
import pytest_asyncio
from databases import DictCache, token

from quart_dance.consumer.storage.base import saved
from quart_dance.consumer.storage.cache import TokenCache
from quart_dance.consumer.storage.waiting import finished, in_turn, within
from quart_dance.errors import StorageError


class Deaf:
    """Work that goes on when it is cancelled, until it is over."""

    def __init__(self):
        self.begun = asyncio.Event()
        self.over = asyncio.Event()
        self.cancelled = 0

    async def work(self):
        self.begun.set()
        while not self.over.is_set():
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        return "done"


@pytest_asyncio.fixture
async def deaf():
    """Give such work, that is over when the test is."""
    deaf = Deaf()
    yield deaf
    deaf.over.set()


async def test_a_deadline(deaf):
    """What takes too long is told to end; if it does not, it is left to itself."""
    async with asyncio.timeout(10):
        with pytest.raises(TimeoutError):
            await within(0, deaf.work())
    await asyncio.sleep(0)
    assert deaf.cancelled == 1
    deaf.over.set()
    assert await within(10, deaf.work()) == "done"


async def test_a_caller_that_is_cancelled(deaf):
    """Who is cancelled does not wait for what does not hear it."""
    caller = asyncio.create_task(within(60, deaf.work()))
    await deaf.begun.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await asyncio.sleep(0)
    assert deaf.cancelled == 1
    deaf.over.set()


async def test_what_somebody_else_cancels():
    """S12: Work that is cancelled elsewhere has failed, and its caller goes on."""
    shared = asyncio.get_running_loop().create_future()
    shared.cancel()
    with pytest.raises(TimeoutError):
        await within(10, shared)
    with pytest.raises(StorageError, match="CancelledError"):
        await saved(shared)


async def test_who_is_cancelled_hears_it():
    """S13: To a storage's caller that is cancelled no storage has failed."""
    caller = asyncio.create_task(saved(asyncio.Event().wait()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_not_to_be_broken_off(deaf):
    """What must not be broken off is done, unharmed, when its caller is cancelled."""
    caller = asyncio.create_task(finished(deaf.work()))
    await deaf.begun.wait()
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    deaf.over.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert deaf.cancelled == 0


async def test_an_error_that_nobody_waits_for():
    """A call that fails when its time is over fails silently."""
    complaints = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: complaints.append(context))

    async def fail():
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        raise OSError

    with pytest.raises(TimeoutError):
        await within(0, fail())
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_a_cache(deaf):
    """S12, S13: A cache holds up neither an answer nor a request that is over."""
    cache = DictCache()
    cache._operate = lambda operation: deaf.work()
    tokens = TokenCache(cache, 300)

    async def load():
        return token("x")

    async with asyncio.timeout(10):
        assert await tokens.read("key", load) == token("x")
    deaf.begun.clear()
    reading = asyncio.create_task(tokens.read("key", load))
    await deaf.begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    deaf.over.set()


async def test_in_turn():
    """Who waits too long goes on, without the turn; whoever has it gives it back."""
    lock, inside = asyncio.Lock(), []

    async def work(name: str, patience: float) -> None:
        async with in_turn(lock, patience):
            inside.append(name)
            if len(inside) == 3:
                all_in.set()
            await leave.wait()
        inside.remove(name)

    all_in, leave = asyncio.Event(), asyncio.Event()
    tasks = [asyncio.create_task(work("first", 60))]
    tasks += [asyncio.create_task(work(name, 0.01)) for name in ("hasty", "hastier")]
    patient = asyncio.create_task(work("patient", 60))
    await all_in.wait()
    assert set(inside) == {"first", "hasty", "hastier"}
    leave.set()
    await asyncio.gather(*tasks, patient)
    assert not lock.locked()
    with pytest.raises(TimeoutError):
        async with in_turn(lock, 60):
            raise TimeoutError
    assert not lock.locked()
