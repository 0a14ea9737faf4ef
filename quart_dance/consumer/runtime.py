"""What runs for one application: pools, flights, tasks, used states.

Nothing of this lives on a blueprint, so several applications may share one, and
nothing of one event loop is used from another.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, cast
from weakref import WeakKeyDictionary

_KEY = "quart_dance"
T = TypeVar("T")
#: The tasks that have called us, a receiver of a refresh; one inside the other.
_callers: ContextVar[frozenset[asyncio.Task[Any]]] = ContextVar(
    "quart_dance_callers", default=frozenset()
)
#: Held for a moment by whoever uses a memory: under Flask that is any thread.
_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked process, have one that no thread of the parent's holds."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class Closable(Protocol):
    """Whatever is closed when its event loop's work is done."""

    async def aclose(self) -> None: ...


class Application(Protocol):
    """An application, Quart's or Flask's."""

    extensions: dict[str, Any]


class Memory:
    """Remembers values for a while, in this process; in whatever thread.

    Args:
        life: Seconds that a value is remembered.
        size: Values at most; beyond that the oldest are forgotten early.
    """

    def __init__(self, life: float, size: int = 100_000) -> None:
        self.life = life
        self.size = size
        self._values: dict[str, tuple[float, Any]] = {}

    def add(self, key: str, value: Any, now: float) -> bool:
        """Remember a value; return False, and keep the old one, if there is one."""
        with _lock:
            return self._add(key, value, now)

    def put(self, key: str, value: Any, now: float) -> None:
        """Remember a value in place of what is remembered."""
        with _lock:
            self._values.pop(key, None)
            self._add(key, value, now)

    def get(self, key: str, now: float) -> Any:
        """Return what is remembered, or None."""
        with _lock:
            end, value = self._values.get(key, (now, None))
        return value if end > now else None

    def forget(self, key: str) -> None:
        """Remember a value no longer; fine if there is none."""
        with _lock:
            self._values.pop(key, None)

    def _add(self, key: str, value: Any, now: float) -> bool:
        while self._values:
            oldest = next(iter(self._values))
            if self._values[oldest][0] > now and len(self._values) < self.size:
                break
            self._values.pop(oldest, None)
        if key in self._values:
            return False
        self._values[key] = (now + self.life, value)
        return True


class LoopState:
    """What belongs to one event loop.

    Attributes:
        ending: Whether its process ends, and no refresh may begin to spend a token.
    """

    def __init__(self) -> None:
        self.ending = False
        self.pools: dict[tuple[object, object], Closable] = {}
        self.flights: dict[object, asyncio.Task[Any]] = {}
        self.tasks: set[asyncio.Task[Any]] = set()
        self._notifying: set[asyncio.Task[Any]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a task that is awaited at shutdown."""
        task = asyncio.get_running_loop().create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    @contextmanager
    def notifying(self) -> Iterator[None]:
        """Be a task that calls receivers and waits for them; see `others`."""
        task = cast(asyncio.Task[Any], asyncio.current_task())
        self._notifying.add(task)
        had = _callers.set(_callers.get() | {task})
        try:
            yield
        finally:
            _callers.reset(had)
            self._notifying.discard(task)

    def others(self) -> set[asyncio.Task[Any]]:
        """Return the tasks that whoever closes here waits for.

        A receiver does not wait for those that call receivers: one of them waits for
        it, and another may wait for a receiver that closes as well.
        """
        if all(task.done() for task in _callers.get()):
            return self.tasks
        return self.tasks - self._notifying


class Runtime:
    """What runs for one application.

    Attributes:
        transport: Carries every HTTP request in place of the network, for tests; an
            `httpx2.AsyncBaseTransport`, or None.
        installed: Whether the application's hooks are in place.
        clock: Returns seconds since the epoch; tests may set it.
        deadline: Seconds that a token, refresh or revocation call may take in all;
            tests may set it.
        used_states: The states whose callback has come, for as long as their
            attempts live.
        refreshed: What spent refresh tokens were exchanged for.
        unsaved: The same, where it could not be saved.
        sync_pools: What sync code keeps open; of each process, blueprint and transport.
    """

    def __init__(self) -> None:
        self.installed = False
        self.transport: Any = None
        self.clock: Callable[[], float] = time.time
        self.deadline = 10.0
        self.used_states = Memory(life=600)
        self.refreshed = Memory(life=60)
        self.unsaved = Memory(life=86_400, size=10_000)
        self.sync_pools: dict[tuple[int, object, object], Any] = {}
        self._loops: MutableMapping[asyncio.AbstractEventLoop, LoopState] = (
            WeakKeyDictionary()
        )

    @property
    def here(self) -> LoopState:
        """What belongs to the running event loop."""
        return self.at(asyncio.get_running_loop())

    def at(self, loop: asyncio.AbstractEventLoop) -> LoopState:
        """Return what belongs to an event loop, which may be another thread's."""
        return self._loops.setdefault(loop, LoopState())

    async def aclose(self, owner: object = None) -> None:
        """Wait for the refreshes in this event loop, then close its pools.

        Others may open and close pools meanwhile, threads too. API calls are not
        waited for, nor are receivers of refreshes by one of them.

        Args:
            owner: Close only this blueprint's pools.
        """
        here = self.here
        while others := here.others():  # one may start another
            await asyncio.wait(others)
        for key in [k for k in here.pools if owner in (None, k[0])]:
            if pool := here.pools.pop(key, None):
                await pool.aclose()
        for place in list(self.sync_pools):  # at once: nothing can come in between
            if place[0] == os.getpid() and owner in (None, place[1]):
                if sync_pool := self.sync_pools.pop(place, None):
                    sync_pool.close()


def depth() -> int:
    """Return how many receivers of refreshes we are in, one inside the other."""
    return len(_callers.get())


def runtime(app: Application) -> Runtime:
    """Return the runtime of an application, made on first use."""
    found: Runtime = app.extensions.setdefault(_KEY, Runtime())
    return found
