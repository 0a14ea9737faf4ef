"""An application and a provider with one clock, and a storage of each kind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
from aiocache import SimpleMemoryCache
from quart import Quart, has_request_context, jsonify, request
from scheduler import Clock
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from support import Visitor, make_app

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.testing import DevProvider

#: Those that keep tokens for users, and all.
ACCOUNTS = ["sqla", "cached", "file"]
KINDS = [*ACCOUNTS, "memory", "session"]


class Base(DeclarativeBase):
    """The tables of these tests."""


class OAuth(OAuthConsumerMixin, Base):
    """A token for each provider and user."""

    user_id: Mapped[int | None] = mapped_column()


def host_user() -> str | None:
    """Return whose host is visited: u7.test is that of the user 7."""
    if not has_request_context():
        return None
    return str(request.host.partition(".")[0].removeprefix("u"))


class Counting(httpx2.AsyncBaseTransport):
    """A transport that knows how many of its answers are still open."""

    def __init__(self, inner: httpx2.AsyncBaseTransport) -> None:
        self.inner = inner
        self.open = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self.inner.handle_async_request(request)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self.open += 1
        stream = CountedStream(response.stream, self)
        return httpx2.Response(
            response.status_code, headers=response.headers, stream=stream
        )


class CountedStream(httpx2.AsyncByteStream):
    """The body of an answer that is open until it is closed."""

    def __init__(self, inner: httpx2.AsyncByteStream, transport: Counting) -> None:
        self.inner = inner
        self.transport = transport
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            yield chunk

    async def aclose(self) -> None:
        if not self.closed:
            self.closed = True
            self.transport.open -= 1
        await self.inner.aclose()


class World:
    """What a test of refreshing needs.

    Args:
        storage: The blueprint's.
        engine: Of its database.
        skew: Seconds by which the provider's clock is ahead of ours.
        **options: Of the blueprint.

    Attributes:
        engine: Of the database, for the kinds that have one.
    """

    def __init__(
        self,
        storage: BaseStorage,
        engine: AsyncEngine | None,
        skew: float = 0,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        # Caches live by the clock of the system.
        self.clock.now = float(int(time.time()))
        self.engine = engine
        self.storage = storage
        self.provider = DevProvider(clock=lambda: self.clock() + skew)
        self.app: Quart
        self.blueprint: OAuth2ConsumerBlueprint
        self.app, self.blueprint = make_app(self.provider, storage=storage, **options)
        runtime(self.app).clock = self.clock
        self.transport = Counting(self.provider.transport())
        runtime(self.app).transport = self.transport
        self._add_views()

    def _add_views(self) -> None:
        session = self.blueprint.session

        @self.app.get("/user")
        async def user() -> Any:
            return (await session.get("user")).json()["login"]

        @self.app.get("/token")
        async def token() -> Any:
            return jsonify(await session.token)

        @self.app.get("/authorized")
        async def authorized() -> Any:
            return jsonify(await session.authorized)

        @self.app.get("/logout")
        async def logout() -> str:
            await self.blueprint.delete_token()
            return ""

    async def login(self, number: int = 1) -> Visitor:
        """Return the browser of a user who has just logged in."""
        visitor = Visitor(self.app, f"u{number}.test")
        assert (await visitor.login(self.provider)).status_code == 302
        return visitor

    async def give(self, number: int, life: int = 3600) -> Visitor:
        """Return the browser of a user who has a token that came without a login."""
        token = self.provider.issue_token()
        token["expires_at"] = int(self.clock.now) + life
        storage: Any = self.storage
        await storage.set(self.blueprint, token, user_id=str(number))
        return Visitor(self.app, f"u{number}.test")

    async def rest(self) -> None:
        """Wait until nothing runs in the background any more."""
        await self.blueprint.aclose(self.app)

    def busy(self) -> int:
        """Return how many connections, of any kind, are in use."""
        pool: Any = self.engine.pool if self.engine else None
        return self.transport.open + (pool.checkedout() if pool else 0)


async def text(visitor: Visitor, path: str = "/user") -> str:
    """Return what a page says."""
    said: str = await (await visitor.get(path)).get_data(as_text=True)
    return said


async def stored(visitor: Visitor) -> Any:
    """Return the stored token, or None."""
    return await (await visitor.get("/token")).get_json()


@asynccontextmanager
async def world(kind: str, folder: Path, **options: Any) -> AsyncIterator[World]:
    """Give a world with a storage of one kind; see `KINDS`."""
    engine = None
    storage: BaseStorage
    if kind in ("sqla", "cached"):
        engine = create_async_engine(
            f"sqlite+aiosqlite:///{folder}/tokens.db", pool_size=2, max_overflow=0
        )
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        cache = SimpleMemoryCache() if kind == "cached" else None
        storage = SQLAlchemyStorage(OAuth, engine, user_id=host_user, cache=cache)
    elif kind == "file":
        storage = FileStorage(folder / "{bp.name}" / "{user_id}", user_id=host_user)
    else:
        storage = MemoryStorage() if kind == "memory" else SessionStorage()
    here = World(storage, engine, **options)
    try:
        yield here
    finally:
        await here.rest()
        if engine is not None:
            await engine.dispose()


class Steps:
    """Awaits a coroutine, and cancels its task at one of its awaits.

    Args:
        coroutine: What is awaited.
        step: At which await; the first one is 1.

    Attributes:
        left: How many awaits there are until then; above 0 at the end: it came to none.
        over: Set at the end.
    """

    def __init__(self, coroutine: Any, step: int) -> None:
        self.coroutine = coroutine
        self.left = step
        self.over = asyncio.Event()

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self.coroutine.__await__()
        error: BaseException | None = None
        while True:
            try:
                future = steps.send(None) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value
            self.left -= 1
            if self.left == 0:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                yield future
                error = None
            except BaseException as raised:
                error = raised

    async def run(self) -> Any:
        """Do it, as a coroutine."""
        try:
            return await self
        finally:
            self.over.set()
