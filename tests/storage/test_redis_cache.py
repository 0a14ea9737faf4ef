"""Redis as the cache before a database: down, silent, slow, cut off, empty."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import behind_redis
import pytest
from aiocache import RedisCache
from behind_redis import process, put_into_use, uses_cache
from databases import statements
from redises import proxied
from support import Visitor
from world import text

from quart_dance.consumer.storage.cache import TokenCache
from quart_dance.oauth.token import Token

pytestmark = behind_redis.calls_what_is_deprecated
redis = behind_redis.redis


async def test_two_processes(own_redis, redis, tmp_path):
    """S12: What one process has cached gives way at once to what another one does."""
    async with (
        process(tmp_path, own_redis.site.port) as one,
        process(tmp_path, own_redis.site.port) as other,
    ):
        visitor = await one.login()
        elsewhere = Visitor(other.app, visitor.host)
        # The first question is where the table is, and has to be asked.
        assert await text(elsewhere, "/authorized") == "true\n"
        for here, there in ((visitor, elsewhere), (elsewhere, visitor)):
            await put_into_use(redis, here)
            for seen in ((one, visitor), (other, elsewhere)):
                with statements(seen[0].engine) as sent:
                    assert await text(seen[1], "/authorized") == "true\n"
                assert sent == []
            await here.get("/logout")
            assert await text(there, "/authorized") == "false\n"
            assert await text(here, "/authorized") == "false\n"
            await put_into_use(redis, there)  # now that there is none
            await one.login()
            assert await text(here, "/authorized") == "true\n"
            assert await text(there, "/authorized") == "true\n"


#: What may happen to a Redis, and how that ends; or how slow its answers are.
WAYS = {
    "stopped": ("stop", "start"),
    "killed": ("kill", "start"),
    "silent": ("pause", "resume"),
    "emptied": ("clear", "start"),
    "slow by 100 ms": 0.1,
    "slow by 300 ms": 0.3,
    "slow by 10 s": 10,
}


@asynccontextmanager
async def trouble(way, server, proxy):
    """Let something happen to a Redis, and mend it in the end."""
    if isinstance(way, tuple):
        begin, end = way
        await asyncio.to_thread(getattr(server, begin))
        yield
        await asyncio.to_thread(getattr(server, end))
    else:
        proxy.delay = way
        yield
        proxy.delay = 0


async def browse(visitor, person, over):
    """Open a page again and again."""
    while not over.is_set():
        assert await text(visitor) == person


async def come_and_go(here, number, over):
    """Log in and out again and again; each time that counts at once."""
    while not over.is_set():
        visitor = await here.login(number)
        assert await text(visitor, "/authorized") == "true\n"
        assert (await visitor.get("/logout")).status_code == 200
        for _ in range(2):
            assert await text(visitor, "/authorized") == "false\n"


@pytest.mark.parametrize("way", WAYS)
async def test_while_requests_go_on(own_redis, redis, tmp_path, way):
    """S12: Whatever happens to Redis, everybody is who they are, and no page fails.

    Nobody waits for Redis: while it is silent, or ten seconds slow, all pages come.
    """
    async with (
        proxied(own_redis.site.port) as proxy,
        process(tmp_path, proxy.port) as here,
    ):
        alice, bob = await here.login(1), Visitor(here.app, "u2.test")
        await bob.login(here.provider, person="bob")
        stranger = Visitor(here.app, "u4.test")
        await put_into_use(redis, alice, bob)
        assert await uses_cache(here, alice)
        over = asyncio.Event()
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            group.create_task(browse(alice, "alice", over))
            group.create_task(browse(bob, "bob", over))
            group.create_task(come_and_go(here, 3, over))
            async with trouble(WAYS[way], own_redis, proxy):
                for _ in range(4):
                    assert await text(stranger, "/authorized") == "false\n"
            for _ in range(2):
                assert await text(stranger, "/authorized") == "false\n"
            over.set()
        await put_into_use(redis, alice)
        assert await uses_cache(here, alice)


async def test_nobody_waits(own_redis, redis, tmp_path):
    """S12: A page comes before the answer of a Redis that takes ten seconds."""
    async with (
        proxied(own_redis.site.port) as proxy,
        process(tmp_path, proxy.port) as here,
    ):
        alice = await here.login()
        await put_into_use(redis, alice)
        before, proxy.delay = proxy.answers, 10
        assert await text(alice) == "alice"
        await alice.get("/logout")
        assert await text(alice, "/authorized") == "false\n"
        assert proxy.answers == before


async def test_down_from_the_start(own_redis, tmp_path):
    """S12, S16: An application starts, and people log in, while there is no Redis."""
    port = own_redis.site.port
    await asyncio.to_thread(own_redis.kill)
    async with process(tmp_path, port) as here:
        alice = await here.login()
        assert await text(alice) == "alice"
        await alice.get("/logout")
        assert await text(alice, "/authorized") == "false\n"


async def test_cut_off_from_redis(own_redis, redis, tmp_path, caplog):
    """S12: A log-out of which Redis was not told is in the log, and its time bounded.

    A process without a way to Redis itself answers from the database; another one may
    serve the old token until the entry ends.
    """
    async with (
        proxied(own_redis.site.port) as proxy,
        process(tmp_path, proxy.port) as here,
        process(tmp_path, own_redis.site.port) as other,
    ):
        alice = await here.login()
        await put_into_use(redis, alice)
        proxy.delay = None
        await alice.get("/logout")
        assert "an old token may be seen for 300 s" in caplog.text
        assert await text(alice, "/authorized") == "false\n"
        elsewhere = Visitor(other.app, alice.host)
        assert await text(elsewhere, "/authorized") == "true\n"
        (key,) = await redis.keys("quart_dance:*")
        assert 0 < await redis.ttl(key) <= 300
        await redis.delete(key)  # as it ends
        assert await text(elsewhere, "/authorized") == "false\n"


async def test_a_slow_reader(own_redis, redis):
    """S10: What a reader began to read before a log-out does not come into Redis."""
    caches = [RedisCache(port=own_redis.site.port) for _ in range(2)]
    reader, writer = (TokenCache(cache, 300) for cache in caches)
    read, changed = asyncio.Event(), asyncio.Event()
    stored = Token(access_token="old")

    async def load():
        found = stored
        read.set()
        await changed.wait()
        return found

    async def delete():
        nonlocal stored
        stored = None

    reading = asyncio.create_task(reader.read("quart_dance:a", load))
    await read.wait()
    await writer.change("quart_dance:a", delete)
    changed.set()
    assert await reading == {"access_token": "old"}  # it asked before the log-out
    assert await reader.read("quart_dance:a", load) is None
    await put_into_use(redis)
    assert await reader.read("quart_dance:a", load) is None
    for cache in caches:
        await cache.client.aclose()


@pytest.mark.parametrize(("life", "least", "most"), [(3600, 290, 300), (90, 80, 90)])
async def test_how_long_an_entry_stands(own_redis, redis, tmp_path, life, least, most):
    """S11: Redis forgets a token with its life, and that there is none in 30 s."""
    async with process(tmp_path, own_redis.site.port) as here:
        visitor = await here.give(1, life)
        await put_into_use(redis, visitor)
        (key,) = await redis.keys("quart_dance:*")
        assert least <= await redis.ttl(key) <= most
        await visitor.get("/logout")
        assert 0 < await redis.ttl(key) <= 10
        await redis.delete(key)
        await text(visitor, "/authorized")
        assert 0 < await redis.ttl(key) <= 30
