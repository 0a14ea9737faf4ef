"""Fixtures of the tests under Flask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from forking import Base
from libraries import library
from shop import Shop
from sqlalchemy.ext.asyncio import create_async_engine

__all__ = ["library"]

InitDB = Callable[[Flask, SQLAlchemy], None]


@pytest.fixture
def init_db() -> Iterator[InitDB]:
    """Let applications have their tables, and close their databases in the end."""
    made: list[tuple[Flask, SQLAlchemy]] = []

    def init(app: Flask, db: SQLAlchemy) -> None:
        db.init_app(app)
        made.append((app, db))
        with app.app_context():
            db.create_all()

    yield init
    for app, db in made:
        with app.app_context():
            db.session.remove()
            for engine in db.engines.values():
                engine.dispose()


@pytest.fixture
def shop(library, tmp_path, init_db) -> Shop:
    """Give an application with two users and a table of tokens."""
    return Shop(library, f"sqlite:///{tmp_path}/shop.db", init_db)


@pytest.fixture(params=["postgresql", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of a database with the tables of `forking`."""
    url = f"sqlite+aiosqlite:///{tmp_path}/tokens.db"
    if request.param != "sqlite":
        url = request.getfixturevalue(f"{request.param}_url")

    async def make_tables() -> None:
        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        await engine.dispose()

    asyncio.run(make_tables())
    return url
