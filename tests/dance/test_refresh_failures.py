"""What a refresh that fails, or comes late, leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from quart import stream_with_context, websocket
from scheduler import Scheduler, texts, timed_app
from support import Visitor

from quart_dance.consumer import oauth_refreshed, oauth_revoked
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.errors import OAuthError, TokenExpiredError
from quart_dance.testing import faults

STORAGES = pytest.mark.parametrize("storage", [MemoryStorage, SessionStorage])


class Broken(httpx2.AsyncBaseTransport):
    """A network that fails."""

    def __init__(self, error: type[httpx2.RequestError]) -> None:
        self.error = error

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raise self.error("secret", request=request)


FAILURES = [
    faults.SERVER_ERROR,
    faults.BAD_GATEWAY,
    faults.TOO_MANY_REQUESTS,
    faults.HTML_PAGE,
    faults.NO_CONTENT,
    faults.EMPTY,
    faults.TRUNCATED,
    faults.Answer.json({"error": "invalid_client"}, 401),
    faults.Answer.json({"error": "temporarily_unavailable"}, 400),
    faults.Answer.json({"token_type": "Bearer"}),
    faults.Hang(),
    Broken(httpx2.ConnectError),
    Broken(httpx2.ReadTimeout),
]


@STORAGES
@pytest.mark.parametrize("failure", FAILURES, ids=lambda f: repr(f)[:30])
def test_failure_keeps_the_token(storage, failure):
    """F2, F4: any other failure keeps the token, and the next request tries again."""
    app, blueprint, provider, clock = timed_app(storage=storage())
    visitor, revoked = Visitor(app), []

    @oauth_revoked.connect_via(blueprint)
    async def note(sender: Any, token: Any) -> None:
        revoked.append(token)

    async def main() -> list[str]:
        await visitor.login(provider)
        clock.now += 3600
        if isinstance(failure, Broken):
            async with app.app_context():
                await blueprint.aclose()
            runtime(app).transport = failure
        else:
            provider.fault("token", failure)
        assert (await visitor.get("/me")).status_code == 502
        async with app.app_context():
            await blueprint.aclose()
        provider.install(app)
        return await texts(visitor.get("/me"))

    assert Scheduler(0).run(main()) == ["alice"]
    assert revoked == []
    assert provider.reuse_detected == []


async def test_stored_before_used():
    """F3: the rotated token is stored before anything is done with it."""
    app, blueprint, provider, clock = timed_app(storage=MemoryStorage())
    seen: list[str] = []
    await Visitor(app).login(provider)
    clock.now += 3600

    @oauth_refreshed.connect_via(blueprint)
    async def note(sender: Any, token: Any) -> None:
        assert await sender.storage.get(sender) == token
        seen.extend(call.endpoint for call in provider.calls[-1:])

    assert await texts(Visitor(app).get("/me")) == ["alice"]
    assert seen == ["token"]


async def test_late_request():
    """F5: a request that still has the old cookie is not taken for theft, for 60 s."""
    app, _, provider, clock = timed_app()
    visitor = Visitor(app)
    await visitor.login(provider)
    old = visitor.cookies["session"] or ""
    clock.now += 3600
    assert await texts(visitor.get("/me")) == ["alice"]
    assert provider.count("token") == 2
    clock.now += 59
    late = Visitor(app)
    late.client.set_cookie("app.test", "session", old)
    assert await texts(late.get("/me")) == ["alice"]
    assert provider.count("token") == 2
    assert late.cookies["session"] not in (None, old)
    clock.now += 2
    thief = Visitor(app)
    thief.client.set_cookie("app.test", "session", old)
    assert (await thief.get("/me")).status_code == 302
    assert (provider.count("token"), len(provider.reuse_detected)) == (3, 1)


@pytest.mark.parametrize("path", ["/stream", "/later"])
async def test_nowhere_to_save(path):
    """F3: where a session cannot be saved any more, no refresh token is spent."""
    app, blueprint, provider, clock = timed_app()
    visitor = Visitor(app)
    raised: list[OAuthError] = []
    over = asyncio.Event()

    async def ask() -> None:
        with pytest.raises(TokenExpiredError) as caught:
            await blueprint.session.get("user")
        raised.append(caught.value)

    @app.get("/stream")
    async def stream() -> Any:
        @stream_with_context
        async def body() -> Any:
            yield b"a"
            await ask()
            yield b"b"

        return body()

    @app.get("/later")
    async def later() -> str:
        async def job() -> None:
            await over.wait()
            await ask()

        app.background_tasks.add(asyncio.create_task(job()))
        return "ab"

    @app.websocket("/ws")
    async def ws() -> None:
        await ask()
        await websocket.send("ab")

    await visitor.login(provider)
    clock.now += 3600
    assert await texts(visitor.get(path)) == ["ab"]
    over.set()
    await asyncio.gather(*app.background_tasks)
    async with visitor.client.websocket("/ws", headers={"Host": "app.test"}) as socket:
        assert await socket.receive() == "ab"
    assert [error.blueprint for error in raised] == [blueprint] * 2
    assert provider.count("token") == 1
    assert await texts(visitor.get("/me")) == ["alice"]


class Flickering(MemoryStorage):
    """A storage whose connection to its locks somebody else breaks off once."""

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Any, **who: Any) -> AsyncIterator[None]:
        if not hasattr(self, "connecting"):
            self.connecting = asyncio.get_running_loop().create_future()
            self.connecting.cancel()
            await self.connecting
        yield


async def test_cancelled_by_somebody_else():
    """F2: who is not cancelled themselves gets an error, and the next request works."""
    app, _, provider, clock = timed_app(storage=Flickering())
    visitor = Visitor(app)
    await visitor.login(provider)
    clock.now += 3600
    assert (await visitor.get("/me")).status_code == 500
    assert await texts(visitor.get("/me")) == ["alice"]


class BrokenOff(httpx2.AsyncBaseTransport):
    """A network whose calls somebody else cancels."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        return await future


async def test_call_cancelled_by_somebody_else():
    """F2: so does one whose call to the provider somebody else has cancelled."""
    app, _, provider, clock = timed_app(storage=MemoryStorage())
    visitor = Visitor(app)
    await visitor.login(provider)
    clock.now += 3600
    works, runtime(app).transport = runtime(app).transport, BrokenOff()
    assert (await visitor.get("/me")).status_code == 500
    runtime(app).transport = works
    assert await texts(visitor.get("/me")) == ["alice"]


async def test_no_refresh_token():
    """F9: an expired token that cannot be refreshed means: not authorized, no error."""
    app, _, provider, clock = timed_app(storage=MemoryStorage())
    provider.policy.issue_refresh_token = False
    visitor = Visitor(app)
    await visitor.login(provider)
    clock.now += 3600
    response = await visitor.get("/me")
    assert response.status_code == 401
    assert await response.get_data(as_text=True) == "nobody"
    assert provider.count("token") == 1
