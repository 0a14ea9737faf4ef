"""Leases in Redis: who holds one, who waits, and what fails in between."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest_asyncio
from redis.asyncio import Redis
from stepping import cancelled_at

from quart_dance.consumer.storage.redis import RedisLease


@pytest_asyncio.fixture
async def redis(redis_url):
    """Give a client of the Redis that others use as well."""
    async with Redis.from_url(redis_url) as client:
        yield client


async def test_cancelled_at_every_await(redis, redis_prefix):
    """F7: Whoever is cancelled, wherever it waits, hears so, and leaves no lease."""
    lease = RedisLease(redis, prefix=redis_prefix)
    ended = []

    async def hold():
        async with lease.hold("a"):
            await asyncio.sleep(0)
        ended.append(True)

    for number in count(1):
        cancelled = await cancelled_at(hold(), number)
        assert cancelled is not bool(ended)
        assert await redis.exists(redis_prefix + "a") == 0
        if ended:
            break
    assert number > 2
