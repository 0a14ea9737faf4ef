"""An application whose tokens are in a database, with a Redis before it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
import servers
from aiocache import RedisCache
from databases import statements
from redis.asyncio import Redis
from redises import connected
from sqlalchemy.ext.asyncio import create_async_engine
from support import Visitor
from world import Base, OAuth, World, host_user, text

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage

# Of what redis-py has given up aiocache still calls some.
calls_what_is_deprecated = pytest.mark.filterwarnings(
    "ignore:Call to deprecated:DeprecationWarning"
)


@asynccontextmanager
async def process(folder: Path, port: int) -> AsyncIterator[World]:
    """Give an application with a database in a folder, and a Redis before it.

    All that it opens is its own, as if it ran in a process of its own.
    """
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/tokens.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    cache = RedisCache(port=port)
    storage = SQLAlchemyStorage(OAuth, engine, user_id=host_user, cache=cache)
    here = World(storage, engine)
    try:
        yield here
    finally:
        await here.rest()
        await cache.client.aclose()
        await engine.dispose()


async def put_into_use(redis: Redis, *visitors: Visitor) -> None:
    """Let the markers end, as they do in ten seconds, and all tokens be cached."""
    for key in await redis.keys("quart_dance:*"):
        if b"changing" in await redis.get(key):
            await redis.delete(key)
    for visitor in visitors:
        await text(visitor, "/authorized")


async def uses_cache(here: World, visitor: Visitor) -> bool:
    """Say whether a visitor is served without a statement."""
    with statements(here.engine) as sent:
        assert await text(visitor) == "alice"
    return not sent


@pytest_asyncio.fixture
async def redis(own_redis: servers.Redis) -> AsyncIterator[Redis]:
    """Give a client that looks into the Redis of the test."""
    async with connected(own_redis.url) as client:
        yield client
