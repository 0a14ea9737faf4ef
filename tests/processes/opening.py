"""Storages that several processes share, opened by what JSON can say of them."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiocache import RedisCache
from redis.asyncio import Redis
from sqlalchemy import delete, inspect
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer.storage import BaseStorage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.redis import RedisLease
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage


class Base(DeclarativeBase):
    """The tables of these tests."""


class OAuth(OAuthConsumerMixin, Base):
    """A token for each provider and user."""

    user_id: Mapped[int | None] = mapped_column()


@asynccontextmanager
async def opened(**place: Any) -> AsyncIterator[BaseStorage]:
    """Open a storage.

    Args:
        **place: ``folder`` for files; else ``url`` of the database, and perhaps
            ``redis`` with ``prefix``: then ``cache`` and ``lease`` say what is there.
            ``pool`` is how many connections there may be, ``lease_seconds`` how long
            a lease is.
    """
    if "folder" in place:
        yield FileStorage(place["folder"] + "/{user_id}/{bp.name}.json")
        return
    async with AsyncExitStack() as stack:
        engine = create_async_engine(
            place["url"], pool_size=place.get("pool", 5), max_overflow=0
        )
        stack.push_async_callback(engine.dispose)
        options: dict[str, Any] = {}
        if place.get("cache"):
            # Of what redis-py has given up aiocache still calls some.
            message = "Call to deprecated"
            warnings.filterwarnings("ignore", message, DeprecationWarning)
            port = int(place["redis"].rpartition(":")[2].partition("/")[0])
            cache = RedisCache(port=port, namespace=place["prefix"])
            stack.push_async_callback(cache.client.aclose)
            options["cache"] = cache
        if place.get("lease"):
            redis = Redis.from_url(place["redis"])
            stack.push_async_callback(redis.aclose)
            options["lease"] = RedisLease(
                redis, seconds=place.get("lease_seconds", 30), prefix=place["prefix"]
            )
        storage = SQLAlchemyStorage(OAuth, engine, **options)
        storage.lease_seconds = place.get("lease_seconds", 30)
        yield storage


def place_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> dict[str, Any]:
    """Return an empty place for tokens, as `opened` takes it.

    Args:
        kind: "file", or a database, perhaps with more words: "redis cache", "redis
            lease", or "without indexes".
        request: Of the test, for the fixtures of the servers.
        folder: For files.
    """
    name, _, more = kind.partition(" ")
    # A process of a busy machine may stand still for seconds.
    place: dict[str, Any] = {"lease_seconds": 30}
    if name == "file":
        return {**place, "folder": str(folder)}
    place["url"] = f"sqlite+aiosqlite:///{folder}/tokens.db"
    if name != "sqlite":
        place["url"] = request.getfixturevalue(f"{name}_url")
    asyncio.run(make_tables(place["url"], indexed=more != "without indexes"))
    return {**place, **in_redis(more, request)}


def in_redis(what: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return what a place has in Redis: "redis cache", "redis lease", or nothing."""
    if not what.startswith("redis "):
        return {}
    return {
        "redis": request.getfixturevalue("redis_url"),
        "prefix": request.getfixturevalue("redis_prefix"),
        what.removeprefix("redis "): True,
    }


async def empty_tables(url: str) -> None:
    """Delete all that is in the tables."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.execute(delete(OAuth))
        leases = Base.metadata.tables["flask_dance_oauth_lease"]
        if await connection.run_sync(lambda c: inspect(c).has_table(leases.name)):
            await connection.execute(delete(leases))
    await engine.dispose()


async def make_tables(url: str, *, indexed: bool = True) -> None:
    """Make the tables in an empty database, with our indexes or as Flask-Dance does."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        if indexed:
            await connection.run_sync(Base.metadata.create_all)
        else:
            tables = Base.metadata.tables
            plain = tables["flask_dance_oauth"].to_metadata(type(Base.metadata)())
            plain.indexes.clear()
            await connection.run_sync(plain.create)
    await engine.dispose()
