"""A database as we use it: short transactions of our own, tried again if need be."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

T = TypeVar("T")

#: The databases that we know.
DIALECTS = ("postgresql", "sqlite", "mysql", "mariadb")
#: How often something is tried that met a deadlock or a connection that was gone.
ATTEMPTS = 5
#: PostgreSQL's codes of a serialization failure and of a deadlock.
_STATES = ("40001", "40P01")
#: MariaDB's and MySQL's of a deadlock, and of a row that has changed meanwhile.
_NUMBERS = (1213, 1020)


class Work(Enum):
    """What some SQL is: that decides how much has to be said around it."""

    #: One statement that changes nothing.
    READ = "read"
    #: One statement.
    STATEMENT = "statement"
    #: Statements that belong together.
    TRANSACTION = "transaction"


def run(engine: Engine, kind: Work, work: Callable[[Connection], T]) -> T:
    """Run some SQL on a connection of its own, and return what it returns.

    It is tried again where a deadlock, or a connection that was lost while nobody
    used it, is to blame: so it must not matter that it was done already. A transaction
    is, too, where a unique index that it did not expect has kept a row out.

    Args:
        engine: The database.
        kind: What `work` is.
        work: Takes the connection.

    Raises:
        TypeError: The database is none of those we know.
        sqlalchemy.exc.SQLAlchemyError: It failed; OSError, if it is out of reach.
    """
    if engine.dialect.name not in DIALECTS:
        raise TypeError(
            "tokens are kept in PostgreSQL, MariaDB, MySQL or SQLite, not in "
            f"{engine.dialect.name}"
        )
    for _ in range(ATTEMPTS - 1):
        try:
            return _run_once(engine, kind, work)
        except DBAPIError as error:
            met = kind is Work.TRANSACTION and isinstance(error, IntegrityError)
            if not met and not _is_passing(error):
                raise
    return _run_once(engine, kind, work)


def _run_once(engine: Engine, kind: Work, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        if kind is not Work.TRANSACTION and engine.dialect.name == "postgresql":
            # Saves two of three round trips; elsewhere it costs more than it saves.
            connection.execution_options(isolation_level="AUTOCOMMIT")
        result = work(connection)
        if kind is not Work.READ:
            connection.commit()
        return result


def _is_passing(error: DBAPIError) -> bool:
    cause: Any = error.orig
    number = cause.args[0] if cause is not None and cause.args else None
    return (
        error.connection_invalidated
        or getattr(cause, "sqlstate", None) in _STATES
        or number in _NUMBERS
    )
