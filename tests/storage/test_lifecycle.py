"""The end of an application, and the life of one in two event loops."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import Any

import pytest
from world import ACCOUNTS, stored, text, world

from quart_dance.testing import faults


@pytest.mark.parametrize("kind", [*ACCOUNTS, "memory"])
async def test_shutdown_in_flight(kind, tmp_path):
    """S14: an application that ends waits for a refresh, even if nobody else does."""
    async with world(kind, tmp_path) as here:
        await here.app.startup()
        visitor = await here.login()
        old = await stored(visitor)
        here.clock.now += 3600
        here.provider.fault("token", faults.Hang(after=True))
        asked = asyncio.create_task(visitor.get("/user"))
        await here.provider.held()
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        end = asyncio.create_task(here.app.shutdown())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not end.done()
        here.provider.release()
        await end
        assert here.busy() == 0
        token = await here.storage.get(here.blueprint, **who(kind))
        assert token != old
        assert token is not None
        assert token["refresh_token"] == here.provider.tokens[-1].refresh_token


def who(kind: str) -> Any:
    """Return the account of the user 1, as a storage of a kind takes it."""
    return {"user_id": "1"} if kind in ACCOUNTS else {}


async def test_two_event_loops(tmp_path):
    """S14: two threads, each with an event loop, use one blueprint at the same time.

    Both refreshes are held at the provider at once; nothing of one loop is awaited in
    the other, and nothing stays open at the end.
    """
    async with world("file", tmp_path) as here:
        visitors = [await here.give(1, life=0), await here.give(2, life=0)]
        here.provider.fault("token", faults.Hang(), times=2)
        said: dict[int, list[str]] = {}

        async def visit(number: int) -> None:
            visits = [text(visitors[number]) for _ in range(10)]
            said[number] = await asyncio.gather(*visits)
            await here.rest()

        threads = [
            threading.Thread(target=asyncio.run, args=[visit(number)])
            for number in (0, 1)
        ]
        for thread in threads:
            thread.start()
        await here.provider.held(2)
        here.provider.release()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert said == {0: ["alice"] * 10, 1: ["alice"] * 10}
        assert here.provider.count("token") == 2
        # And a third loop goes on where they ended.
        here.clock.now += 3600
        assert [await text(visitor) for visitor in visitors] == ["alice", "alice"]
        assert here.provider.count("token") == 4
        assert here.provider.reuse_detected == []
        gc.collect()


def test_one_loop_after_another(tmp_path):
    """S14: an application may run in one event loop, and later in another."""

    async def life(number: int) -> None:
        folder = tmp_path / str(number)
        folder.mkdir()
        async with world("cached", folder) as here:
            worlds.append(here)
            assert await text(await here.login()) == "alice"

    async def again() -> None:
        here = worlds[0]
        visitor = await here.login(2)
        here.clock.now += 3600
        said = await asyncio.gather(*(text(visitor) for _ in range(10)))
        assert said == ["alice"] * 10
        await here.rest()
        assert here.engine is not None
        await here.engine.dispose()

    worlds: list[Any] = []
    asyncio.run(life(0))
    asyncio.run(again())
    gc.collect()
