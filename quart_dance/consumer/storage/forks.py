"""What a process has of the one that has forked it."""

from __future__ import annotations

import os
from contextlib import suppress


class UsedBeforeForkError(RuntimeError):
    """What this process wants to use belongs to the one that has forked it."""


class ProcessBound:
    """What belongs to the process that uses it first.

    Its connections cannot be told from here to stay with the parent. A child that used
    them would take the parent's answers, and the parent the child's.

    Args:
        what: How to name it in an error.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._process: int | None = None

    def check(self) -> None:
        """See that this is the process, before anything is sent.

        Raises:
            UsedBeforeForkError: It has been forked from the one that is.
        """
        here = os.getpid()
        self._process = self._process or here
        if self._process != here:
            raise UsedBeforeForkError(
                f"{self._what} was used before this process was forked: make another "
                "one here, or use it for the first time after the fork"
            )


def leave(thing: object) -> None:
    """Never collect something that is the parent's.

    Its finalizers would close connections that the parent uses, or warn that nobody
    has closed them. Nor at the end of the process, so no list will do.
    """
    with suppress(ImportError, AttributeError):  # an interpreter without it
        from ctypes import py_object, pythonapi

        pythonapi.Py_IncRef(py_object(thing))
