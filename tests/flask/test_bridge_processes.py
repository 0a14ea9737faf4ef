"""SyncStorage in processes of its own: threads, a fork, and the interpreter's end."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from scripts import HERE, run
from serving import served

pytestmark = pytest.mark.slow


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
