"""Processes that work on storages for a test, which may kill them."""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from itertools import count, cycle
from types import SimpleNamespace
from typing import Any

from ..consumer.storage.base import BaseStorage, Owner
from . import worker

#: Seconds after which a process that does not do what it must has failed.
PATIENCE = 60


class Call:
    """Something that a process does.

    Futures of `concurrent.futures` carry the news, so that any thread and any event
    loop can wait for it, and for none is one needed.

    Attributes:
        entered: What must be left again has been entered.
        ended: What came out.
    """

    def __init__(self, process: Process, number: int) -> None:
        self._process = process
        self.number = number
        self.entered: Future[None] = Future()
        self.ended: Future[Any] = Future()

    def leave(self) -> None:
        """Leave what was entered; `ended` follows."""
        self._process.tell(self.number, "leave")

    async def wait(self, future: Future[Any]) -> Any:
        """Wait for one of the two; who is cancelled cancels it in the process, too."""
        try:
            return await asyncio.shield(asyncio.wrap_future(future))
        except asyncio.CancelledError:
            await self.end("cancel")
            raise

    async def end(self, verb: str, *arguments: Any) -> None:
        """End it in one of the worker's ways, and wait until it has, however."""
        self._process.tell(self.number, verb, *arguments)
        waiter = asyncio.wrap_future(self.ended)
        await asyncio.wait([waiter], timeout=PATIENCE)
        if waiter.done():
            waiter.exception()  # else asyncio says that nobody has heard of it

    def hear(self, kind: str, value: Any) -> None:
        """Take an answer of the process."""
        for future in (self.entered, self.ended):
            if future.done():
                continue
            if kind == worker.RAISED:
                future.set_exception(value)
            else:
                future.set_result(value)
            if kind == worker.ENTERED:
                return


class Process:
    """A process of `quart_dance.testing.worker`, and the calls that it has not ended.

    Modules are found there as they are here.

    Attributes:
        alive: Whether it can be given work.
        killed: Whether the test has ended it.
    """

    def __init__(self) -> None:
        path = os.pathsep.join(filter(None, sys.path))
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", worker.__name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # ^C is for the tests; they then close our pipe
        )
        assert self._popen.stdin is not None and self._popen.stdout is not None
        self._told, self._answers = self._popen.stdin, self._popen.stdout
        self.alive = True
        self.killed = False
        self._gone = ""
        self._lock = threading.Lock()
        self._numbers = count()
        self._calls: dict[int, Call] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def begin(self, verb: str, *arguments: Any) -> Call:
        """Let it begin something."""
        call = Call(self, next(self._numbers))
        data = pickle.dumps((call.number, verb, *arguments))
        with self._lock:
            if self.alive:
                self._calls[call.number] = call
                self._write(data)
                return call
        call.hear(worker.RAISED, ConnectionResetError(self._gone))
        return call

    def tell(self, number: int, verb: str, *arguments: Any) -> None:
        """Tell it something of a call; fine if it has gone meanwhile."""
        data = pickle.dumps((number, verb, *arguments))
        with self._lock:
            if self.alive:
                self._write(data)

    def kill(self) -> None:
        """End it at once, as a crash does; its calls raise `ConnectionError`."""
        self.killed = True
        self._popen.kill()
        self._thread.join(PATIENCE)

    def close(self) -> None:
        """End it in good order."""
        with self._lock, suppress(OSError):
            self._told.close()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            self.kill()

    def _write(self, data: bytes) -> None:
        with suppress(OSError):  # the thread that listens will tell everybody
            self._told.write(data)
            self._told.flush()

    def _listen(self) -> None:
        why = "it has ended"
        with self._answers:
            try:
                while True:
                    number, kind, value = pickle.load(self._answers)
                    call = self._calls[number]
                    if kind != worker.ENTERED:
                        del self._calls[number]
                    call.hear(kind, value)
            except EOFError:
                pass
            except Exception as error:  # killed in mid-answer, or says what none knows
                self._popen.kill()
                why = f"what it says is not understood: {error}"
        self._gone = f"the process is gone ({why}; exit status {self._popen.wait()})"
        with self._lock, suppress(OSError):  # there may be what it has not read
            self.alive = False
            self._told.close()
        while self._calls:
            _, call = self._calls.popitem()
            call.hear(worker.RAISED, ConnectionResetError(self._gone))


def _forwarded(method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a method of `ProcessStorage` that a process carries out."""

    async def call(
        self: ProcessStorage, blueprint: Owner, *args: Any, **who: Any
    ) -> Any:
        owner = SimpleNamespace(name=blueprint.name)
        call = self.begin("call", method, (owner, *args), who)
        return await call.wait(call.ended)

    return call


class ProcessStorage(BaseStorage):
    """A storage that processes have opened: each call goes to the next one of them.

    Args:
        openings: A process, and the call with which it opened the storage.
    """

    def __init__(self, openings: Sequence[tuple[Process, Call]]) -> None:
        self._openings = openings
        self._turns = cycle(openings)

    @classmethod
    def of(cls, storages: Iterable[ProcessStorage]) -> ProcessStorage:
        """Return the storage of several ones' processes together."""
        return cls([opening for storage in storages for opening in storage._openings])

    get: Any = _forwarded("get")
    set: Any = _forwarded("set")
    delete: Any = _forwarded("delete")
    reread: Any = _forwarded("reread")
    replace: Any = _forwarded("replace")
    account: Any = _forwarded("account")

    def named(self, account: str | None) -> Any:
        return self.begin("call", "named", (account,), {}).ended.result(PATIENCE)

    def can_save(self) -> Any:
        return self.begin("call", "can_save", (), {}).ended.result(PATIENCE)

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        call = self.begin("lock", blueprint.name, who)
        await call.wait(call.entered)
        try:
            yield
        except asyncio.CancelledError:
            await call.end("cancel")
            raise
        except BaseException as error:
            await call.end("leave", worker.portable(error))
            raise
        call.leave()
        await call.wait(call.ended)

    def kill(self) -> None:
        """End the processes at once."""
        for process, _ in self._openings:
            process.kill()

    def begin(self, verb: str, *arguments: Any) -> Call:
        """Let the next process begin something with its storage."""
        process, opening = next(self._turns)
        return process.begin(verb, opening.number, *arguments)


#: They are kept for all tests: to start one takes a second.
_processes: list[Process] = []


@contextmanager
def opened(
    opens: str, place: Mapping[str, Any], processes: int
) -> Iterator[list[ProcessStorage]]:
    """Let some processes open a storage each, and close it in the end.

    Args:
        opens: Module and name, as in ``"package.module:name"``, of a function there
            that returns the storage, an awaitable of it, or an asynchronous context
            manager.
        place: Its keyword arguments.
        processes: How many.
    """
    _processes[:] = [process for process in _processes if process.alive]
    while len(_processes) < processes:
        _processes.append(Process())
    with ExitStack() as stack:
        chosen = _processes[:processes]
        yield [stack.enter_context(_opened(p, opens, place)) for p in chosen]


@contextmanager
def _opened(
    process: Process, opens: str, place: Mapping[str, Any]
) -> Iterator[ProcessStorage]:
    call = process.begin("open", opens, place)
    call.entered.result(PATIENCE)
    try:
        yield ProcessStorage([(process, call)])
    finally:
        call.leave()
        if not process.killed:
            call.ended.result(PATIENCE)


@atexit.register
def _close() -> None:
    for process in _processes:
        process.close()
