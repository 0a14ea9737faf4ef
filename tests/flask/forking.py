"""A script without an application: many threads, and a fork in the middle.

Takes the URL of a database whose tables are there, how many calls each thread makes,
and whether the storage is "plain" or "wrapped". Says as JSON what is open before and
after; what goes wrong it says on stderr. It closes nothing: its end must do.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import warnings
from types import SimpleNamespace
from typing import Any

from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer.storage import BaseStorage
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.flask import SyncStorage

OWNER = SimpleNamespace(name="dev")


class Base(DeclarativeBase):
    """The tables of this script."""


class OAuth(OAuthConsumerMixin, Base):
    """A token for each provider and user."""

    user_id: Mapped[int | None] = mapped_column()


class Wrapper(BaseStorage):
    """A storage of an application's own, around one of ours."""

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner

    async def get(self, blueprint: Any, **who: Any) -> Any:
        return await self.inner.get(blueprint, **who)

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        await self.inner.set(blueprint, token, **who)

    async def delete(self, blueprint: Any, **who: Any) -> None:
        await self.inner.delete(blueprint, **who)

    async def aclose(self) -> None:
        await self.inner.aclose()


class Crowd:
    """Sixteen threads that use one storage, each for a user of its own."""

    def __init__(self, url: str, kind: str) -> None:
        self.engine = create_async_engine(url)
        storage: BaseStorage = SQLAlchemyStorage(OAuth, self.engine)
        self.storage = SyncStorage(Wrapper(storage) if kind == "wrapped" else storage)
        self.half = threading.Event()

    def work(self, user_id: int, calls: int) -> None:
        """Make some calls, 50 a round, most of which read."""
        for round_ in range(calls // 50):
            token = {"access_token": f"{os.getpid()}-{user_id}-{round_}"}
            self.storage.set(OWNER, token, user_id=user_id)
            for _ in range(48):
                assert self.storage.get(OWNER, user_id=user_id) == token
            self.storage.delete(OWNER, user_id=user_id)
            if round_ == calls // 100:
                self.half.set()

    def begin(self, calls: int, first: int = 0) -> list[threading.Thread]:
        """Start the threads; `first` is the user of the first one."""
        users = range(first, first + 16)
        threads = [threading.Thread(target=self.work, args=(n, calls)) for n in users]
        for thread in threads:
            thread.start()
        return threads

    def run(self, calls: int, first: int = 0) -> dict[str, int]:
        """Run the threads to their end, and return what is open then."""
        for thread in self.begin(calls, first):
            thread.join()
        return {
            "files": len(os.listdir("/proc/self/fd")),
            "threads": threading.active_count(),
            "connections": self.engine.pool.checkedout(),
        }


def main() -> None:
    """Use the storage, fork while it is used, and go on in both processes."""
    # In development mode it warns of what takes longer than 0.1 s.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    crowd = Crowd(sys.argv[1], sys.argv[3])
    before = crowd.run(50)
    crowd.half.clear()
    threads = crowd.begin(int(sys.argv[2]))
    crowd.half.wait()
    with warnings.catch_warnings():
        # Python 3.12 and later: who forks with threads must know what they do.
        warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
        child = os.fork()
    if child == 0:
        crowd.run(50, first=16)
        return
    for thread in threads:
        thread.join()
    _, status = os.waitpid(child, 0)
    after = crowd.run(50)
    said = {"child": status, "before": before, "after": after, "end": time.time()}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
