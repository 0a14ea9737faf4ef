"""Cancelling at every await: no token is lost, nor a lock, nor a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from network import scope_of
from support import Visitor
from world import ACCOUNTS, KINDS, Steps, World, stored, text, world

SERVER_SIDE = ["sqla", "cached", "file", "memory"]


def add_view(here: World) -> list[Steps]:
    """Add a view that cancels its call of the API; return what it has cancelled."""
    calls: list[Steps] = []

    @here.app.get("/stepped/<int:step>")
    async def stepped(step: int) -> str:
        calls.append(Steps(here.blueprint.session.get("user"), step))
        with suppress(asyncio.CancelledError):
            await asyncio.create_task(calls[-1].run())
        return ""

    return calls


@contextmanager
def cancelling(name: str, step: int, app: Any = None) -> Iterator[list[Steps]]:
    """Cancel the next task of a name at one of its awaits.

    Args:
        name: The qualified name of its coroutine function.
        step: At which of its awaits.
        app: Whose, for the tasks in which Quart handles requests.
    """
    found: list[Steps] = []

    def factory(loop: Any, coroutine: Any, **kwargs: Any) -> asyncio.Task[Any]:
        if coroutine.__qualname__ == name and not found:
            connection = coroutine.cr_frame.f_locals.get("self")
            if app is None or connection.app is app:
                found.append(Steps(coroutine, step))
                coroutine = found[0].run()
        return asyncio.Task(coroutine, loop=loop, **kwargs)

    loop = asyncio.get_running_loop()
    loop.set_task_factory(factory)
    try:
        yield found
    finally:
        loop.set_task_factory(None)


@pytest.mark.parametrize("kind", KINDS)
async def test_call(kind, tmp_path):
    """F7, S8: an API call that refreshes, cancelled at any await, loses no token.

    What the provider has rotated is saved, the next call succeeds, and every
    connection is back in its pool.
    """
    async with world(kind, tmp_path) as here:
        calls, step = add_view(here), 0
        while not calls or calls[-1].left <= 0:
            step += 1
            visitor = await here.login()
            old = await stored(visitor)
            here.clock.now += 3600
            before = here.provider.count("token")
            await visitor.get(f"/stepped/{step}")
            await here.rest()
            assert here.busy() == 0
            token = await stored(visitor)
            if here.provider.count("token") == before:
                assert token == old
            elif kind != "session":  # which is saved with the response, and only then
                newest = here.provider.tokens[-1]
                assert token["refresh_token"] == newest.refresh_token
            assert await text(visitor) == "alice"
            assert here.provider.reuse_detected == []
        assert step > 2


@pytest.mark.parametrize("kind", KINDS)
async def test_flight(kind, tmp_path):
    """F7, S8: the exchange-and-save itself, cancelled at any await, leaves old or new.

    Or none, once the provider has spent what we could not replace; then the visitor
    logs in again. No lock is held, and every connection is back in its pool.
    """
    async with world(kind, tmp_path) as here:
        add_view(here)
        step, ends = 0, set()
        while True:
            step += 1
            visitor = await here.login()
            old = await stored(visitor)
            here.clock.now += 3600
            with cancelling("Flight._fly", step) as flights:
                await visitor.get("/stepped/0")
                await here.rest()
            (flight,) = flights
            assert here.busy() == 0
            token = await stored(visitor)
            if flight.left > 0:
                break
            newest = here.provider.tokens[-1].refresh_token
            assert token == old or token["refresh_token"] == newest
            async with asyncio.timeout(10):
                response = await visitor.get("/user")
            ends.add(str(response.status_code))
            if response.status_code == 302:
                assert await stored(visitor) is None
            else:
                assert await response.get_data(as_text=True) == "alice"
        assert step > 1
        assert ends <= {"200", "302"}
        assert "200" in ends or kind not in ACCOUNTS


async def answer(
    here: World, visitor: Visitor, url: str, handlers: list[Steps]
) -> list[Any]:
    """Open a URL as a server does, and return what is sent to the browser.

    When the handler is over, the client is gone.
    """
    sent: list[Any] = []
    body = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if body:
            return body.pop()
        await handlers[0].over.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = scope_of(url, visitor)
    await here.app(scope, receive, send)
    return sent


@pytest.mark.parametrize("kind", SERVER_SIDE)
async def test_callback(kind, tmp_path):
    """S13, S8: a client that leaves during the callback leaves a whole token, or none.

    Quart cancels the handler when its client disconnects; here that happens at every
    await. No connection stays in use, and the next login succeeds.
    """
    async with world(kind, tmp_path) as here:
        visitor, step, before = Visitor(here.app, "u1.test"), 0, None
        while True:
            step += 1
            url = await here.provider.approve(await visitor.start())
            handler = "ASGIHTTPConnection.handle_request"
            with cancelling(handler, step, here.app) as handlers:
                sent = await answer(here, visitor, url, handlers)
            await here.rest()
            assert here.busy() == 0
            token = await stored(visitor)
            if handlers[0].left > 0:
                break
            newest = here.provider.tokens[-1].access_token if token else None
            assert token == before or token["access_token"] == newest
            before = token
        assert sent[0]["status"] == 302
        assert token["access_token"] == here.provider.tokens[-1].access_token
        assert step > 1
        assert await text(visitor) == "alice"
