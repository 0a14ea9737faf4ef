"""SyncStorage in a forked process: what the child leaves to its parent."""

from __future__ import annotations

import pytest
from scripts import run

pytestmark = pytest.mark.slow

COLLECTS = """
import gc, os, sys, warnings
from forking import OWNER, Crowd
from quart_dance.consumer.storage import BaseStorage
from quart_dance.flask import SyncStorage

crowd = Crowd(sys.argv[1], "wrapped")
wrapper = crowd.storage.async_storage
type(wrapper).aclose = BaseStorage.aclose  # so nobody but itself knows of the engine
crowd.storage.timeout = 30
crowd.storage.set(OWNER, {"access_token": "a"}, user_id=1)
warnings.simplefilter("ignore", DeprecationWarning)
if os.fork():
    assert os.wait()[1] == 0
    print(crowd.storage.get(OWNER, user_id=1)["access_token"])
    SyncStorage(wrapper.inner).close()
else:
    del crowd, wrapper
    gc.collect()
    os._exit(0)
"""


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_child_that_only_collects(url):
    """S14: A child that throws away what it has not used takes nothing from its parent.

    Closing the connection there would keep the parent from hearing its answers.
    """
    assert run("-c", COLLECTS, url).stdout == "a\n"


REDIS = """
import logging, os, sys, warnings
from aiocache import Cache
from forking import OWNER, Crowd, OAuth
from redis.asyncio import Redis
from quart_dance.consumer.storage.redis import RedisLease
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError
from quart_dance.flask import SyncStorage

url, redis_url, prefix = sys.argv[1:4]
warnings.simplefilter("ignore", DeprecationWarning)  # aiocache's, and the fork's
logging.disable()
crowd = Crowd(url, "plain")

class Closing(SQLAlchemyStorage):
    async def aclose(self):
        await super().aclose()
        await self.redis.aclose()
        await self.aiocache.client.aclose()

def clients(**options):
    cache, redis = Cache.from_url(redis_url), Redis.from_url(redis_url, **options)
    cache.namespace = prefix
    return cache, redis

def make(cache, redis):
    lease = RedisLease(redis, prefix=prefix)
    made = Closing(OAuth, crowd.engine, cache=cache, lease=lease)
    made.aiocache, made.redis = cache, redis
    return SyncStorage(made)

def use(storage):
    said = [storage.get(OWNER, user_id=1)["access_token"]]
    try:
        with storage.refresh_lock(OWNER, user_id=1):
            said.append("held")
    except StorageError as error:
        said.append(str(error))
    print(*said, flush=True)

def use_before(storage):
    crowd.storage.set(OWNER, {"access_token": "cached"}, user_id=1)
    use(storage)
    crowd.storage.set(OWNER, {"access_token": "stored"}, user_id=1)
"""

SHARES = """
cache, redis = clients()
storage, other = make(cache, redis), make(cache, redis)
use_before(storage)
if os.fork():
    assert os.wait()[1] == 0
    use(storage)
else:
    use(storage)
    use(other)
    use(make(cache, Redis(connection_pool=redis.connection_pool)))
    use(make(*clients()))
"""


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_fork_with_redis(url, redis_url, redis_prefix):
    """S14: A child does not use the clients of Redis that its parent has used.

    It would send on their sockets, and take their answers: both could hold one lease.
    The database answers in place of the cache, and no token is refreshed, until the
    child has made clients of its own. Which storage the parent has used them with does
    not matter.
    """
    said = run("-c", REDIS + SHARES, url, redis_url, redis_prefix).stdout
    first, *child, new, last = said.splitlines()
    assert first == new == last == "cached held"
    assert len(child) == 3
    for line in child:
        assert line.startswith("stored ")
        assert "the client of the RedisLease was used before this process was" in line


THROWS_AWAY = """
import gc
from quart_dance.consumer.storage import BaseStorage
from quart_dance.flask.bridge import run

close, Closing.aclose = Closing.aclose, BaseStorage.aclose  # so nobody else keeps it
storage = make(*clients(single_connection_client=sys.argv[4] == "single"))
use_before(storage)
if os.fork():
    assert os.wait()[1] == 0
    use(storage)
    run(close(storage.async_storage))
else:
    del storage
    gc.collect()
    os._exit(0)
"""


@pytest.mark.parametrize("kind", ["pool", "single"])
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_child_that_throws_clients_away(url, redis_url, redis_prefix, kind):
    """S14: A child that assigns a storage anew leaves its parent's clients alone.

    To collect them there would keep the parent from hearing the answers of Redis.
    """
    script = REDIS + THROWS_AWAY
    said = run("-c", script, url, redis_url, redis_prefix, kind).stdout
    assert said.splitlines() == ["cached held"] * 2


UNTOLD = """
import ctypes, os, signal, sys, threading
from forking import OWNER, Crowd
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.flask import SyncStorage

crowd = Crowd(sys.argv[1], "plain")

def use(user_id):
    print(crowd.storage.get(OWNER, user_id=user_id)["access_token"], flush=True)

for user_id in (1, 2):
    crowd.storage.set(OWNER, {"access_token": f"token {user_id}"}, user_id=user_id)

# Where another thread waits for the interpreter's lock, the child could hang in Python
# itself. So all others wait for something else, until the process has been forked.
reading, writing = os.pipe()
waiting = threading.Event()

class Waiting(MemoryStorage):
    async def get(self, blueprint):
        waiting.set()
        os.read(reading, 1)

sys.setswitchinterval(60)  # so this thread goes on when that one reads
get = SyncStorage(Waiting()).get
threading.Thread(target=get, args=[OWNER], daemon=True).start()
waiting.wait()
if child := ctypes.PyDLL(None).fork():
    os.write(writing, b"a")
    assert os.waitpid(child, 0)[1] == 0
    use(1)
else:
    signal.alarm(30)  # nobody else ends a child that hangs
    use(2)
"""


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_a_fork_that_python_does_not_hear_of(url):
    """S14: A server written in C forks, such as uWSGI; the child is served as well.

    It has an event loop, connections and an end of its own.
    """
    assert run("-c", UNTOLD, url).stdout.splitlines() == ["token 2", "token 1"]
