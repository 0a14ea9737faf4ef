"""Redis as the cache before a database, full of what we have not written."""

from __future__ import annotations

import json
import pickle

import behind_redis
import pytest
from behind_redis import process, put_into_use, uses_cache
from support import Visitor
from world import text

pytestmark = behind_redis.calls_what_is_deprecated
redis = behind_redis.redis


def spoilt(entry, other):
    """Return what may stand in place of an entry, as commands without their key."""
    inner = json.loads(json.loads(entry))
    forged = {"of": inner["of"], "token": "all"}
    return {
        "of another account": ("set", other),
        "empty": ("set", ""),
        "cut short": ("set", entry[: len(entry) // 2]),
        "cut short inside": ("set", json.dumps(json.dumps(inner)[:-9])),
        "a pickle": ("set", pickle.dumps(inner)),
        "a pickle cut short": ("set", pickle.dumps(inner)[:-9]),
        "not encoded": ("set", json.dumps(inner)),
        "no text": ("set", b"\xff\xfe\x00"),
        "no token": ("set", json.dumps(json.dumps(forged))),
        "a number": ("set", 1),
        "null": ("set", "null"),
        "a list": ("rpush", "a", "b"),
        "a hash": ("hset", "token", "all"),
        "a set": ("sadd", "a"),
    }


GARBAGE = list(spoilt(json.dumps('{"of": "x"}'), ""))


@pytest.mark.parametrize("garbage", GARBAGE)
async def test_garbage(own_redis, redis, tmp_path, garbage):
    """S11, S12: Whatever stands in Redis, everybody is who they are, and no page fails.

    The next change puts the cache back into use.
    """
    async with process(tmp_path, own_redis.site.port) as here:
        alice, bob = await here.login(1), Visitor(here.app, "u2.test")
        await bob.login(here.provider, person="bob")
        stranger = Visitor(here.app, "u3.test")
        await text(stranger, "/authorized")
        await put_into_use(redis, alice, bob)
        keys = await redis.keys("quart_dance:*")
        entries = [await redis.get(key) for key in keys]
        assert len(keys) == 3
        for number, key in enumerate(keys):
            verb, *values = spoilt(entries[number], entries[number - 1])[garbage]
            await redis.delete(key)
            await redis.execute_command(verb, key, *values)
        for _ in range(2):
            assert await text(alice) == "alice"
            assert await text(bob) == "bob"
            assert await text(stranger, "/authorized") == "false\n"
        await alice.get("/logout")
        assert await text(alice, "/authorized") == "false\n"
        alice = await here.login()
        await redis.delete(*keys)
        await text(alice)
        assert await uses_cache(here, alice)
