"""A large table is upgraded in a few statements, whatever is in it."""

from __future__ import annotations

import time

import pytest
from databases import statements
from old_tables import DATABASES, OLD, USER, add, opened, run, tokens, url_of
from sqlalchemy import func, insert, select

from quart_dance.consumer.storage.upgrade import upgrade

pytestmark = pytest.mark.slow

ACCOUNTS = 50_000


@pytest.mark.parametrize("kind", DATABASES)
async def test_100_000_rows(kind, request, tmp_path):
    """Of 100,000 rows the newer half stays, and no row is asked for by itself."""
    async with opened(url_of(kind, request, tmp_path)) as engine:
        users = [{"id": n} for n in range(10, ACCOUNTS + 10)]
        await run(engine, lambda connection: connection.execute(insert(USER), users))
        for day, name in ((2, "new"), (1, "old")):
            await add(engine, *((user["id"], name, day) for user in users))
        with statements(engine) as sent:
            begun = time.monotonic()
            done = await run(engine, lambda connection: upgrade(connection, OLD.name))
            seconds = time.monotonic() - begun
        assert len(done.surplus) == ACCOUNTS
        assert len(sent) < 100
        assert seconds < 60
        query = select(func.count()).select_from(OLD)
        assert await run(engine, lambda c: c.scalar(query)) == ACCOUNTS
        assert {row[2] for row in await tokens(engine)} == {"new"}
