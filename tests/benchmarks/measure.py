"""Taking times: batches of calls, in rounds in which all take turns."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event

OPERATIONS = ("get", "set", "delete")
#: How many calls are under way at once in a concurrent batch.
CROWD = 32
#: How many calls of each operation the statements are counted over.
COUNTED = 4


@dataclass(frozen=True)
class Contestant:
    """A way to keep tokens: what is measured.

    Attributes:
        name: As the table shows it.
        get: Takes the number of a user; a coroutine function, unless `threads`.
        set: Likewise.
        delete: Likewise.
        engine: Whose statements are counted, None where there are none.
        threads: Whether the three are plain functions, for threads.
        cached: Whether it has a cache: another contestant must have set what it reads,
            because where it sets something itself the cache stays out of use a while.
    """

    name: str
    get: Callable[[int], Any]
    set: Callable[[int], Any]
    delete: Callable[[int], Any]
    engine: Engine | None = None
    threads: bool = False
    cached: bool = False


@dataclass(frozen=True)
class Timing:
    """The times of one contestant at one thing.

    Attributes:
        contestant: Its name.
        operation: Which.
        concurrent: How many calls were under way at once.
        statements: SQL statements for one call.
        rounds: Microseconds for one call, in each round.
    """

    contestant: str
    operation: str
    concurrent: int
    statements: float
    rounds: tuple[float, ...]


class Measurement:
    """Measures contestants beside each other.

    Args:
        calls: How many calls make a batch.
        rounds: How many batches of each kind.
    """

    def __init__(self, calls: int, rounds: int) -> None:
        self.calls = calls
        self.rounds = rounds
        self._threads = ThreadPoolExecutor(CROWD)
        # Users of their own for each operation: whoever sets a token makes its cache
        # entry unusable for a while, and whoever deletes it leaves nothing to read.
        self._users = {
            operation: range(1 + number * calls, 1 + (number + 1) * calls)
            for number, operation in enumerate(OPERATIONS)
        }

    async def run(self, contestants: Sequence[Contestant]) -> list[Timing]:
        """Return the times of all contestants, for each operation, alone and not."""
        for one in contestants:
            await self._prepare(one)
        gc.collect()
        gc.freeze()
        timings = []
        for operation in OPERATIONS:
            counts = [await self._count(one, operation) for one in contestants]
            for crowd in (1, CROWD):
                times = await self._times(contestants, operation, crowd)
                timings += [
                    Timing(one.name, operation, crowd, count, tuple(times[one.name]))
                    for one, count in zip(contestants, counts, strict=True)
                ]
        return timings

    async def time(
        self, one: Contestant, operation: str, users: Sequence[int], crowd: int = 1
    ) -> float:
        """Call once for each user, and return the microseconds of one call.

        Args:
            one: Whom to call.
            operation: What.
            users: The users' numbers.
            crowd: How many calls are under way at once.
        """
        call = getattr(one, operation)
        shares = [users[number::crowd] for number in range(crowd)]
        gc.collect()  # cheap, because `run` has frozen what there was
        began = time.perf_counter()
        if not one.threads:
            await asyncio.gather(*(_call_all(call, share) for share in shares))
        elif crowd == 1:
            list(map(call, users))
        else:  # this blocks the event loop, which has nothing else to do
            list(self._threads.map(lambda share: list(map(call, share)), shares))
        return 1e6 * (time.perf_counter() - began) / len(users)

    async def _prepare(self, one: Contestant) -> None:
        """Give everybody a token, and let everything be made that is made once."""
        for operation, users in self._users.items():
            if not (one.cached and operation == "get"):
                await self.time(one, "set", users[:1])
                await self.time(one, "set", users, CROWD)
        for crowd in (1, CROWD):  # threads, connections, what is cached
            await self.time(one, "get", self._users["get"], crowd)

    async def _count(self, one: Contestant, operation: str) -> float:
        users = self._users[operation][:COUNTED]
        with counted(one.engine) as sent:
            await self.time(one, operation, users)
        return len(sent) / COUNTED

    async def _times(
        self, contestants: Sequence[Contestant], operation: str, crowd: int
    ) -> dict[str, list[float]]:
        users = self._users[operation]
        times: dict[str, list[float]] = {one.name: [] for one in contestants}
        for number in range(self.rounds):
            # In an order of its own: what one leaves behind costs the next one time.
            for one in random.Random(number).sample(contestants, len(contestants)):
                if operation == "delete":  # there must be something
                    await self.time(one, "set", users, CROWD)
                found = await self.time(one, operation, users, crowd)
                times[one.name].append(found)
        return times


@contextmanager
def counted(engine: Engine | None) -> Iterator[list[str]]:
    """Collect the statements that an engine sends."""
    sent: list[str] = []

    def keep(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    if engine is None:
        yield sent
        return
    event.listen(engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", keep)


async def _call_all(call: Callable[[int], Any], users: Sequence[int]) -> None:
    for user in users:
        await call(user)
