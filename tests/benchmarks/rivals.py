"""What our storages are measured beside: Core by hand, and Flask-Dance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from benchmarks.measure import Contestant
from benchmarks.tables import TOKEN, FlaskDanceOAuth, OAuth
from flask_dance.consumer.storage.sqla import SQLAlchemyStorage
from sqlalchemy import Engine, bindparam, create_engine, delete, make_url, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import scoped_session, sessionmaker

#: The drivers of Flask-Dance's synchronous engine.
DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
}
#: MariaDB's number of a deadlock.
DEADLOCK = 1213


class Core:
    """The same work in SQLAlchemy Core, written by hand for this one table.

    Each statement is built once. On PostgreSQL AUTOCOMMIT saves round trips; on the
    others it costs some. What meets a deadlock is tried again.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        if engine.dialect.name == "postgresql":
            self.engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        table: Any = OAuth.__table__
        mine = (
            table.c.provider == bindparam("name"),
            table.c.user_id == bindparam("user"),
        )
        self._select = select(table.c.token).where(*mine)
        self._delete = delete(table).where(*mine)
        self._upsert = _upsert(table, engine.dialect.name)

    async def get(self, user: str) -> dict[str, Any] | None:
        async with self.engine.connect() as connection:
            token = await connection.scalar(self._select, _key(user))
        return None if token is None else dict(token)

    async def set(self, user: str, token: dict[str, Any]) -> None:
        values = {
            "provider": "bench",
            "user_id": int(user),
            "created_at": datetime.now(UTC).replace(tzinfo=None),
            "token": token,
        }
        await self._change(self._upsert, values)

    async def delete(self, user: str) -> None:
        await self._change(self._delete, _key(user))

    async def _change(self, statement: Any, values: dict[str, Any]) -> None:
        while True:
            try:
                async with self.engine.begin() as connection:
                    await connection.execute(statement, values)
                return
            except OperationalError as error:
                _pass_deadlock(error)


def core(engine: AsyncEngine) -> Contestant:
    """Return the contestant that is written by hand."""
    rows = Core(engine)
    return Contestant(
        "SQLAlchemy Core by hand",
        get=lambda user: rows.get(str(user)),
        set=lambda user: rows.set(str(user), TOKEN),
        delete=lambda user: rows.delete(str(user)),
        engine=engine.sync_engine,
    )


@contextmanager
def flask_dance(url: str, pool: int) -> Iterator[Contestant]:
    """Give Flask-Dance's storage, on a scoped session for each thread.

    The session ends with each call, as it does with each request in Flask. What meets
    a deadlock is tried again, which an application would have to do itself.
    """
    engine = _sync_engine(url, pool)
    session = scoped_session(sessionmaker(engine))
    storage = SQLAlchemyStorage(FlaskDanceOAuth, session)
    blueprint = SimpleNamespace(name="bench", config={})

    def call(method: Callable[..., Any], *token: Any, user: int) -> Any:
        while True:
            try:
                return method(blueprint, *token, user_id=user)
            except OperationalError as error:
                _pass_deadlock(error)
            finally:
                session.remove()

    try:
        yield Contestant(
            "Flask-Dance",
            get=lambda user: call(storage.get, user=user),
            set=lambda user: call(storage.set, TOKEN, user=user),
            delete=lambda user: call(storage.delete, user=user),
            engine=engine,
            threads=True,
        )
    finally:
        engine.dispose()


def _pass_deadlock(error: OperationalError) -> None:
    """Raise anything but a deadlock, after which one tries again.

    MariaDB locks what lies between the rows of an index, too, so that first logins of
    two users at the same time may be one.
    """
    if error.orig is None or error.orig.args[0] != DEADLOCK:
        raise error


def _sync_engine(url: str, pool: int) -> Engine:
    given = make_url(url)
    driver = DRIVERS[given.get_backend_name()]
    return create_engine(
        given.set(drivername=driver),
        pool_size=pool,
        max_overflow=0,
        pool_timeout=60,
        connect_args={"timeout": 60} if driver == "sqlite" else {},
    )


def _key(user: str) -> dict[str, Any]:
    return {"name": "bench", "user": int(user)}


def _upsert(table: Any, dialect: str) -> Any:
    if dialect in ("mysql", "mariadb"):
        statement: Any = mysql.insert(table)
        new = statement.inserted
        return statement.on_duplicate_key_update(
            token=new.token, created_at=new.created_at
        )
    statement = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}[dialect](
        table
    )
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=["provider", "user_id"],
        set_={"token": new.token, "created_at": new.created_at},
    )
