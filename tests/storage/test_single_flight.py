"""Many requests, one expired token: the provider is asked once for each account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from world import ACCOUNTS, KINDS, World, text, world

from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.errors import StorageError
from quart_dance.testing import faults


class MeetingStorage(BaseStorage):
    """A storage whose readers go on when so many of them have read.

    Args:
        inner: What really stores.
        count: How many.
    """

    def __init__(self, inner: BaseStorage, count: int) -> None:
        self.inner = inner
        self.left = count
        self.met = asyncio.Event()

    async def get(self, blueprint: Any, **who: Any) -> Any:
        token = await self.inner.get(blueprint, **who)
        self.left -= 1
        if self.left <= 0:
            self.met.set()
        await self.met.wait()
        return token

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        await self.inner.set(blueprint, token, **who)

    async def delete(self, blueprint: Any, **who: Any) -> None:
        await self.inner.delete(blueprint, **who)

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return await self.inner.account(blueprint, **who)

    async def reread(self, blueprint: Any, **who: Any) -> Any:
        return await self.inner.reread(blueprint, **who)

    async def replace(self, blueprint: Any, old: Any, new: Any, **who: Any) -> bool:
        return await self.inner.replace(blueprint, old, new, **who)

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Any, **who: Any) -> AsyncIterator[None]:
        async with self.inner.refresh_lock(blueprint, **who):
            yield

    def can_save(self) -> bool:
        return self.inner.can_save()


@pytest.mark.parametrize("kind", KINDS)
async def test_hundred_requests(kind, tmp_path):
    """F5: 100 requests that have all read one expired token refresh it once.

    The provider rotates refresh tokens and notices reuse, so a call after the next
    expiry shows that none was lost and none spent twice.
    """
    async with world(kind, tmp_path) as here:
        visitor = await here.login()
        here.clock.now += 3600
        here.blueprint.storage = MeetingStorage(here.storage, 100)
        said = await asyncio.gather(*(text(visitor) for _ in range(100)))
        assert said == ["alice"] * 100
        assert here.provider.count("token") == 2
        assert here.provider.count("user") == 100
        here.clock.now += 3600
        assert await text(visitor) == "alice"
        assert here.provider.count("token") == 3
        assert here.provider.reuse_detected == []
        assert here.busy() == 0


@pytest.mark.parametrize("kind", ACCOUNTS)
async def test_fifty_accounts(kind, tmp_path):
    """F5: 50 accounts with 4 requests each refresh 50 times, and wait for no other's.

    The first account's refresh hangs at the provider until all others are served.
    """
    async with world(kind, tmp_path) as here:
        visitors = [await here.give(number) for number in range(50)]
        here.clock.now += 3600
        here.provider.fault("token", faults.Hang())
        slow = [asyncio.create_task(text(visitors[0])) for _ in range(4)]
        await here.provider.held()
        said = await asyncio.gather(*(text(v) for v in visitors[1:] * 4))
        assert said == ["alice"] * 196
        assert not any(task.done() for task in slow)
        assert here.provider.count("token") == 50
        here.provider.release()
        assert await asyncio.gather(*slow) == ["alice"] * 4
        assert here.provider.count("token") == 50
        here.clock.now += 3600
        said = await asyncio.gather(*(text(v) for v in (visitors[0], visitors[49])))
        assert said == ["alice"] * 2
        assert here.provider.count("token") == 52
        assert here.provider.reuse_detected == []


class LateStorage(MemoryStorage):
    """A storage that takes its time to read again, by the clock of the event loop."""

    seconds = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.spent = 0.0

    async def reread(self, blueprint: Any, **who: Any) -> Any:
        self.spent += self.seconds
        return await super().reread(blueprint, **who)


async def test_a_lease_that_is_nearly_over(monkeypatch):
    """F5: where reading has used up the lease the provider is not asked."""
    storage = LateStorage()
    loop = asyncio.get_running_loop()
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + storage.spent)
    here = World(storage, None)
    await here.login()
    here.clock.now += 3600
    session = here.blueprint.session_for(anonymous=True, app=here.app)
    storage.seconds = 10.1
    with pytest.raises(StorageError, match="took too long"):
        await session.get("user")
    assert here.provider.count("token") == 1
    storage.seconds = 9
    assert (await session.get("user")).json()["login"] == "alice"
    assert here.provider.count("token") == 2
    await here.rest()
