"""Tables as Flask-Dance 7.1 makes them, on each database, with rows in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import pytest
from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from quart_dance.consumer.storage.upgrade import plan, upgrade
from quart_dance.errors import UpgradeError

T = TypeVar("T")
DATABASES = ["sqlite", "postgresql", "mariadb"]
START, DAY = datetime(2024, 1, 1), timedelta(days=1)

#: What says that somebody waits for a lock in this database.
WAITING = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "mysql": "SELECT count(*) FROM information_schema.processlist AS p "
    "LEFT JOIN information_schema.innodb_trx AS t ON t.trx_mysql_thread_id = p.id "
    "WHERE p.db = database() "
    "AND (p.state LIKE 'Waiting for table%' OR t.trx_state = 'LOCK WAIT')",
}

metadata = MetaData()
USER = Table("user", metadata, Column("id", Integer, primary_key=True))


def flask_dance_columns() -> list[Column[Any]]:
    """Return what Flask-Dance's mixin brings."""
    return [
        Column("id", Integer, primary_key=True),
        Column("provider", String(50), nullable=False),
        Column("created_at", DateTime, nullable=False),
        Column("token", JSON, nullable=False),
    ]


#: With users, and a column of the application's own.
OLD = Table(
    "flask_dance_oauth",
    metadata,
    *flask_dance_columns(),
    Column("user_id", ForeignKey(USER.c.id)),
    Column("note", String(50)),
)
#: Without users.
OLD_SHARED = Table("flask_dance_plain", metadata, *flask_dance_columns())


async def made(
    engine: AsyncEngine, *columns: Any, name: str = "odd", schema: str | None = None
) -> Table:
    """Make a table that is like Flask-Dance's, or not."""
    own = MetaData()
    USER.to_metadata(own)
    OLD.to_metadata(own)
    table = Table(name, own, *columns, schema=schema)
    await run(engine, own.create_all)
    return table


async def refused(engine: AsyncEngine, table: str = OLD.name, **options: Any) -> str:
    """Return why a table is refused, by the plan and by the upgrade alike."""
    said = []
    for work in (plan, upgrade):
        with pytest.raises(UpgradeError) as caught:
            await run(engine, partial(work, table=table, **options))
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    return said[0]


def url_of(kind: str, request: pytest.FixtureRequest, folder: Any) -> str:
    """Return the URL of an empty database."""
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{folder}/tokens.db"
    return str(request.getfixturevalue(f"{kind}_url"))


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[AsyncEngine]:
    """Open a database."""
    engine = create_async_engine(url)
    try:
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[AsyncEngine]:
    """Open an empty database, with the old tables, and users 1 to 9."""
    async with connected(url) as engine:
        users = [{"id": number} for number in range(1, 10)]
        await run(engine, metadata.create_all)
        await run(engine, lambda connection: connection.execute(insert(USER), users))
        yield engine


async def run(engine: AsyncEngine, work: Callable[[Connection], T]) -> T:
    """Run something in a transaction of its own."""
    async with engine.begin() as connection:
        return await connection.run_sync(work)


async def add(
    engine: AsyncEngine, *rows: tuple[Any, ...], provider: str = "github"
) -> None:
    """Add rows to OLD: whose they are, the access token, and on which day."""
    values = [
        {
            "provider": provider,
            "user_id": user,
            "token": {"access_token": token},
            "created_at": START + day * DAY,
        }
        for user, token, day in rows
    ]
    await run(engine, lambda connection: connection.execute(insert(OLD), values))


async def tokens(engine: AsyncEngine, table: Table = OLD) -> list[tuple[Any, ...]]:
    """Return the rows in the order of their ids: provider, user, access token."""
    user = [] if table is OLD_SHARED else [table.c.user_id]
    query = select(table.c.provider, *user, table.c.token).order_by(table.c.id)
    found = await run(engine, lambda connection: connection.execute(query).all())
    return [(*row[:-1], dict(row[-1])["access_token"]) for row in found]
