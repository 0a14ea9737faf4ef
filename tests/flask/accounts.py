"""Storages that are alike under Quart and under Flask, and tokens to put there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import flask
from quart import session
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from quart_dance.consumer import storage as async_storage
from quart_dance.consumer.storage import sqla as async_sqla
from quart_dance.errors import UserRequiredError
from quart_dance.flask.consumer import storage as sync_storage
from quart_dance.flask.consumer.storage import sqla as sync_sqla

#: A token that was there before.
OLD = {"access_token": "an-older-token", "token_type": "bearer"}
#: More than a cookie holds, however well it is compressed.
TOO_LONG = token_urlsafe(4000)


class Accounts(async_storage.BaseStorage):
    """Tokens of the application's own users; who is logged in says the session."""

    def __init__(self) -> None:
        self.tokens: dict[Any, Any] = {}

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return session.get("user")

    async def get(self, blueprint: Any) -> Any:
        return self.tokens.get(session.get("user"))

    async def set(self, blueprint: Any, token: Any) -> None:
        if "user" not in session:
            raise UserRequiredError("nobody is logged in")
        self.tokens[session["user"]] = dict(token)

    async def delete(self, blueprint: Any) -> None:
        self.tokens.pop(session.get("user"), None)


class SyncAccounts(sync_storage.BaseStorage):
    """The same for Flask, with plain methods."""

    def __init__(self) -> None:
        self.tokens: dict[Any, Any] = {}

    def account(self, blueprint: Any, **who: Any) -> str | None:
        return flask.session.get("user")

    def get(self, blueprint: Any) -> Any:
        return self.tokens.get(flask.session.get("user"))

    def set(self, blueprint: Any, token: Any) -> None:
        if "user" not in flask.session:
            raise UserRequiredError("nobody is logged in")
        self.tokens[flask.session["user"]] = dict(token)

    def delete(self, blueprint: Any) -> None:
        self.tokens.pop(flask.session.get("user"), None)


def accounts(kind: str) -> Any:
    """Return a storage that keeps tokens for users."""
    return SyncAccounts() if kind == "flask" else Accounts()


def failing(kind: str, error: Exception) -> Any:
    """Return a storage that has an older token, and cannot keep a new one."""
    if kind == "flask":

        class SyncFailing(sync_storage.MemoryStorage):
            def set(self, blueprint: Any, token: Any, **who: Any) -> None:
                raise error

        return SyncFailing(OLD)

    class Failing(async_storage.MemoryStorage):
        async def set(self, blueprint: Any, token: Any) -> None:
            raise error

    return Failing(OLD)


class Base(DeclarativeBase):
    """The tables of these tests."""


class OAuth(async_sqla.OAuthConsumerMixin, Base):
    """A token for each provider and user."""

    user_id: Mapped[str | None] = mapped_column()


@asynccontextmanager
async def table(kind: str, path: Path) -> AsyncIterator[Any]:
    """Give a storage in a table of users; who is logged in says the session."""
    url = f"{path}/tokens.db"
    engine = create_engine(f"sqlite:///{url}")
    Base.metadata.create_all(engine)
    if kind == "flask":
        yield sync_sqla.SQLAlchemyStorage(
            OAuth, engine, user_id=lambda: flask.session.get("user")
        )
    else:
        async_engine = create_async_engine(f"sqlite+aiosqlite:///{url}")
        yield async_sqla.SQLAlchemyStorage(
            OAuth, async_engine, user_id=lambda: session.get("user")
        )
        await async_engine.dispose()
    engine.dispose()
