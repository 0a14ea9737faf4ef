"""Leases in Redis: who holds one, who waits, and what fails in between."""

from __future__ import annotations

import asyncio
import time
from itertools import count

import pytest
import pytest_asyncio
from redises import connected, proxied
from scheduler import Scheduler
from stepping import cancelled_at
from world import stored, text, world

from quart_dance.consumer.storage.redis import RedisLease
from quart_dance.errors import StorageError


@pytest_asyncio.fixture
async def redis(redis_url):
    """Give a client of the Redis that others use as well."""
    async with connected(redis_url) as client:
        yield client


@pytest_asyncio.fixture
async def own(own_redis):
    """Give a client of a Redis of the test's own."""
    async with connected(own_redis.url) as client:
        yield client


async def test_one_at_a_time(redis, redis_prefix):
    """F5: Whoever comes second waits, until the first one gives the lease back."""
    lease, other = (RedisLease(redis, prefix=redis_prefix) for _ in range(2))
    order = []

    async def second():
        order.append("asks")
        async with other.hold("a"):
            order.append("second")

    async with lease.hold("a"):
        task = asyncio.create_task(second())
        async with other.hold("b"):  # another account's
            order.append("first")
    await task
    assert order == ["asks", "first", "second"]
    assert await redis.keys(redis_prefix + "*") == []


async def test_a_lease_ends_by_itself(redis, redis_prefix):
    """F5: Redis forgets a lease whose holder is killed, after its seconds."""
    lease = RedisLease(redis, seconds=7, prefix=redis_prefix)
    async with lease.hold("a"):
        assert 0 < await redis.pttl(redis_prefix + "a") <= 7000


async def test_only_the_owner_gives_back(redis, redis_prefix):
    """F5: A holder whose lease has run out leaves it to the one who holds it now."""
    lease, other = (RedisLease(redis, prefix=redis_prefix) for _ in range(2))
    key = redis_prefix + "a"
    first = lease.hold("a")
    await first.__aenter__()
    await redis.delete(key)  # as Redis does when it runs out
    async with other.hold("a"):
        theirs = await redis.get(key), await redis.pexpiretime(key)
        await first.__aexit__(None, None, None)
        assert (await redis.get(key), await redis.pexpiretime(key)) == theirs
    assert await redis.exists(key) == 0


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


@pytest.mark.parametrize(
    "garbage",
    [
        ("set", "k", "nonsense"),
        ("set", "k", b"\xff\x00"),
        ("rpush", "k", "a", "b"),
        ("hset", "k", "a", "b"),
        ("set", "k", "nonsense", "ex", 10**9),
        ("set", "k", "nonsense", "px", 20),
    ],
    ids=str,
)
async def test_garbage(redis, redis_prefix, garbage):
    """S12: What is no lease makes room for one; what may be one is waited for."""
    verb, _, *values = garbage
    await redis.execute_command(verb, redis_prefix + "a", *values)
    lease = RedisLease(redis, prefix=redis_prefix)
    async with asyncio.timeout(10), lease.hold("a"):
        assert 0 < await redis.pttl(redis_prefix + "a") <= 30_000


@pytest.mark.parametrize("way", ["stop", "kill"])
async def test_down_and_up(own_redis, own, way):
    """S12: While Redis is down the error is typed; then the same client goes on."""
    lease = RedisLease(own)
    async with lease.hold("a"):
        pass
    await asyncio.to_thread(getattr(own_redis, way))
    for _ in range(2):
        with pytest.raises(StorageError, match="the storage failed"):
            async with lease.hold("a"):
                raise AssertionError("nobody holds a lease now")
    await asyncio.to_thread(own_redis.start)
    async with lease.hold("a"):
        assert await own.exists("quart_dance:lease:a") == 1


async def test_down_when_it_is_given_back(own_redis, own):
    """S12: What was done under a lease is done, even if it cannot be given back."""
    lease = RedisLease(own)
    async with lease.hold("a"):
        await asyncio.to_thread(own_redis.kill)
    await asyncio.to_thread(own_redis.start)
    async with lease.hold("a"):
        pass


async def test_restarted(own_redis, own):
    """S12: A Redis that comes back empty gives the lease to another holder.

    That is what is promised of Redis, and no more: the storage's compare-and-swap
    keeps the tokens apart then. The first holder does not end the second one's lease.
    """
    lease, other = RedisLease(own), RedisLease(own)
    async with connected(own_redis.url) as client:
        first = lease.hold("a")
        await first.__aenter__()
        await asyncio.to_thread(own_redis.clear)
        async with other.hold("a"):
            await first.__aexit__(None, None, None)
            assert await client.exists("quart_dance:lease:a") == 1


