"""Many visitors of one account log in for the first time, all at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from opening import opened, place_of
from sqlalchemy import text
from support import Visitor, make_app

from quart_dance.testing import DevProvider

DATABASES = ["postgresql", "mariadb", "sqlite"]


@pytest.fixture(params=[*DATABASES, *(f"{name} without indexes" for name in DATABASES)])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """Give an empty table."""
    return place_of(request.param, request, tmp_path)


@pytest.mark.parametrize("user_id", [1, None])
async def test_first_logins(place, user_id):
    """S6: 50 first logins at once are 50 successes and one row, nobody's too."""
    async with opened(**place) as shared:
        storage: Any = shared
        storage.user_id = user_id
        provider = DevProvider()
        app, _ = make_app(provider, storage=storage)
        visitors = [Visitor(app) for _ in range(50)]
        begun = [await visitor.start() for visitor in visitors]
        callbacks = [await provider.approve(url, person="alice") for url in begun]
        answers = await asyncio.gather(
            *(v.get(url) for v, url in zip(visitors, callbacks, strict=True))
        )
        assert Counter(answer.status_code for answer in answers) == {302: 50}
        assert provider.count("token") == 50
        async with storage.session.connect() as connection:
            found = await connection.execute(
                text("SELECT provider, user_id FROM flask_dance_oauth")
            )
            assert [tuple(row) for row in found] == [("dev", user_id)]
        issued = {record.access_token for record in provider.tokens}
        token = await storage.get(make_app(provider)[1])
        assert token["access_token"] in issued
        response = await visitors[0].get("/me")
        assert await response.get_data(as_text=True) == "alice"
        assert storage.session.pool.checkedout() == 0
