"""The calls that are under way; forks, and the process's end, wait for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, get_ident

#: Seconds that they wait at most.
PATIENCE = 3.0


class Gate:
    """Lets calls in, but not while the process forks, nor at its end.

    A child has what the parent had in memory, half of a transaction too. SQLite's
    library keeps the locks of its process there: a child that believes them to be its
    own finds the database locked, for ever.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._inside: set[int] = set()
        self._closed_by: list[int] = []

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Be inside; a thread that is inside already may always enter.

        Raises:
            RuntimeError: This thread itself keeps the gate closed.
        """
        me = get_ident()
        if me in self._inside:
            yield
            return
        with self._changed:
            if me in self._closed_by:
                raise RuntimeError(
                    "the process ends, or forks: async storages are of no use to this "
                    "thread any more"
                )
            self._changed.wait_for(lambda: not self._closed_by)
            self._inside.add(me)
        try:
            yield
        finally:
            with self._changed:
                self._inside.discard(me)
                self._changed.notify_all()

    def close(self) -> None:
        """Let nobody in any more, and wait until the others are out."""
        me = get_ident()
        with self._changed:
            self._closed_by.append(me)
            self._changed.wait_for(lambda: self._inside <= {me}, PATIENCE)

    def open(self) -> None:
        """Let others in again."""
        with self._changed:
            self._closed_by.remove(get_ident())
            self._changed.notify_all()
