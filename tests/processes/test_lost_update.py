"""Two refreshes of one token that know nothing of each other, as without a lease."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from opening import opened, place_of
from sqlalchemy import event
from sqlalchemy.util import await_only

OWNER = SimpleNamespace(name="dev")
DATABASES = ["postgresql", "mariadb", "sqlite"]


@pytest.fixture(params=[*DATABASES, *(f"{name} without indexes" for name in DATABASES)])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """Give an empty table."""
    return place_of(request.param, request, tmp_path)


@pytest.mark.parametrize(
    "late", [{"access_token": "late"}, None], ids=["set", "delete"]
)
async def test_lost_update(place, late):
    """S9: Who has read before another one wrote is told so, and changes nothing.

    The other one writes after the late one's reading, before its own statement.
    """
    # A collation may take them for the same.
    old, new = {"access_token": "token"}, {"access_token": "Token"}
    async with opened(**place) as one, opened(**place) as other:
        storage: Any = one
        winner: Any = other
        await storage.set(OWNER, old, user_id=1)
        overtaken = []

        @event.listens_for(storage.session.sync_engine, "before_cursor_execute")
        def overtake(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(("UPDATE flask", "DELETE FROM flask")):
                if not overtaken:
                    overtaken.append(statement)
                    assert await_only(winner.replace(OWNER, old, new, user_id=1))

        assert await storage.replace(OWNER, old, late, user_id=1) is False
        assert len(overtaken) == 1
        assert await storage.reread(OWNER, user_id=1) == new
