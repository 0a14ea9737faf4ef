"""Many writers to one SQLite file, which takes one at a time."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from functools import partial

import pytest
from databases import GITHUB, OAuth, database, token
from sqlalchemy import event

from quart_dance.consumer.storage import table
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError


async def test_writers_take_turns(tmp_path):
    """S8: All writers at once succeed, although SQLite would have none wait."""
    path = tmp_path / "tokens.db"
    async with database(path, pool_size=32, connect_args={"timeout": 0}) as engine:
        storage = SQLAlchemyStorage(OAuth, engine)

        await storage.set(
            GITHUB, token("old"), user_id=1
        )  # and the table has been looked at

        async def work(user: int) -> None:
            await storage.set(GITHUB, token(f"of-{user}"), user_id=user)
            if user % 2:
                await storage.delete(GITHUB, user_id=user)

        await asyncio.gather(*(work(user) for user in range(32)))
        for user in range(32):
            kept = None if user % 2 else token(f"of-{user}")
            assert await storage.get(GITHUB, user_id=user) == kept
        assert engine.pool.checkedout() == 0


async def test_a_writer_in_another_process(tmp_path, monkeypatch):
    """S8: One that does not end costs each its own patience, and not all others'."""
    monkeypatch.setattr(table, "PATIENCE", 0.01)
    path = tmp_path / "tokens.db"
    async with database(path, connect_args={"timeout": 0.3}) as engine:
        storage, seen = SQLAlchemyStorage(OAuth, engine), []
        await storage.set(GITHUB, token("old"), user_id=1)
        listen = partial(event.listen, engine.sync_engine)
        listen("before_cursor_execute", lambda *args: seen.append("begun"))
        listen("handle_error", lambda context: seen.append("failed"))

        async def work(user: int) -> None:
            with pytest.raises(StorageError, match="locked"):
                await storage.set(GITHUB, token("new"), user_id=user)

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await asyncio.gather(*(work(user) for user in range(1, 4)))
            assert seen[:2] == ["begun", "begun"]
            assert await storage.get(GITHUB, user_id=1) == token("old")
        await storage.set(GITHUB, token("new"), user_id=1)
        assert await storage.get(GITHUB, user_id=1) == token("new")
