"""The calls that are under way, and forks, which wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, get_ident

#: Seconds that a fork waits at most.
PATIENCE = 3.0


class Gate:
    """Lets calls in, but not while the process forks.

    A child has what the parent had in memory, half of a transaction too. SQLite's
    library keeps the locks of its process there: a child that believes them to be its
    own finds the database locked, for ever.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside: set[int] = set()
        self._forks = 0

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside; a thread that is inside already may always enter."""
        me = get_ident()
        if me in self._inside:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._forks)
            self._inside.add(me)
        try:
            yield
        finally:
            with self._changed:
                self._inside.discard(me)
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and wait until the others are out."""
        me = {get_ident()}
        with self._changed:
            self._forks += 1
            self._changed.wait_for(lambda: self._inside <= me, PATIENCE)

    def open(self) -> None:
        """Let others in again."""
        with self._changed:
            self._forks -= 1
            self._changed.notify_all()
