"""Our storages, as what is measured."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiocache import RedisCache, SimpleMemoryCache
from benchmarks.measure import Contestant
from benchmarks.tables import TOKEN, OAuth, Unindexed
from quart import Quart
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage

#: Seconds that a token stays in a cache: longer than the whole run.
TTL = 86400


def of_users(
    name: str, storage: BaseStorage, engine: AsyncEngine | None = None
) -> Contestant:
    """Return a storage of users' tokens as a contestant.

    The ids are text, as Quart-Auth has them.
    """
    blueprint = OAuth2ConsumerBlueprint("bench", __name__)
    used: Any = storage
    return Contestant(
        name,
        get=lambda user: used.get(blueprint, user_id=str(user)),
        set=lambda user: used.set(blueprint, TOKEN, user_id=str(user)),
        delete=lambda user: used.delete(blueprint, user_id=str(user)),
        engine=engine and engine.sync_engine,
        cached=getattr(storage, "cache", None) is not None,
    )


def in_database(engine: AsyncEngine, redis: RedisCache | None) -> list[Contestant]:
    """Return the storages in a database."""
    caches: dict[str, Any] = {"memory": SimpleMemoryCache()}
    if redis is not None:
        caches["Redis"] = redis
    session = async_sessionmaker(engine)
    storages = {
        "SQLAlchemyStorage": SQLAlchemyStorage(OAuth, session),
        "… without our indexes": SQLAlchemyStorage(Unindexed, session),
    }
    for name, cache in caches.items():
        storages[f"… with a cache in {name}"] = SQLAlchemyStorage(
            OAuth, session, cache=cache, cache_ttl=TTL
        )
    return [of_users(name, storage, engine) for name, storage in storages.items()]


@asynccontextmanager
async def without_database(folder: Path) -> AsyncIterator[list[Contestant]]:
    """Give the storages that need no database.

    Memory and the session hold one token for each blueprint. In the session, where
    many would not fit, all calls are about one.
    """
    files = FileStorage(folder / "{user_id}" / "{bp.name}.json")
    app = Quart(__name__)
    app.secret_key = "a benchmark's"
    async with app.test_request_context("/"):
        yield [
            of_blueprints("MemoryStorage", MemoryStorage(), many=True),
            of_blueprints("SessionStorage", SessionStorage(), many=False),
            of_users("FileStorage", files),
        ]


def of_blueprints(name: str, storage: BaseStorage, *, many: bool) -> Contestant:
    """Return a storage without users as a contestant: a blueprint for each user."""
    blueprints: dict[int, OAuth2ConsumerBlueprint] = {}

    def of(user: int) -> OAuth2ConsumerBlueprint:
        number = user if many else 0
        if number not in blueprints:
            blueprints[number] = OAuth2ConsumerBlueprint(f"bench{number}", __name__)
        return blueprints[number]

    return Contestant(
        name,
        get=lambda user: storage.get(of(user)),
        set=lambda user: storage.set(of(user), TOKEN),
        delete=lambda user: storage.delete(of(user)),
    )


@asynccontextmanager
async def redis_cache(
    port: int | None, prefix: str
) -> AsyncIterator[RedisCache | None]:
    """Give aiocache's cache in Redis, None without a port."""
    if port is None:
        yield None
        return
    # Of what redis-py has given up aiocache still calls some.
    warnings.filterwarnings("ignore", "Call to deprecated", DeprecationWarning)
    cache = RedisCache(port=port, namespace=prefix)
    try:
        yield cache
    finally:
        await cache.client.aclose()