def test_silent(own_redis):
    """S12: A Redis that never answers is an error after a while, and not a hang."""

    async def test():
        async with connected(own_redis.url) as client:
            with pytest.raises(StorageError, match="Timeout"):
                async with RedisLease(client).hold("a"):
                    raise AssertionError("nobody holds a lease now")
            await asyncio.sleep(0)  # what was told to end does so now

    own_redis.pause()
    Scheduler(0).run(test())  # its clock jumps to the end of the deadline


async def test_cancelled_while_redis_is_silent(own_redis, own):
    """F7: Who is cancelled while Redis is silent hears so, and leaves no lease."""
    lease = RedisLease(own)
    async with lease.hold("a"):
        pass

    async def hold():
        async with lease.hold("a"):
            raise AssertionError("nobody holds a lease now")

    own_redis.pause()
    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    task.cancel()
    own_redis.resume()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await own.exists("quart_dance:lease:a") == 0


async def test_slow(own_redis):
    """S12: Redis may take a tenth of a second; nobody else gets in meanwhile."""
    async with (
        proxied(own_redis.site.port) as proxy,
        connected(f"redis://127.0.0.1:{proxy.port}") as slow,
        connected(own_redis.url) as quick,
    ):
        proxy.delay = 0.1
        inside = []

        async def hold(client):
            async with RedisLease(client).hold("a"):
                inside.append(client)
                await client.ping()
                assert inside.pop() is client
                assert inside == []

        await asyncio.gather(*(hold(client) for client in (slow, quick) * 3))


async def test_an_answer_that_is_lost(own_redis):
    """S12: A client that asks again, as it got no answer, holds the lease already."""
    async with (
        proxied(own_redis.site.port) as proxy,
        connected(f"redis://127.0.0.1:{proxy.port}") as client,
    ):
        await client.ping()
        proxy.swallow = 1
        async with asyncio.timeout(10), RedisLease(client).hold("a"):
            assert proxy.swallow == 0


async def test_an_answer_that_never_comes(own_redis, own):
    """S12: A client that hears no more of a lease that it took gives it back."""
    async with (
        proxied(own_redis.site.port) as proxy,
        connected(f"redis://127.0.0.1:{proxy.port}") as client,
    ):
        await client.ping()
        proxy.swallow = 2  # it asks again once
        with pytest.raises(StorageError, match="the storage failed"):
            async with RedisLease(client).hold("a"):
                raise AssertionError("nobody knows of holding a lease")
        assert proxy.swallow == 0
        assert await own.exists("quart_dance:lease:a") == 0


class Slow:
    """A client that takes its time until it knows the answer.

    Args:
        redis: What really asks.
        monkeypatch: Sets the clock forward, the event loop's as well.

    Attributes:
        seconds: How long it takes.
        asked: How often it was asked.
    """

    def __init__(self, redis, monkeypatch):
        self.seconds = 0
        self.asked = 0
        self._redis = redis
        self._spent = 0
        self._clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: self._clock() + self._spent)

    async def eval(self, *args):
        answer = await self._redis.eval(*args)
        self.asked += 1
        self._spent += self.seconds
        return answer


async def test_what_is_left(redis, redis_prefix, monkeypatch):
    """F5: Whoever needs 4 of 30 seconds to take a lease holds it.

    Whoever needs more gives up after a while, and keeps nobody out.
    """
    slow = Slow(redis, monkeypatch)
    lease = RedisLease(slow, prefix=redis_prefix)
    slow.seconds = 4
    async with lease.hold("a"):
        assert slow.asked == 1
    slow.seconds, slow.asked = 6, 0
    with pytest.raises(StorageError, match="too little"):
        async with lease.hold("a"):
            raise AssertionError("too little is left")
    assert slow.asked == 3 + 1  # it was given back
    assert await redis.exists(redis_prefix + "a") == 0


async def test_an_application(own_redis, own, tmp_path):
    """S12, F2: While Redis is down no token is refreshed, and the others work on.

    The refresh token is not spent. When Redis is there again all goes on.
    """
    async with world("sqla", tmp_path) as here:
        here.storage.lease = RedisLease(own)
        visitor = await here.login()
        await asyncio.to_thread(own_redis.stop)
        assert await text(visitor) == "alice"
        before = await stored(visitor)
        here.clock.now += 3600
        assert (await visitor.get("/user")).status_code == 500
        assert await stored(visitor) == before
        assert here.provider.count("token") == 1
        await asyncio.to_thread(own_redis.start)
        assert await text(visitor) == "alice"
        assert here.provider.count("token") == 2
