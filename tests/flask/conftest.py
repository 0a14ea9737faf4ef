"""Fixtures of the tests under Flask."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from libraries import library
from shop import Shop

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
