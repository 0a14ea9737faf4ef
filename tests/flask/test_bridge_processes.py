"""SyncStorage in processes of its own: threads, a fork, and the interpreter's end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python, see that it warns of nothing, and return the process."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


@pytest.mark.parametrize(("calls", "mode"), [(1000, []), (50, ["-X", "dev"])])
def test_threads_and_a_fork(url, calls, mode):
    """S14: 16 threads with 1,000 calls each, and a fork in the middle of them.

    Parent and child both go on, each reads what it has written, nothing stays open
    that was not before, nothing is said, and the process ends at once, its pools open.
    In Python's development mode, which is slow, they make fewer calls.
    """
    said: dict[str, Any] = json.loads(
        run(*mode, str(HERE / "forking.py"), url, str(calls)).stdout
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


FORK = """
import logging, os, sys, warnings
from types import SimpleNamespace
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.flask import SyncStorage

class Forked(MemoryStorage):
    async def aclose(self):
        pass

    def after_fork(self):
        print("let go", flush=True)

class Failing(Forked):
    def after_fork(self):
        raise OSError("no such file")

logging.getLogger("quart_dance").addHandler(logging.StreamHandler(sys.stdout))
storages = [SyncStorage(kind()) for kind in (Failing, Forked)]
for storage in storages:
    storage.delete(SimpleNamespace(name="dev"))
warnings.simplefilter("ignore", DeprecationWarning)
if os.fork():
    os.wait()
"""


def test_fork_with_a_storage_that_fails():
    """A storage that fails after a fork does not keep the next one from letting go."""
    said = run("-c", FORK).stdout.splitlines()
    assert said[-1] == "let go" and "OSError: no such file" in said
