"""Processes that work on storages for a test, which may kill them."""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from itertools import count, cycle
from types import SimpleNamespace
from typing import Any

from ..consumer.storage.base import BaseStorage, Owner
from ..oauth.token import Token
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

    def leave(self, error: BaseException | None = None) -> None:
        """Leave what was entered; `ended` follows."""
        if isinstance(error, asyncio.CancelledError):
            self._process.tell(self.number, "cancel")
        elif error is not None:
            self._process.tell(self.number, "leave", worker.portable(error))
        else:
            self._process.tell(self.number, "leave")

    async def wait(self, future: Future[Any]) -> Any:
        """Wait for one of the two; who is cancelled cancels it in the process, too."""
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            self._process.tell(self.number, "cancel")
            await self.rest()
            raise

    async def rest(self) -> None:
        """Wait until it has ended, whatever came out."""
        waiter = asyncio.wrap_future(self.ended)
        await asyncio.wait([waiter], timeout=PATIENCE)
        if waiter.done():
            waiter.exception()  # else asyncio says that nobody has heard of it

    def hear(self, kind: str, value: Any) -> None:
        """Take an answer of the process."""
        if kind == worker.ENTERED:
            self.entered.set_result(None)
            return
        for future in (self.entered, self.ended):
            if future.done():
                continue
            if kind == worker.RAISED:
                future.set_exception(value)
            else:
                future.set_result(value)


class Process:
    """A process of `quart_dance.testing.worker`, and the calls that it has not ended.

    Modules are found there as they are here.
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
        self._lock = threading.Lock()
        self._numbers = count()
        self._calls: dict[int, Call] = {}
        self._over = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it can be given work."""
        return not self._over

    def begin(self, verb: str, *arguments: Any) -> Call:
        """Let it begin something."""
        with self._lock:
            call = Call(self, next(self._numbers))
            if self._over:
                call.hear(worker.RAISED, _gone())
                return call
            self._calls[call.number] = call
        try:
            self.tell(call.number, verb, *arguments)
        except Exception:  # it cannot be pickled
            del self._calls[call.number]
            raise
        return call

    def tell(self, number: int, verb: str, *arguments: Any) -> None:
        """Tell it something of a call; fine if it has gone meanwhile."""
        data = pickle.dumps((number, verb, *arguments))
        with self._lock:
            if self._over:
                return
            try:
                assert self._popen.stdin is not None
                self._popen.stdin.write(data)
                self._popen.stdin.flush()
            except OSError:
                pass  # the thread that listens will tell everybody

    def kill(self) -> None:
        """End it at once, as a crash does; its calls raise `ConnectionError`."""
        self._popen.kill()
        self._thread.join(PATIENCE)

    def close(self) -> None:
        """End it in good order."""
        with self._lock:
            if not self._over:
                assert self._popen.stdin is not None
                self._popen.stdin.close()
        self._thread.join(PATIENCE)

    def _listen(self) -> None:
        assert self._popen.stdin is not None and self._popen.stdout is not None
        with self._popen.stdout as answers:
            try:
                while True:
                    number, kind, value = pickle.load(answers)
                    call = self._calls[number]
                    if kind != worker.ENTERED:
                        del self._calls[number]
                    call.hear(kind, value)
            except (EOFError, pickle.UnpicklingError):
                pass  # the end, perhaps in the middle of an answer
        self._popen.wait()
        with self._lock:
            self._over = True
            calls, self._calls = list(self._calls.values()), {}
            try:
                self._popen.stdin.close()
            except OSError:
                pass  # there was something that it had not read
        for call in calls:
            call.hear(worker.RAISED, _gone())


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

    async def get(self, blueprint: Owner, **who: Any) -> Token | None:
        token: Token | None = await self._call("get", blueprint, **who)
        return token

    async def set(self, blueprint: Owner, token: Mapping[str, Any], **who: Any) -> None:
        await self._call("set", blueprint, token, **who)

    async def delete(self, blueprint: Owner, **who: Any) -> None:
        await self._call("delete", blueprint, **who)

    async def reread(self, blueprint: Owner, **who: Any) -> Token | None:
        token: Token | None = await self._call("reread", blueprint, **who)
        return token

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        replaced: bool = await self._call("replace", blueprint, old, new, **who)
        return replaced

    async def account(self, blueprint: Owner, **who: Any) -> str | None:
        account: str | None = await self._call("account", blueprint, **who)
        return account

    def named(self, account: str) -> dict[str, Any]:
        name: dict[str, Any] = self._begin("named", account).ended.result(PATIENCE)
        return name

    def can_save(self) -> bool:
        can: bool = self._begin("can_save").ended.result(PATIENCE)
        return can

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        process, opening = next(self._turns)
        call = process.begin("lock", opening.number, blueprint.name, who)
        await call.wait(call.entered)
        try:
            yield
        except BaseException as error:
            call.leave(error)
            await call.rest()
            raise
        call.leave()
        await call.wait(call.ended)

    def kill(self) -> None:
        """End the processes at once."""
        for process, _ in self._openings:
            process.kill()

    async def _call(self, method: str, blueprint: Owner, *args: Any, **who: Any) -> Any:
        owner = SimpleNamespace(name=blueprint.name)
        call = self._begin(method, owner, *args, **who)
        return await call.wait(call.ended)

    def _begin(self, method: str, *args: Any, **kwargs: Any) -> Call:
        process, opening = next(self._turns)
        return process.begin("call", opening.number, method, args, kwargs)


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
    calls = [(p, p.begin("open", opens, place)) for p in _processes[:processes]]
    try:
        for _, call in calls:
            call.entered.result(PATIENCE)
        yield [ProcessStorage([opening]) for opening in calls]
    finally:
        for _, call in calls:
            call.leave()
        for process, call in calls:
            if process.alive:
                call.ended.result(PATIENCE)


@atexit.register
def _close() -> None:
    for process in _processes:
        process.close()


def _gone() -> Exception:
    return ConnectionResetError("the process has ended")
