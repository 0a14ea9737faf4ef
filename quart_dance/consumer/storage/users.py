"""Whose token: from what an application gives us to an id."""

from __future__ import annotations

import inspect
import re
import uuid
from typing import Any

from .base import NOBODY
from .caller import in_caller

#: What a user's id may be.
IDS = (int, str, uuid.UUID, bytes)


async def resolve(reference: Any) -> Any:
    """Return what a reference stands for: itself, or what it returns.

    Args:
        reference: A value, a proxy, a function or a coroutine function.
    """
    for _ in range(8):  # a coroutine function may return a proxy, and so on
        # First of all: a LocalProxy of anything passes for awaitable and callable.
        if hasattr(reference, "_get_current_object"):
            reference = await in_caller(reference._get_current_object)
        elif inspect.isawaitable(reference):
            reference = await reference
        elif callable(reference) and not isinstance(reference, type):
            reference = await in_caller(reference)
        else:
            break
    return reference


async def chosen(
    own_user: Any, own_user_id: Any, user: Any, user_id: Any
) -> tuple[Any, Any]:
    """Return the user and the id that count, at most one of them not None.

    Who is named explicitly comes before the storage's own, and an id before a user.

    Args:
        own_user: A reference, as the storage was given it.
        own_user_id: Likewise.
        user: Who is named, or None.
        user_id: Likewise.
    """
    if user is None and user_id is None:
        if own_user_id is not None:
            return None, await resolve(own_user_id)
        return await resolve(own_user), None
    return (user if user_id is None else None), user_id


def key_of(user: Any, anon_user: type | None = None) -> Any:
    """Return the id of a user object that is not a model's, or None for nobody.

    Known are Quart-Auth's users (`auth_id`), Flask-Login's (`get_id()`), and anything
    with an `id`.

    Raises:
        TypeError: It is none of these.
    """
    if user is None or user is NOBODY or (anon_user and isinstance(user, anon_user)):
        return None
    if getattr(user, "is_anonymous", False) is True:
        return None
    if hasattr(user, "auth_id"):
        return user.auth_id
    if callable(getattr(user, "get_id", None)):
        return user.get_id()
    if hasattr(user, "id"):
        return user.id
    raise TypeError(
        f"cannot tell the id of a user of type {type(user).__name__}: pass user_id="
    )


def as_text(user_id: Any) -> str:
    """Return an id as text that `coerce` makes the same id of."""
    return user_id.hex() if isinstance(user_id, bytes) else str(user_id)


def coerce(value: Any, python_type: type) -> Any:
    """Return an id as the type of its column, exactly, or None for None.

    Raises:
        ValueError: It is empty, or not the id of anybody in such a column.
        TypeError: The column is of a type that we know no ids of.
    """
    if not issubclass(python_type, IDS):
        raise TypeError(
            f"the column of the user ids holds {python_type.__name__}; known are "
            f"{', '.join(kind.__name__ for kind in IDS)}"
        )
    if value is None or value is NOBODY:
        return None
    if value == "":
        raise ValueError("'' is no user id: pass None for nobody")
    if isinstance(value, bool):
        raise ValueError(f"{value} is no user id")
    if python_type is int and isinstance(value, str):
        # int() would also take "4_2", " 42" and digits of other scripts.
        if not re.fullmatch(r"0|-?[1-9][0-9]*", value, re.ASCII):
            raise ValueError("the user id is no whole number")
        return int(value)
    if python_type is uuid.UUID and isinstance(value, str):
        return uuid.UUID(value)
    if python_type is bytes and isinstance(value, str):
        return bytes.fromhex(value)
    if python_type is str and isinstance(value, int | uuid.UUID):
        return str(value)
    if not isinstance(value, python_type):
        raise ValueError(
            f"the user id is of type {type(value).__name__}, and its column holds "
            f"{python_type.__name__}"
        )
    return value
