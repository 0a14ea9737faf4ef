"""Closing a blueprint: what it waits for, and who else may close meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from quart import Quart
from scheduler import Scheduler
from support import TOKEN, Transport, make_client_app

from quart_dance.consumer import (
    OAuth2ConsumerBlueprint,
    oauth_refreshed,
    oauth_revoked,
)
from quart_dance.consumer.runtime import Runtime, runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import NotAuthorizedError, StorageError


class Shelf(MemoryStorage):
    """Tokens of accounts that have run out, each with a refresh token."""

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return str(who["user_id"])

    async def get(self, blueprint: Any, **who: Any) -> Any:
        token = {"access_token": f"old-{who['user_id']}", "refresh_token": "spent"}
        return {**token, "expires_at": 1, "expires_in": 1}

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        return None

    async def delete(self, blueprint: Any, **who: Any) -> None:
        return None


class HeldTokens(Transport):
    """Holds every refresh until its gate opens, and knows whether it was closed."""

    def __init__(self, token: Any = None) -> None:
        answer = token or httpx2.Response(200, json={"access_token": "new"})
        super().__init__(lambda _: answer)
        self.gates: list[asyncio.Event] = []
        self.closed = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/token":
            self.gates.append(asyncio.Event())
            await self.gates[-1].wait()
        return await super().handle_async_request(request)

    async def aclose(self) -> None:
        self.closed += 1


class Calls:
    """An application, and calls of its API that each refresh a token first."""

    def __init__(self, token: Any = None) -> None:
        self.transport = HeldTokens(token)
        self.app, self.blueprint = make_client_app(
            self.transport,
            storage=Shelf(),
            auto_refresh_url="https://provider.test/token",
        )

    def call(self, user_id: str) -> asyncio.Task[Any]:
        """Call the API for an account."""
        session = self.blueprint.session_for(user_id=user_id, app=self.app)
        return asyncio.create_task(session.get("user"))


def test_a_flight_that_starts_while_we_close():
    """S14: closing waits for it as well; its pool is open until then."""
    schedule, calls = Scheduler(0), Calls()
    gates = calls.transport.gates

    async def main() -> list[int]:
        made = [calls.call("a")]
        await schedule.park()
        closing = asyncio.create_task(calls.blueprint.aclose(calls.app))
        await schedule.park()
        made.append(calls.call("b"))
        await schedule.park()
        assert len(gates) == 2
        gates[0].set()
        await schedule.park()
        assert (made[0].done(), closing.done()) == (True, False)
        gates[1].set()
        await closing
        return [(await call).status_code for call in made]

    assert schedule.run(main()) == [200, 200]


def test_a_process_that_ends():
    """S14: what has waited for the lock by then spends no token: none would be saved.

    The exchanges that are under way are finished.
    """
    schedule, calls = Scheduler(0), Calls()
    held = asyncio.Event()

    class Locked(Shelf):
        @asynccontextmanager
        async def refresh_lock(self, blueprint: Any, **who: Any) -> AsyncIterator[None]:
            if who["user_id"] == "b":
                await held.wait()
            yield

    calls.blueprint.storage = Locked()

    async def main() -> None:
        made = [calls.call("a"), calls.call("b")]
        await schedule.park()
        runtime(calls.app).here.ending = True
        held.set()
        with pytest.raises(StorageError, match="the process ends") as raised:
            await made[1]
        assert raised.value.blueprint is calls.blueprint
        calls.transport.gates[0].set()
        assert (await made[0]).status_code == 200
        assert len(calls.transport.gates) == 1
        await calls.blueprint.aclose(calls.app)

    schedule.run(main())


DEAD = httpx2.Response(400, json={"error": "invalid_grant"})


@pytest.mark.parametrize("signal", [oauth_refreshed, oauth_revoked])
def test_a_receiver_that_closes(signal):
    """S14: a receiver of a refresh may close the blueprint that waits for it."""
    schedule = Scheduler(0)
    calls = Calls(DEAD if signal is oauth_revoked else None)
    closed: list[int] = []

    @signal.connect_via(calls.blueprint)
    async def close(sender: OAuth2ConsumerBlueprint, token: Any) -> None:
        await sender.aclose()
        closed.append(calls.transport.closed)

    async def main() -> None:
        call = calls.call("a")
        await schedule.park()
        calls.transport.gates[0].set()
        await asyncio.wait([call])
        await calls.blueprint.aclose(calls.app)
        refused = isinstance(call.exception(), NotAuthorizedError)
        assert refused == (signal is oauth_revoked)

    schedule.run(main())
    assert closed == [1]


def test_receivers_that_close_at_once():
    """S14: they do not wait for each other, but for the refresh of a third."""
    schedule, calls = Scheduler(0), Calls()
    gates, meeting = calls.transport.gates, asyncio.Barrier(2)

    @oauth_refreshed.connect_via(calls.blueprint)
    async def close(sender: OAuth2ConsumerBlueprint, token: Any) -> None:
        if gates[2].is_set():
            return
        await meeting.wait()
        await sender.aclose()

    async def main() -> list[int]:
        made = [calls.call(name) for name in "abc"]
        await schedule.park()
        gates[0].set()
        gates[1].set()
        await schedule.park()
        assert [call.done() for call in made] == [False] * 3
        assert calls.transport.closed == 0
        gates[2].set()
        return [(await call).status_code for call in made]

    assert schedule.run(main()) == [200] * 3
    assert calls.transport.closed >= 1


def test_closing_waits_for_receivers():
    """S14: whoever is none of them closes when they have ended, not earlier."""
    schedule, calls = Scheduler(0), Calls()
    gates, go_on = calls.transport.gates, asyncio.Event()

    @oauth_refreshed.connect_via(calls.blueprint)
    async def note(sender: OAuth2ConsumerBlueprint, token: Any) -> None:
        await go_on.wait()

    async def main() -> int:
        call = calls.call("a")
        await schedule.park()
        gates[0].set()
        closing = asyncio.create_task(calls.blueprint.aclose(calls.app))
        await schedule.park()
        assert (closing.done(), calls.transport.closed) == (False, 0)
        go_on.set()
        await closing
        return int((await call).status_code)

    assert schedule.run(main()) == 200


class HeldPool(Transport):
    """A network whose connections take their time to close."""

    def __init__(self) -> None:
        super().__init__()
        self.closing, self.go_on = asyncio.Event(), asyncio.Event()
        self.closed = 0

    async def aclose(self) -> None:
        self.closing.set()
        await self.go_on.wait()
        self.closed += 1


async def two_pools(network: HeldPool) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application with two pools, and the blueprint of the second one."""
    app, first = make_client_app(network, storage=MemoryStorage(TOKEN))
    second = OAuth2ConsumerBlueprint(
        "other", __name__, base_url="https://api.test", storage=MemoryStorage(TOKEN)
    )
    app.register_blueprint(second, url_prefix="/other")
    async with app.app_context():
        await first.session.get("/user")
        await second.session.get("/user")
    return app, second


