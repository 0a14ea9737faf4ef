"""The token tables of the benchmark, and where they stand."""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import sites
from flask_dance.consumer.storage.sqla import OAuthConsumerMixin as FlaskDanceMixin
from sqlalchemy import JSON, Column, Integer, String, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer.storage.sqla import OAuthConsumerMixin

#: What is stored, about as long as a token of GitHub or Google.
TOKEN: dict[str, Any] = {
    "access_token": "gho_" + 36 * "a",
    "token_type": "bearer",
    "refresh_token": "ghr_" + 76 * "r",
    "scope": ["repo", "user:email"],
    "expires_in": 28800,
    "expires_at": 4102444800.0,
}
#: The databases whose usual place is known, besides "sqlite".
SERVERS = {"postgresql": sites.POSTGRESQL, "mariadb": sites.MARIADB}


class Base(DeclarativeBase):
    """The tables."""


class OAuth(OAuthConsumerMixin, Base):
    """Tokens of users, with our indexes."""

    user_id: Mapped[int | None] = mapped_column()


class Unindexed(Base):
    """Tokens of users, with the columns and without the indexes."""

    __tablename__ = "unindexed"
    id: Mapped[int] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(String(50))
    created_at: Mapped[datetime] = mapped_column()
    token: Mapped[dict[str, Any]] = mapped_column(JSON)
    user_id: Mapped[int | None] = mapped_column()


class Few(OAuthConsumerMixin, Base):
    """The smaller table of the comparison of sizes."""

    user_id: Mapped[int | None] = mapped_column()


class Many(OAuthConsumerMixin, Base):
    """The larger one."""

    user_id: Mapped[int | None] = mapped_column()


class FlaskDanceBase(DeclarativeBase):
    """The same tables, as Flask-Dance sees them."""


class FlaskDanceOAuth(FlaskDanceMixin, FlaskDanceBase):
    """The table of `OAuth`."""

    __tablename__ = "flask_dance_oauth"
    user_id = Column(Integer)


def at_hand() -> list[str]:
    """Return the databases whose servers answer at their usual place."""
    return ["sqlite"] + [
        name for name, usual in SERVERS.items() if any(s.answers() for s in usual)
    ]


@contextmanager
def place_of(database: str) -> Iterator[str]:
    """Give the URL of an empty database, and remove the database in the end.

    Args:
        database: "sqlite", one of `SERVERS`, or a URL, which is given back.

    Raises:
        LookupError: No such server answers at its usual place.
    """
    name = f"quart_dance_{secrets.token_hex(6)}"
    if database == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite+aiosqlite:///{Path(folder) / 'tokens.db'}"
        return
    if database not in SERVERS:
        yield database
        return
    for site in SERVERS[database]:
        if site.answers():
            site.clear(name)
            try:
                yield site.url(name)
            finally:
                site.remove(name)
            return
    raise LookupError(f"no {database} answers at its usual place")


async def make(engine: AsyncEngine) -> None:
    """Make the tables, empty ones."""
    await drop(engine)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def drop(engine: AsyncEngine) -> None:
    """Drop the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.drop_all)


async def fill(engine: AsyncEngine, model: type[Any], count: int) -> None:
    """Give the users from 1 to `count` a token each; only PostgreSQL can."""
    table = model.__tablename__
    columns = "provider, user_id, created_at, token"
    values = "'bench', n, now(), CAST(:token AS json)"
    source = f"generate_series(1, {count}) AS n"
    statement = f"INSERT INTO {table} ({columns}) SELECT {values} FROM {source}"
    async with engine.begin() as connection:
        await connection.execute(text(statement), {"token": json.dumps(TOKEN)})
        await connection.execute(text(f"ANALYZE {table}"))
