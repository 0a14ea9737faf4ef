"""Clients that go away in the middle of something, wherever that is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from network import Network, cancelled_at, get, on_a_port
from quart import Quart
from scheduler import Clock, SteppedStorage
from support import Visitor, make_app

from quart_dance.consumer import (
    OAuth2ConsumerBlueprint,
    oauth_authorized,
    oauth_before_login,
    oauth_refreshed,
)
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.testing import DevProvider, faults

KEYS = {
    "access_token",
    "refresh_token",
    "token_type",
    "scope",
    "expires_in",
    "expires_at",
}


@asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Let no task be left behind, and no exception that nobody looked at."""
    problems: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, problem: problems.append(problem))
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() == before
    gc.collect()
    assert problems == []


def patient_app(
    provider: DevProvider, storage: BaseStorage
) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application whose storage and receivers take their time."""

    async def wait(*_: Any, **__: Any) -> None:
        await asyncio.sleep(0)

    app, blueprint = make_app(provider, storage=SteppedStorage(storage, wait))
    for signal in (oauth_before_login, oauth_authorized, oauth_refreshed):
        signal.connect(wait, blueprint, weak=False)

    @app.get("/part")
    async def part() -> Any:
        async with blueprint.session.stream("GET", "stream") as response:
            return str(response.status_code)  # the body is never read

    return app, blueprint


async def cancel(app: Quart, url: str, visitor: Visitor, step: int) -> bool:
    """Open a page and cancel the request at a step; say whether there was one."""
    gone, cancelled = asyncio.Event(), asyncio.Event()
    handle = app.handle_request

    def note() -> None:
        gone.set()
        cancelled.set()

    async def handled(request: Any) -> Any:
        return await cancelled_at(handle(request), step, note)

    app.handle_request = handled  # type: ignore[method-assign]
    try:
        status = await get(app, url, visitor, gone)
    finally:
        app.handle_request = handle  # type: ignore[method-assign]
    assert cancelled.is_set() or status in (200, 302)
    return cancelled.is_set()


async def leave(app: Quart, url: str, visitor: Visitor, turns: int) -> bool:
    """Open a page and disconnect after some turns of the loop, if it is not over."""
    gone = asyncio.Event()
    request = asyncio.create_task(get(app, url, visitor, gone))
    for _ in range(turns):
        await asyncio.sleep(0)
    there_was_one = not request.done()
    gone.set()
    assert await request in (200, 302) or there_was_one
    return there_was_one


async def stored(app: Quart, blueprint: OAuth2ConsumerBlueprint) -> Any:
    async with app.app_context():
        return await blueprint.token


async def assert_lock_is_free(app: Quart, blueprint: OAuth2ConsumerBlueprint) -> None:
    """The refresh lock can be had at once, and so is the way to the provider."""
    async with app.app_context(), asyncio.timeout(0):
        async with blueprint.storage.inner.refresh_lock(blueprint):  # type: ignore
            pass


@pytest.mark.parametrize("how", [cancel, leave])
@pytest.mark.parametrize(
    "case", ["login", "first", "again", "call", "stream", "refresh"]
)
async def test_cancelled_at_every_await(case, how):
    """S13, F7: old token, new one or none; no task, no answer, no lock is left.

    While a request waits for a refresh it waits once, and the refresh goes on; so
    clients also leave at every turn of the loop.
    """
    step, there_was_one = 0, True
    async with nothing_left():
        while there_was_one:
            step += 1
            there_was_one = await one_cancellation(case, how, step)
    assert step > (3 if case == "login" else 5)


async def one_cancellation(case: str, how: Any, step: int) -> bool:
    clock = Clock()
    provider = DevProvider(clock=clock)
    app, blueprint = patient_app(provider, MemoryStorage())
    runtime(app).clock = clock
    network = runtime(app).transport = Network(provider)
    visitor = Visitor(app)
    url = {"login": "/login/dev", "stream": "/part"}.get(case, "/me")
    if case in ("again", "call", "stream", "refresh"):
        await visitor.login(provider)
    if case in ("first", "again"):
        url = await provider.approve(await visitor.start())
    old = await stored(app, blueprint)
    if case == "refresh":
        clock.now += 3600
    asked = provider.count("token")
    there_was_one = await how(app, url, visitor, step)
    await runtime(app).aclose()
    await network.rest()
    assert network.open == []
    await assert_lock_is_free(app, blueprint)
    token = await stored(app, blueprint)
    if token is not None:
        assert set(token) == KEYS
    issued = [(t.access_token, t.refresh_token) for t in provider.tokens]
    pair = token and (token["access_token"], token["refresh_token"])
    if case == "refresh" and provider.count("token") > asked:
        assert pair == issued[-1] and token != old
    elif case in ("first", "again"):
        assert token == old or pair == issued[-1]
    else:
        assert token == old
    if case == "refresh":
        assert (await visitor.get("/me")).status_code == 200
        assert (provider.count("token"), provider.reuse_detected) == (2, [])
    assert (await visitor.login(provider)).status_code == 302
    assert (await visitor.get("/me")).status_code == 200
    await runtime(app).aclose()
    return there_was_one


async def test_cancelled_refresh_of_a_session():
    """F7: what a cancelled request could not put into its cookie, the next one does."""
    step, there_was_one = 0, True
    async with nothing_left():
        while there_was_one:
            step += 1
            clock = Clock()
            provider = DevProvider(clock=clock)
            app, _ = patient_app(provider, SessionStorage())
            runtime(app).clock, runtime(app).transport = clock, Network(provider)
            visitor = Visitor(app)
            await visitor.login(provider)
            clock.now += 3600
            there_was_one = await cancel(app, "/me", visitor, step)
            await runtime(app).aclose()
            assert (await visitor.get("/me")).status_code == 200
            assert (provider.count("token"), provider.reuse_detected) == (2, [])
            await runtime(app).aclose()
    assert step > 7


@pytest.mark.parametrize("case", ["callback", "call", "refresh"])
async def test_connections(case):
    """S13: over a real port, cancelled requests leave no connection behind."""
    clock = Clock()
    async with nothing_left(), on_a_port(clock=clock) as port:
        provider = port.provider
        app, _ = patient_app(provider, MemoryStorage())
        runtime(app).clock, runtime(app).transport = clock, None
        visitor, step, there_was_one = Visitor(app), 0, True
        await visitor.login(provider)
        while there_was_one:
            step, url = step + 1, "/me"
            if case == "callback":
                url = await provider.approve(await visitor.start())
            elif case == "refresh":
                clock.now += 3600
            there_was_one = await cancel(app, url, visitor, step)
            if runtime(app).here.tasks:
                await asyncio.wait(runtime(app).here.tasks)
        assert step > 7
        assert (await visitor.get("/me")).status_code == 200
        assert len(port.connections) == 1
        assert provider.reuse_detected == []
        await runtime(app).aclose()


class Gated(MemoryStorage):
    """A storage that takes as long as a test wants, before it saves or after."""

    def __init__(self, late: bool) -> None:
        super().__init__()
        self.late = late
        self.reached = asyncio.Event()

    async def set(self, blueprint: Any, token: Any) -> None:
        if self.late:
            await super().set(blueprint, token)
        self.reached.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("late", [False, True])
async def test_disconnect_while_storing(dev_provider, late):
    """S13: a client that leaves while its token is stored: nothing, or all of it."""
    storage = Gated(late)
    async with nothing_left():
        app, blueprint = make_app(dev_provider, storage=storage)
        visitor, gone = Visitor(app), asyncio.Event()
        callback = await dev_provider.approve(await visitor.start())
        request = asyncio.create_task(get(app, callback, visitor, gone))
        await storage.reached.wait()
        gone.set()
        assert await request == 0
        token = await stored(app, blueprint)
        assert (token and set(token)) == (KEYS if late else None)
        await runtime(app).aclose()


async def test_disconnect_in_the_callback(dev_provider):
    """S13: a client that leaves while the code is exchanged: nothing is stored."""
    async with nothing_left():
        app, blueprint = make_app(dev_provider, storage=MemoryStorage())
        network = runtime(app).transport = Network(dev_provider)
        visitor, gone = Visitor(app), asyncio.Event()
        callback = await dev_provider.approve(await visitor.start())
        dev_provider.fault("token", faults.Hang(after=True))
        request = asyncio.create_task(get(app, callback, visitor, gone))
        await dev_provider.held()
        gone.set()
        assert await request == 0
        dev_provider.release()
        await network.rest()
        assert await stored(app, blueprint) is None
        assert (await visitor.get(callback)).status_code == 400
        assert (await visitor.login(dev_provider)).status_code == 302
        await runtime(app).aclose()


async def test_disconnect_in_a_refresh():
    """F7, S14: shutdown waits for the refresh of a client that has left."""
    clock = Clock()
    provider = DevProvider(clock=clock)
    async with nothing_left():
        app, blueprint = make_app(provider, storage=MemoryStorage())
        runtime(app).clock, runtime(app).transport = clock, Network(provider)
        serving = app.test_app()
        await serving.startup()
        visitor, gone = Visitor(app), asyncio.Event()
        await visitor.login(provider)
        clock.now += 3600
        provider.fault("token", faults.Hang(after=True))
        request = asyncio.create_task(get(app, "/me", visitor, gone))
        await provider.held()
        gone.set()
        assert await request == 0
        asyncio.get_running_loop().call_soon(provider.release)
        await serving.shutdown()
        token = await stored(app, blueprint)
        assert token["access_token"] == provider.tokens[-1].access_token
        assert provider.count("token") == 2
