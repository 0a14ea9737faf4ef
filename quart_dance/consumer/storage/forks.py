"""What a process has of the one that has forked it."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar
from weakref import ref

T = TypeVar("T")


class UsedBeforeForkError(RuntimeError):
    """What this process wants to use belongs to the one that has forked it."""


class _Used(NamedTuple):
    """What has connections, the process they belong to, and how a child leaves them."""

    thing: Callable[[], Any]
    process: int
    leave: Callable[[Any], object]


#: By the id of each: clients may be without a hash, or equal to others.
_used: dict[int, _Used] = {}


def leave(thing: object) -> None:
    """Never collect something that is the parent's.

    Its finalizers would close connections that the parent uses, or warn that nobody
    has closed them. Nor at the end of the process, so no list will do.
    """
    with suppress(ImportError, AttributeError):  # an interpreter without it
        from ctypes import py_object, pythonapi

        pythonapi.Py_IncRef(py_object(thing))


def is_ours(thing: T, leave: Callable[[T], object] = leave) -> bool:
    """Say whether this process has used something first, or is about to.

    Args:
        thing: What has connections itself, not what only uses it: others may, too.
        leave: What a forked process does with it at once. A child that only threw it
            away would close connections that the parent uses.
    """
    here, used = os.getpid(), _used.get(id(thing))
    if used is None or used.thing() is not thing:
        used = _used[id(thing)] = _Used(_weakly(thing), here, leave)
    return used.process == here


def make_ours(thing: object) -> None:
    """Let something be this process's, now that it has connections of its own."""
    _used[id(thing)] = _used[id(thing)]._replace(process=os.getpid())


def check_ours(what: str, *things: object) -> None:
    """See that something is not the parent's, before anything is sent.

    Its connections cannot be told from here to stay with the parent. A child that used
    them would take the parent's answers, and the parent the child's.

    Args:
        what: How to name it in an error.
        things: It, and what else has its connections.

    Raises:
        UsedBeforeForkError: This process has been forked from the one that uses it.
    """
    if not all([is_ours(thing) for thing in things]):  # not one is to go unnoticed
        raise UsedBeforeForkError(
            f"{what} was used before this process was forked: make another one here, "
            "or use it for the first time after the fork"
        )


def _weakly(thing: object) -> Callable[[], Any]:
    key = id(thing)
    try:
        return ref(thing, lambda _: _used.pop(key, None))
    except TypeError:  # made without room for that: it stays, and so does its id
        return lambda: thing


def _leave_all() -> None:
    for used in list(_used.values()):
        if (thing := used.thing()) is not None:
            used.leave(thing)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
