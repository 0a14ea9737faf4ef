"""Measure quart_dance.flask beside Flask-Dance, and the way from sync code to async.

One view calls an API on this machine, under gunicorn with 8 threads. Then the cost of
a call of SyncStorage, beside the same call where the event loop is.
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

# Of the files beside this one, flask.py would be taken for Flask.
sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from benchmarks import report
from serving import ROOT, running
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase

from quart_dance.consumer.storage import MemoryStorage
from quart_dance.consumer.storage.base import BaseStorage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.flask import SyncStorage

LIBRARIES = {"quart_dance.flask": "quart_dance", "flask_dance": "Flask-Dance"}
BROWSERS = 8
OWNER: Any = SimpleNamespace(name="dev")
TOKEN = {"access_token": "the-token", "token_type": "bearer"}


# Requests per second


def main() -> None:
    """Measure both, and print a table of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="see that it runs")
    parser.add_argument("--rounds", type=int, help="default: 9")
    parser.add_argument("--seconds", type=float, help="of a round; default: 3")
    given = parser.parse_args()
    rounds = given.rounds or (1 if given.quick else 9)
    seconds = given.seconds or (0.2 if given.quick else 3)
    machine = report.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), rounds, seconds)
        bridge(Path(folder), rounds, 20 if given.quick else 1000)


def compare(folder: Path, rounds: int, seconds: float) -> None:
    """Print the requests per second of one view, with each library."""
    with ExitStack() as stack:
        urls = serve(stack, folder)
        for port in urls.values():  # connections are open, modules imported
            per_second(port, seconds)
        rates: dict[str, list[float]] = {name: [] for name in urls}
        for _ in range(rounds):
            for name, port in urls.items():
                rates[name].append(per_second(port, seconds))
    print("\n| a view that calls an API | requests/s | best |\n|---|---:|---:|")
    for name, found in rates.items():
        print(f"| {LIBRARIES[name]} | {median(found):.0f} | {max(found):.0f} |")
    ours, theirs = rates.values()
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    print(f"\nratio {ratio:.2f} (target: not below 1)\n")


def serve(stack: ExitStack, folder: Path) -> dict[str, int]:
    """Serve the API, and the application with each library; return their ports."""
    ends = [-signal.SIGTERM]
    api = str(ROOT / "tests" / "benchmarks" / "local_api.py")
    target = stack.enter_context(running(api, folder=folder, ends=ends)).url
    ports = {}
    for library in LIBRARIES:
        home = folder / library
        home.mkdir()
        options = "--workers 1 --threads 8 --keep-alive 60 --log-level warning"
        chosen = running(
            *("-m", "gunicorn", "--bind", "127.0.0.1:{port}", *options.split()),
            *("--chdir", str(ROOT / "tests"), "benchmarks.flask_app:app"),
            folder=home,
            env={"LIBRARY": library, "API": f"{target}/"},
        )
        ports[library] = stack.enter_context(chosen).port
    return ports


def per_second(port: int, seconds: float) -> float:
    """Return how many requests a second are answered to 8 browsers at once."""
    counts: list[int] = []
    begin = threading.Barrier(BROWSERS)

    def browse() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        begin.wait()
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.request("GET", "/")
            response = connection.getresponse()
            assert (response.status, response.read()) == (200, b"alice")
            count += 1
        connection.close()
        counts.append(count)

    threads = [threading.Thread(target=browse) for _ in range(BROWSERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == BROWSERS, "a browser has met an error"
    return sum(counts) / seconds


# A call of SyncStorage


class Base(DeclarativeBase):
    """The table of this benchmark."""


class OAuth(OAuthConsumerMixin, Base):
    """One token for each provider."""


class Repeated(MemoryStorage):
    """Reads another storage many times, where the event loop is, and takes the time."""

    def __init__(self, storage: BaseStorage, calls: int) -> None:
        super().__init__()
        self.storage, self.calls = storage, calls

    async def get(self, blueprint: Any) -> Any:
        began = time.perf_counter()
        for _ in range(self.calls):
            await self.storage.get(blueprint)
        return {"seconds": time.perf_counter() - began}


def bridge(folder: Path, rounds: int, calls: int) -> None:
    """Print what a call costs from sync code, and where the event loop is."""
    print("| microseconds of a `get` | awaited | `SyncStorage` | more |")
    print("|---|---:|---:|---:|")
    for name, storage in storages(folder).items():
        sync, repeated = SyncStorage(storage), SyncStorage(Repeated(storage, calls))
        sync.set(OWNER, TOKEN)
        awaited, called = [], []
        for _ in range(rounds):
            found: Any = repeated.get(OWNER)
            awaited.append(found["seconds"] / calls * 1e6)
            began = time.perf_counter()
            for _ in range(calls):
                sync.get(OWNER)
            called.append((time.perf_counter() - began) / calls * 1e6)
        more = median(b - a for a, b in zip(awaited, called, strict=True))
        print(f"| {name} | {median(awaited):.0f} | {median(called):.0f} | {more:.0f} |")
        sync.close()


def storages(folder: Path) -> dict[str, BaseStorage]:
    """Return a storage of each kind."""
    path = f"{folder}/tokens.db"
    engine = create_engine(f"sqlite:///{path}")
    Base.metadata.create_all(engine)
    engine.dispose()
    engine_of_coroutines = create_async_engine(f"sqlite+aiosqlite:///{path}")
    return {
        "MemoryStorage": MemoryStorage(),
        "FileStorage": FileStorage(folder / "{bp.name}.json"),
        "SQLAlchemyStorage, SQLite": SQLAlchemyStorage(OAuth, engine_of_coroutines),
    }


if __name__ == "__main__":
    main()
