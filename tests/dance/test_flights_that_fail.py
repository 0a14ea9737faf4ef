"""A refresh that fails for several who wait: each gets an error of their own."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scheduler import Scheduler
from support import REFRESHABLE, Transport, make_api_app

from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import OAuthError, StorageError, TokenRequestError


class TeapotError(OAuthError):
    """An error whose constructor takes something else than what it says."""

    def __new__(cls, *, ounces: int) -> TeapotError:
        return super().__new__(cls)

    def __init__(self, *, ounces: int) -> None:
        super().__init__(f"{ounces} oz of tea")
        self.ounces = ounces


ERRORS = {
    "a provider's": lambda: TokenRequestError(
        "server_error", "down", status_code=503, retry_after=7
    ),
    "a subclass's": lambda: TeapotError(ounces=8),
}


class Locked(MemoryStorage):
    """A storage whose refresh lock fails, once a gate has been opened."""

    def __init__(self, error: Exception) -> None:
        super().__init__({**REFRESHABLE, "expires_at": 1})
        self.error = error
        self.gate = asyncio.Event()
        self.entered = 0

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Any, **who: Any) -> AsyncIterator[None]:
        self.entered += 1
        await self.gate.wait()
        try:
            raise KeyError("what the storage met")
        except KeyError as cause:
            raise self.error from cause
        yield


def fail(error: Exception, count: int = 3) -> list[tuple[int, Any, dict[str, Any]]]:
    """Return who catches what, with which attributes, where several wait.

    Each does something to the error before the next one gets it.
    """
    schedule, storage = Scheduler(0), Locked(error)
    app, blueprint, _ = make_api_app(Transport(), {}, storage=storage)
    caught: list[tuple[int, Any, dict[str, Any]]] = []

    async def call(visitor: int) -> None:
        async with app.app_context():
            try:
                await blueprint.session.get("user")
            except Exception as caught_here:
                found: Any = caught_here
                caught.append((visitor, found, vars(found).copy()))
                found.blueprint = None
                found.add_note(f"by {visitor}")

    async def main() -> None:
        calls = [asyncio.create_task(call(visitor)) for visitor in range(count)]
        await schedule.park()
        assert storage.entered == 1
        storage.gate.set()
        await asyncio.gather(*calls)

    schedule.run(main())
    return caught


@pytest.mark.parametrize("kind", ERRORS)
def test_each_gets_the_same_error(kind):
    """F2, L2: of one type, with the same arguments, attributes and text."""
    raised: Any = ERRORS[kind]()
    raised.blueprint = object()
    caught = fail(raised)
    assert [visitor for visitor, _, _ in caught] == [0, 1, 2]
    for _, error, attributes in caught:
        assert type(error) is type(raised)
        assert (str(error), repr(error)) == (str(raised), repr(raised))
        assert error.args == raised.args
        assert attributes == vars(raised)


def frames(error: BaseException) -> list[str]:
    """Return the names of the functions that a traceback shows."""
    return [found.name for found in traceback.extract_tb(error.__traceback__)]


def visitors(error: BaseException) -> list[int]:
    """Return whose calls a traceback shows, with what is in their variables."""
    shown = [frame.f_locals for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [found["visitor"] for found in shown if "visitor" in found]


def test_nobody_sees_the_call_of_another():
    """L3, S15: a traceback shows one visitor's frames, and no error is another's."""
    raised = StorageError("locked")
    raised.add_note("by the storage")
    caught = fail(raised)
    assert len({id(error) for _, error, _ in caught}) == 3
    for visitor, error, _ in caught:
        assert visitors(error) == [visitor]
        assert error.__notes__ == ["by the storage", f"by {visitor}"]


def test_where_it_was_raised():
    """L3: that sees only the one whose storage's frames they are, cause and all."""
    (_, first, _), *others = fail(StorageError("locked"))
    assert frames(first)[-1] == "refresh_lock"
    assert isinstance(first.__cause__, KeyError) and first.__suppress_context__
    for _, error, _ in others:
        assert "refresh_lock" not in frames(error)
        assert (error.__cause__, error.__context__) == (None, None)
