"""Flask's storages when the main thread has ended, or is interrupted."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from quart_dance.consumer.runtime import Runtime
from quart_dance.flask.bridge import Bridge
from quart_dance.flask.gate import Gate
from quart_dance.flask.threads import Threads

HERE = Path(__file__).parent


@pytest.mark.parametrize(
    ("asks", "said"), [("thread", ["alice", "True"]), ("main", ["True"])]
)
def test_refresh(tmp_path, asks, said):
    """S14: a refresh that outlives the main thread is saved, and can be read."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(HERE / "ending.py"), str(tmp_path), asks],
        env={"PYTHONPATH": f"{HERE.parents[1]}:{HERE.parent}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == said


def test_nothing_is_refreshed():
    """S14: the end waits for no event loop that stands still over nothing."""
    begun, closing, said = threading.Event(), threading.Event(), []

    class Closing(Gate):
        def close(self) -> None:
            closing.set()
            super().close()

    async def block() -> None:
        begun.set()
        said.append(closing.wait(30))

    bridge, runtime = Bridge(), Runtime()
    bridge.gate = Closing()
    bridge.runtimes.add(runtime)
    runtime.deadline = 60
    calling = threading.Thread(target=lambda: bridge.run(block(), None))
    calling.start()
    assert begun.wait(30)
    bridge.close()
    calling.join(30)
    assert said == [True]


def test_a_refresh_is_told():
    """S14: a refresh hears of the end, which waits for it before anything is closed."""
    bridge, runtime, said = Bridge(), Runtime(), []

    async def refresh() -> None:
        while not runtime.here.ending:  # noqa: ASYNC110
            await asyncio.sleep(0)
        said.append(await asyncio.to_thread(bridge.run, asyncio.sleep(0, "saved"), 30))

    async def begin() -> None:
        runtime.here.spawn(refresh())

    bridge.runtimes.add(runtime)
    bridge.run(begin(), None)
    bridge.close()
    assert said == ["saved"]


def test_no_thread_left(monkeypatch):
    """What a pool has taken, and has no thread for yet, is not done a second time."""
    go, done = threading.Event(), []

    def refuse(thread: Any) -> None:
        monkeypatch.undo()
        raise RuntimeError("can't start new thread")

    with Threads(2) as pool:
        pool.submit(go.wait, 30)
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            pool.submit(done.append, "once")
        go.set()
    assert done == ["once"]
