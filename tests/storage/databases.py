"""What the tests of storages in databases share: models, files, counted statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import ForeignKey, String, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin

GITHUB = OAuth2ConsumerBlueprint("github", __name__)
GOOGLE = OAuth2ConsumerBlueprint("google", __name__)

#: A token table as Flask-Dance 7.1 makes it.
FLASK_DANCE_TABLE = """
CREATE TABLE flask_dance_oauth (
    user_id INTEGER,
    id INTEGER NOT NULL,
    provider VARCHAR(50) NOT NULL,
    created_at DATETIME NOT NULL,
    token JSON NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY(user_id) REFERENCES user (id)
)
"""


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(50))


class OAuth(OAuthConsumerMixin, Base):
    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id))
    user: Mapped[User | None] = relationship()


class PlainBase(DeclarativeBase):
    pass


class PlainOAuth(OAuthConsumerMixin, PlainBase):
    pass


def token(access_token: str, **more: Any) -> dict[str, Any]:
    """Return a token."""
    return {"access_token": access_token, **more}


@asynccontextmanager
async def database(
    path: Path, base: type[DeclarativeBase] | None = Base, **options: Any
) -> AsyncIterator[AsyncEngine]:
    """Open a file as a database, with the tables of a declarative base.

    Nothing is synced to the disk: what a power cut does is SQLite's business.
    """
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}", **options)

    @event.listens_for(engine.sync_engine, "connect")
    def never_sync(connection: Any, record: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    try:
        if base is not None:
            async with engine.begin() as connection:
                await connection.run_sync(base.metadata.create_all)
        yield engine
    finally:
        await engine.dispose()


async def execute(engine: AsyncEngine, statement: str, **values: Any) -> list[Any]:
    """Run one statement in a transaction of its own and return what it returns."""
    async with engine.begin() as connection:
        result = await connection.execute(text(statement), values)
        return list(result.all()) if result.returns_rows else []


async def make_flask_dance_table(engine: AsyncEngine) -> None:
    """Make a token table without our indexes."""
    await execute(engine, "CREATE TABLE user (id INTEGER PRIMARY KEY, name VARCHAR)")
    await execute(engine, FLASK_DANCE_TABLE)


async def add_row(
    engine: AsyncEngine,
    access_token: str,
    *,
    user_id: int | None = None,
    at: str = "2024-01-01 00:00:00.000000",
    provider: str = "github",
) -> None:
    """Put a row into the table as Flask-Dance does, without asking for the others."""
    await execute(
        engine,
        "INSERT INTO flask_dance_oauth (provider, created_at, token, user_id)"
        " VALUES (:provider, :at, :token, :user_id)",
        provider=provider,
        at=at,
        token=f'{{"access_token": "{access_token}"}}',
        user_id=user_id,
    )


async def rows(engine: AsyncEngine) -> list[Any]:
    """Return provider, user and access token of every row."""
    return await execute(
        engine,
        "SELECT provider, user_id, json_extract(token, '$.access_token')"
        " FROM flask_dance_oauth ORDER BY id",
    )


async def add_users(engine: AsyncEngine, *names: str) -> list[User]:
    """Add users and return them, detached and loaded."""
    users = [User(name=name) for name in names]
    async with async_sessionmaker(engine, expire_on_commit=False)() as session:
        session.add_all(users)
        await session.commit()
    return users


@contextmanager
def statements(engine: AsyncEngine) -> Iterator[list[str]]:
    """Collect the statements that an engine sends."""
    sent: list[str] = []

    def keep(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine.sync_engine, "before_cursor_execute", keep)
    try:
        yield sent
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", keep)


class DictCache:
    """A cache over a dict, with a network in between, that never forgets by itself.

    Attributes:
        values: What it holds.
        ttls: For how many seconds.
        failing: Operations that raise, as where the server is down.
        hanging: Operations that never end.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.ttls: dict[str, float] = {}
        self.failing: set[str] = set()
        self.hanging: set[str] = set()

    async def get(self, key: str) -> Any:
        await self._operate("get")
        return self.values.get(key)

    async def set(self, key: str, value: Any, *, ttl: int) -> bool:
        await self._operate("set")
        self.values[key], self.ttls[key] = value, ttl
        return True

    async def add(self, key: str, value: Any, *, ttl: int) -> bool:
        await self._operate("add")
        if key in self.values:
            raise ValueError(f"Key {key} already exists, use .set to update the value")
        self.values[key], self.ttls[key] = value, ttl
        return True

    def end(self, seconds: float) -> None:
        """Let so much time pass: forget what was to be kept for no longer."""
        for key, ttl in list(self.ttls.items()):
            self.ttls[key] = ttl - seconds
            if ttl <= seconds:
                del self.values[key], self.ttls[key]

    async def _operate(self, operation: str) -> None:
        if operation in self.failing:
            raise ConnectionError("the cache is down")
        if operation in self.hanging:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
