"""A seeded scheduler: interleaving that is forced, not hoped for."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import httpx2
from quart import Quart
from support import make_app

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import BaseStorage
from quart_dance.testing import DevProvider

T = TypeVar("T")


class Scheduler:
    """Runs a test in an event loop of its own, one parked call at a time.

    Whatever calls `park` stays there until everything that can run has come to rest;
    then one of those that are parked, drawn by the seed, goes on. The loop itself says
    when it rests: it asks its selector to wait. The clock of the loop stands still, and
    jumps to the end of the next timer where nothing is parked: deadlines cost no time,
    and none ends because the machine is busy.

    Attributes:
        most: How many calls were parked at once, at most.
    """

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._parked: list[asyncio.Future[None]] = []
        self._time = 0.0
        self.most = 0

    def run(self, test: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; none of its tasks may be left then."""

        async def main() -> T:
            result = await test
            assert asyncio.all_tasks() == {asyncio.current_task()}
            return result

        with asyncio.Runner(loop_factory=lambda: _Loop(self)) as runner:
            return runner.run(main())

    async def park(self) -> None:
        """Wait to be drawn."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked.append(future)
        self.most = max(self.most, len(self._parked))
        try:
            await future
        finally:
            if future in self._parked:
                self._parked.remove(future)

    def rested(self, wait: float | None) -> None:
        """Let one call go on, or the clock; the loop would wait so many seconds."""
        if self._parked:
            drawn = self._random.randrange(len(self._parked))
            self._parked.pop(drawn).set_result(None)
        elif wait is not None:
            self._time += wait
        else:
            raise AssertionError("everything waits, and nothing is parked")

    def time(self) -> float:
        """Return how many seconds the clock has jumped in all."""
        return self._time


class _Selector(selectors.DefaultSelector):
    """Tells the scheduler when the loop has nothing to do."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler

    def select(self, timeout: float | None = None) -> Any:
        if timeout != 0:
            self._scheduler.rested(timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that never waits."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        super().__init__(_Selector(scheduler))

    def time(self) -> float:
        return self._scheduler.time()


class ParkedTransport(httpx2.AsyncBaseTransport):
    """Parks every call before it leaves and before its answer arrives.

    Attributes:
        answers: Every request with the body of its answer.
    """

    def __init__(self, inner: httpx2.AsyncBaseTransport, scheduler: Scheduler) -> None:
        self._inner = inner
        self._scheduler = scheduler
        self.answers: list[tuple[httpx2.Request, bytes]] = []

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self._scheduler.park()
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        self.answers.append((request, body))
        await self._scheduler.park()
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=httpx2.ByteStream(body),
        )


class SteppedStorage(BaseStorage):
    """A storage whose every call waits, before what it does and after.

    Args:
        inner: What really stores.
        wait: What is awaited, such as `Scheduler.park`.
    """

    def __init__(
        self, inner: BaseStorage, wait: Callable[[], Awaitable[object]]
    ) -> None:
        self.inner = inner
        self._wait = wait

    async def _stepped(self, call: Awaitable[T]) -> T:
        try:
            await self._wait()
        except BaseException:
            call.close()  # type: ignore[attr-defined]
            raise
        result = await call
        await self._wait()
        return result

    async def get(self, blueprint: Any, **who: Any) -> Any:
        return await self._stepped(self.inner.get(blueprint, **who))

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        await self._stepped(self.inner.set(blueprint, token, **who))

    async def delete(self, blueprint: Any, **who: Any) -> None:
        await self._stepped(self.inner.delete(blueprint, **who))

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return await self._stepped(self.inner.account(blueprint, **who))

    async def replace(self, blueprint: Any, old: Any, new: Any, **who: Any) -> bool:
        return await self._stepped(self.inner.replace(blueprint, old, new, **who))

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Any, **who: Any) -> AsyncIterator[None]:
        await self._wait()
        async with self.inner.refresh_lock(blueprint, **who):
            yield
            await self._wait()

    def can_save(self) -> bool:
        return self.inner.can_save()


class Clock:
    """A clock that stands still until somebody sets it."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def timed_app(
    schedule: Scheduler | None = None, **options: Any
) -> tuple[Quart, OAuth2ConsumerBlueprint, DevProvider, Clock]:
    """Return an application and a provider with one clock, and all calls parked."""
    clock = Clock()
    provider = DevProvider(clock=clock)
    app, blueprint = make_app(provider, **options)
    runtime(app).clock = clock
    if schedule:
        blueprint.storage = SteppedStorage(blueprint.storage, schedule.park)
        runtime(app).transport = ParkedTransport(provider.transport(), schedule)
    return app, blueprint, provider, clock


async def texts(*visits: Any) -> list[str]:
    """Return what several visits at once are told."""
    return [await page.get_data(as_text=True) for page in await asyncio.gather(*visits)]
