"""A process that opens storages and does with them what it is told.

`quart_dance.testing.processes` starts it and speaks with it, in pickles over two pipes.
Told is ``(number, verb, arguments)``; each answer repeats the number:

- ``open``, ``lock`` and ``call`` begin a task of that number, which ends with an answer
  `RETURNED` or `RAISED`. What ``open`` and ``lock`` enter they answer with `ENTERED`,
  and leave it when they are told to;
- ``leave`` ends the body of such a task, with an error or without;
- ``cancel`` cancels a task.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
import traceback
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from functools import partial
from pkgutil import resolve_name
from types import SimpleNamespace
from typing import IO, Any

from .. import errors

ENTERED, RETURNED, RAISED = "entered", "returned", "raised"


class Worker:
    """Carries out what arrives on one pipe, and answers on another one."""

    def __init__(self, told: IO[bytes], answers: IO[bytes]) -> None:
        self._told = told
        self._answers = answers
        self._storages: dict[int, Any] = {}
        #: Each task, and the number of the storage that it works on.
        self._tasks: dict[int, tuple[asyncio.Task[Any], object]] = {}
        self._leaving: dict[int, asyncio.Future[None]] = {}

    async def serve(self) -> None:
        """Work until the pipe is closed, and close then what is open."""
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def listen() -> None:
            try:
                while True:
                    message = pickle.load(self._told)
                    loop.call_soon_threadsafe(self._hear, *message)
            except EOFError:
                pass
            finally:
                loop.call_soon_threadsafe(over.set)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        await over.wait()
        thread.join()
        await self._end(None)

    def _hear(self, number: int, verb: str, *arguments: Any) -> None:
        if verb in ("open", "lock", "call"):
            task = asyncio.create_task(getattr(self, f"_{verb}")(number, *arguments))
            # What is opened works on nothing that was opened.
            self._tasks[number] = task, None if verb == "open" else arguments[0]
            task.add_done_callback(partial(self._answer, number))
        elif number not in self._tasks:
            pass  # it has ended by itself meanwhile
        elif verb == "cancel":
            self._tasks[number][0].cancel()
        else:
            self._leave(number, *arguments)

    def _leave(self, number: int, error: BaseException | None = None) -> None:
        leaving = self._leaving.get(number)
        if leaving is None or leaving.done():
            return
        if error is None:
            leaving.set_result(None)
        else:
            leaving.set_exception(error)

    def _answer(self, number: int, task: asyncio.Task[Any]) -> None:
        del self._tasks[number]
        if task.cancelled():
            self._send(number, RAISED, RuntimeError("it was cancelled"))
        elif (error := task.exception()) is not None:
            self._send(number, RAISED, portable(error))
        else:
            self._send(number, RETURNED, task.result())

    def _send(self, number: int, kind: str, value: Any) -> None:
        try:
            data = pickle.dumps((number, kind, value))
        except Exception as error:
            data = pickle.dumps((number, RAISED, portable(error)))
        with suppress(BrokenPipeError):  # nobody is there any more
            self._answers.write(data)
            self._answers.flush()

    async def _open(self, number: int, opens: str, place: Mapping[str, Any]) -> None:
        try:
            opener = resolve_name(opens)
        except (ImportError, AttributeError, ValueError) as error:
            problem = f"a new process cannot import opens = {opens!r}: {error}"
            raise ImportError(problem) from error
        async with AsyncExitStack() as stack:
            storage = opener(**place)
            if hasattr(storage, "__aenter__"):
                storage = await stack.enter_async_context(storage)
            elif inspect.isawaitable(storage):
                storage = await storage
            self._storages[number] = storage
            try:
                await self._stay(number)
            finally:
                await self._end(number)  # what a test has left behind
                del self._storages[number]

    async def _lock(self, number: int, storage: int, owner: str, who: Any) -> None:
        blueprint = SimpleNamespace(name=owner)
        async with self._storages[storage].refresh_lock(blueprint, **who):
            await self._stay(number)

    async def _call(
        self, number: int, storage: int, method: str, args: Any, kwargs: Any
    ) -> Any:
        result = getattr(self._storages[storage], method)(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def _stay(self, number: int) -> None:
        """Stay inside of what was entered until told to leave it."""
        leaving = asyncio.get_running_loop().create_future()
        self._leaving[number] = leaving
        self._send(number, ENTERED, None)
        try:
            await leaving
        finally:
            del self._leaving[number]

    async def _end(self, storage: int | None) -> None:
        """End all tasks that work on a storage; None opens them, and ends with them."""
        tasks = [task for task, of in self._tasks.values() if of == storage]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def portable(error: BaseException) -> Exception:
    """Return an error of the same type that can be pickled, with the same text.

    Of a type that only some library knows becomes the nearest one that everybody
    does; its text then names it.
    """
    found = _same(error)
    found.add_note("In another process:\n" + "".join(traceback.format_exception(error)))
    return found


def _same(error: BaseException) -> Exception:
    for kind in type(error).__mro__:
        if kind.__module__ not in ("builtins", errors.__name__):
            continue
        said: list[Any] = [f"{type(error).__name__}: {error}"]
        if kind is type(error):
            said = [each if isinstance(each, int) else str(each) for each in error.args]
        with suppress(Exception):  # it takes other arguments
            found: object = kind(*said)
            if isinstance(found, Exception):
                return found
    return RuntimeError(f"{type(error).__name__}: {error}")


def main() -> None:
    """Serve on standard input and output; whatever else is printed is for people."""
    answers = os.dup(1)
    os.dup2(2, 1)
    with suppress(BrokenPipeError), os.fdopen(answers, "wb") as out:
        with os.fdopen(0, "rb") as told:
            asyncio.run(Worker(told, out).serve())


if __name__ == "__main__":
    main()