async def test_two_who_close_at_once():
    """S14: a pool that another one has closed meanwhile is closed."""
    network = HeldPool()
    app, second = await two_pools(network)
    stopping = asyncio.create_task(runtime(app).aclose())
    await network.closing.wait()
    closing = asyncio.create_task(second.aclose(app))
    network.go_on.set()
    await asyncio.gather(stopping, closing)
    assert network.closed == 2


class Pool:
    """What sync code keeps open."""

    closed = 0

    def close(self) -> None:
        self.closed += 1


class Process(int):
    """The id of a process; another thread does something while it is compared."""

    does: Any = None

    def __eq__(self, other: object) -> bool:
        self.does()
        return int(self) == other

    __hash__ = int.__hash__


@pytest.mark.parametrize("what", ["opens", "closes"])
async def test_closing_beside_threads(what):
    """S14: threads may open pools, and close them, while we close."""
    state, pools = Runtime(), [Pool(), Pool()]
    ids = [Process(os.getpid()) for _ in pools]

    def opens() -> None:
        state.sync_pools[(os.getpid(), object(), None)] = Pool()

    def closes() -> None:
        for pool in list(state.sync_pools.values()):
            pool.close()
        state.sync_pools.clear()

    for number, pool in zip(ids, pools, strict=True):
        number.does = opens if what == "opens" else closes
        state.sync_pools[(number, object(), None)] = pool
    await state.aclose()
    assert [pool.closed for pool in pools] == [1, 1]
