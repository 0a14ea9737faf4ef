"""What a process has of the one that has forked it."""

from __future__ import annotations

from contextlib import suppress


def leave(thing: object) -> None:
    """Never collect something that is the parent's.

    Its finalizers would close connections that the parent uses, or warn that nobody
    has closed them. Nor at the end of the process, so no list will do.
    """
    with suppress(ImportError, AttributeError):  # an interpreter without it
        from ctypes import py_object, pythonapi

        pythonapi.Py_IncRef(py_object(thing))
