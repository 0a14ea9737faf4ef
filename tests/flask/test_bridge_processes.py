"""SyncStorage in processes of its own: threads, a fork, and the interpreter's end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from serving import served

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python, see that it warns of nothing, and return the process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


@pytest.mark.parametrize(
    ("calls", "mode", "kind"),
    [
        (1000, [], "plain"),
        (50, ["-X", "dev"], "plain"),
        (200, [], "wrapped"),
    ],
)
def test_threads_and_a_fork(url, calls, mode, kind):
    """S14: 16 threads with 1,000 calls each, and a fork in the middle of them.

    Parent and child both go on, each reads what it has written, nothing stays open
    that was not before, nothing is said, and the process ends at once, its pools open.
    In Python's development mode, which is slow, they make fewer calls. An application
    may have wrapped the storage in one of its own.
    """
    said: dict[str, Any] = json.loads(
        run(*mode, str(HERE / "forking.py"), url, str(calls), kind).stdout
    )
    assert said["child"] == 0
    before, after = said["before"], said["after"]
    # Those that open a database's file come and go.
    assert after.pop("threads") <= before.pop("threads") + 1
    assert after == before
    assert after["connections"] == 0
    assert time.time() - said["end"] < 5


SCRIPT = """
import sys
from types import SimpleNamespace
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.flask import SyncStorage

class Stuck(MemoryStorage):
    async def aclose(self):
        print("closing", flush=True)
        await __import__("asyncio").Event().wait()

storage = SyncStorage(Stuck({"access_token": "a"}))
print(storage.get(SimpleNamespace(name="dev"))["access_token"], flush=True)
"""


def test_end_with_a_storage_that_hangs():
    """A storage that never closes holds the end of the process up for seconds only."""
    started = time.time()
    assert run("-X", "dev", "-c", SCRIPT).stdout.split() == ["a", "closing"]
    assert time.time() - started < 20


REFRESHES = """
import asyncio, sys, threading
from rooms import make_flask_app
from quart_dance.consumer.runtime import runtime
from quart_dance.flask.consumer.storage.file import FileStorage
from quart_dance.testing import DevProvider, faults

provider = DevProvider()
app, blueprint = make_flask_app(provider, storage=FileStorage(sys.argv[1]))
runtime(app).deadline = 60

def ask():
    with app.app_context():
        blueprint.session.get("user")

with app.app_context():
    blueprint.token = {**provider.issue_token("alice"), "expires_at": 1}
    print(blueprint.token["access_token"])
provider.expire_access_tokens()
provider.fault("token", faults.Hang(after=True))
threading.Thread(target=ask, daemon=True).start()
asyncio.run(provider.held())
answer = threading.Timer(8, provider.release)  # all else at the end takes six
answer.daemon = True
answer.start()
"""


def test_end_while_a_token_is_refreshed(tmp_path):
    """S14: The end waits for a refresh as long as the provider may take, and the save.

    Nobody else does where a daemon thread has asked, and the provider has given the
    new token to nobody else.
    """
    old = run("-c", REFRESHES, f"{tmp_path}/token.json").stdout.strip()
    kept = json.loads((tmp_path / "token.json").read_text())
    assert old and kept["access_token"] != old


LATE = """
import atexit, threading

@atexit.register
def last():  # since the library is imported later
    try:
        storage.get(OWNER)
    except RuntimeError as error:
        print(error)

import asyncio
from types import SimpleNamespace
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.flask import SyncStorage

OWNER = SimpleNamespace(name="dev")
closing, answered = threading.Event(), threading.Event()

class Closing(MemoryStorage):
    async def aclose(self):
        closing.set()
        while not answered.is_set():  # in vain, for seconds
            await asyncio.sleep(0.01)

def call():
    closing.wait()
    storage.get(OWNER)
    answered.set()
    print("answered")

storage = SyncStorage(Closing())
storage.get(OWNER)
threading.Thread(target=call, daemon=True).start()
"""


def test_calls_at_the_end():
    """S14: A thread that comes while the process ends waits, and no second loop runs.

    The main thread, which has nobody to wait for, is told.
    """
    (said,) = run("-X", "dev", "-c", LATE).stdout.splitlines()
    assert said.startswith("the process ends")


CALLS = """
import sys
from flask import Flask
from quart_dance.flask.consumer import OAuth2ConsumerBlueprint
from quart_dance.flask.consumer.storage import MemoryStorage

url, token = sys.argv[1:]
storage = MemoryStorage({"access_token": token})
urls = {"token_url": f"{url}/token", "authorization_url": f"{url}/authorize"}
blueprint = OAuth2ConsumerBlueprint(
    "dev", __name__, client_id="a", base_url=url, storage=storage, **urls
)
app = Flask(__name__)
app.secret_key = "a"
app.register_blueprint(blueprint)
with app.app_context():
    print(blueprint.session.get("user").json()["login"])
"""


def test_end_without_an_event_loop():
    """S14: The end closes the connections to the API, also where no loop was needed."""
    with served() as provider:
        token = provider.issue_token("alice")["access_token"]
        base_url = provider.options()["base_url"]
        assert run("-X", "dev", "-c", CALLS, base_url, token).stdout == "alice\n"


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
