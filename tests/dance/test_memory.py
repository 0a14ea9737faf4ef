"""What an application remembers for a while: threads and forks in the middle of it."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable
from itertools import count

import pytest

from quart_dance.consumer.runtime import Memory


class Key(str):
    """A key that does something when it is looked up for the nth time.

    Attributes:
        left: How many times there are until then; above 0: it has come to none.
    """

    left = 0
    do: Callable[[], object]

    def __hash__(self) -> int:
        self.left -= 1
        if self.left == 0:
            self.do()
        return super().__hash__()


class Beside:
    """Another thread, that adds a key while somebody looks one up.

    It may end at once, or wait until they have done.
    """

    def __init__(self, memory: Memory, key: str, now: float = 0.0) -> None:
        self.said: list[bool] = []
        self._thread = threading.Thread(
            target=lambda: self.said.append(memory.add(key, "theirs", now)), daemon=True
        )

    def start(self) -> None:
        self._thread.start()
        self._thread.join(0.2)

    def end(self) -> list[bool]:
        self._thread.join(10)
        return self.said


def test_remembered_once() -> None:
    """C5, S14: of two threads that add one key, one is told that it was there."""
    for number in count(1):
        memory, key = Memory(life=600), Key("x")
        beside = Beside(memory, "x")
        key.left, key.do = number, beside.start
        said = memory.add(key, "ours", 0.0)
        if key.left > 0:
            break
        assert beside.end() == [not said]
        assert memory.get("x", 0.0) == ("ours" if said else "theirs")
    assert number > 2


def test_forgotten_once() -> None:
    """S14: two threads may forget what is over at the same time."""
    for number in count(1):
        memory, key = Memory(life=600), Key("x")
        memory.add(key, 1, 0.0)
        beside = Beside(memory, "y", 1000.0)
        key.left, key.do = number, beside.start
        assert memory.add("z", 1, 1000.0)
        if key.left > 0:
            break
        assert beside.end() == [True]
        assert memory.get("y", 1000.0) == "theirs"
    assert number > 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_forked() -> None:
    """S14: a process that is forked while a thread adds a key waits for nobody."""
    memory, key = Memory(life=600), Key("x")
    inside, forked = threading.Event(), threading.Event()

    def wait() -> None:
        inside.set()
        forked.wait(10)

    key.left, key.do = 1, wait
    thread = threading.Thread(target=memory.add, args=(key, 1, 0.0))
    thread.start()
    inside.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there is a thread
        child = os.fork()
    if child == 0:
        signal.alarm(10)
        os._exit(0 if memory.add("y", 1, 0.0) else 1)
    forked.set()
    thread.join(10)
    assert os.waitpid(child, 0)[1] == 0
