"""Whether what happened at once could have happened one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage


@dataclass(frozen=True)
class Event:
    """Something that was done to one account's token, and what came of it.

    Attributes:
        began: When, by a clock that counts events.
        ended: Likewise.
        kind: "read", "write" (also of None), or "swap" for compare-and-swap.
        old: What a swap was to find.
        new: What was written.
        result: What was read, or whether a swap was made.
    """

    began: int
    ended: int
    kind: str
    old: str | None
    new: str | None
    result: str | bool | None

    def after(self, stored: str | None) -> tuple[bool, str | None]:
        """Say whether this fits what was stored, and what is stored then."""
        if self.kind == "read":
            return self.result == stored, stored
        if self.kind == "write":
            return True, self.new
        swapped = stored is not None and stored == self.old
        return swapped == self.result, self.new if swapped else stored


def final_states(events: Sequence[Event], stored: str | None) -> set[str | None]:
    """Return what may be stored at the end; nothing if no order of events fits."""
    states: set[str | None] = set()
    seen = set()
    todo = [(frozenset(range(len(events))), stored)]
    while todo:
        left, stored = todo.pop()
        if (left, stored) in seen:
            continue
        seen.add((left, stored))
        if not left:
            states.add(stored)
            continue
        first_end = min(events[index].ended for index in left)
        for index in left:
            if events[index].began <= first_end:
                fits, then = events[index].after(stored)
                if fits:
                    todo.append((left - {index}, then))
    return states


class RecordedStorage(SQLAlchemyStorage):
    """A storage in a database that writes down what is done, for each account.

    Attributes:
        events: By account.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.events: dict[str | None, list[Event]] = {}
        self._now = 0

    def _tick(self) -> int:
        self._now += 1
        return self._now

    async def _record(self, call: Any, who: Any, kind: str, old: Any, new: Any) -> Any:
        account = await super().account(None, **who)
        began = self._tick()
        result = await call
        brief = result if kind == "swap" else _name(result)
        event = Event(began, self._tick(), kind, _name(old), _name(new), brief)
        self.events.setdefault(account, []).append(event)
        return result

    async def get(self, blueprint: Any, **who: Any) -> Any:
        call = super().get(blueprint, **who)
        return await self._record(call, who, "read", None, None)

    async def reread(self, blueprint: Any, **who: Any) -> Any:
        call = super().reread(blueprint, **who)
        return await self._record(call, who, "read", None, None)

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        call = super().set(blueprint, token, **who)
        await self._record(call, who, "write", None, token)

    async def delete(self, blueprint: Any, **who: Any) -> None:
        call = super().delete(blueprint, **who)
        await self._record(call, who, "write", None, None)

    async def replace(self, blueprint: Any, old: Any, new: Any, **who: Any) -> bool:
        call = super().replace(blueprint, old, new, **who)
        return bool(await self._record(call, who, "swap", old, new))


def _name(token: Mapping[str, Any] | None) -> str | None:
    return None if token is None else str(token["access_token"])
