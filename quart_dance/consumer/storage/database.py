"""A database as we use it: short transactions of our own, tried again if need be."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Table, text
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.util import await_only

from ...oauth.urls import is_loopback
from .model import name_of, schema_of

T = TypeVar("T")

#: The databases that we know.
DIALECTS = ("postgresql", "sqlite", "mysql", "mariadb")
#: How often something is tried that met a deadlock or a connection that was gone.
ATTEMPTS = 5
#: PostgreSQL's codes of a serialization failure and of a deadlock.
_STATES = ("40001", "40P01")
#: MariaDB's and MySQL's of a deadlock, and of a row that has changed meanwhile.
_NUMBERS = (1213, 1020)
#: Each database's own default: in a transaction we rely on it, whatever an engine or a
#: database is set to.
_ISOLATION: dict[str, IsolationLevel] = {
    "postgresql": "READ COMMITTED",
    "sqlite": "SERIALIZABLE",
    "mysql": "REPEATABLE READ",
    "mariadb": "REPEATABLE READ",
}

#: In PostgreSQL, the database and the schema that a table is in.
_SCHEMA = """
    SELECT current_database(), CAST(CAST(relnamespace AS regnamespace) AS text)
    FROM pg_class WHERE oid = to_regclass(:name)
"""
#: Which server it is, and whether we may ask that: all may, unless somebody forbids it.
_SYSTEM = "SELECT system_identifier FROM pg_control_system()"
_MAY_ASK = """
    SELECT has_function_privilege(to_regprocedure('pg_control_system()'), 'execute')
"""
#: In MariaDB and MySQL, which server it is, or which cluster of Galera's.
_NAMES = """
    SHOW GLOBAL VARIABLES
    WHERE variable_name IN ('server_uuid', 'server_uid', 'hostname')
"""
_CLUSTER = "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_state_uuid'"


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
    for attempt in range(1, ATTEMPTS):
        try:
            return _run_once(engine, kind, work)
        except DBAPIError as error:
            met = kind is Work.TRANSACTION and isinstance(error, IntegrityError)
            if not met and not _is_passing(error):
                raise
        _pause(engine, attempt)
    return _run_once(engine, kind, work)


def address(connection: Connection, table: Table) -> tuple[str, ...]:
    """Return what tells a table from all others, alike in every program.

    What a URL says is not enough: a schema may come from the settings of a user, each
    driver has words of its own, and one name may stand for two servers. What a server
    says is not enough either: a copy of its files says the same. If in doubt it says
    too much: one table with two addresses shows an old token for a while, two tables
    with one address show somebody else's.
    """
    schema = schema_of(connection, table)
    match connection.dialect.name:
        case "postgresql":
            name = {"name": name_of(connection, table)}
            where = connection.execute(text(_SCHEMA), name).one()
            server = _host(connection, 5432), _system_identifier(connection)
            return "postgresql", *server, *where, table.name
        case "sqlite":
            files = connection.exec_driver_sql("PRAGMA database_list").all()
            file = {name: path for _, name, path in files}[schema or "main"]
            return "sqlite", *_file(file), table.name
        case _:
            here = connection.exec_driver_sql("SELECT database()").scalar()
            server = _host(connection, 3306), _server_identifier(connection)
            return "mysql", *server, str(schema or here), table.name


def _host(connection: Connection, port: int) -> str:
    url = connection.engine.url
    host = str(url.host or url.query.get("host", "localhost"))
    return f"{'localhost' if is_loopback(host) else host}:{url.port or port}"


def _system_identifier(connection: Connection) -> str:
    """Return what a server of PostgreSQL's has in common with its replicas."""
    if not connection.exec_driver_sql(_MAY_ASK).scalar():
        return ""
    return str(connection.exec_driver_sql(_SYSTEM).scalar())


def _server_identifier(connection: Connection) -> str:
    """Return what a cluster of MariaDB's or MySQL's calls itself, else a server."""
    said = {
        str(name).lower(): str(value)
        for question in (_CLUSTER, _NAMES)
        for name, value in connection.exec_driver_sql(question)
    }
    for name in ("wsrep_cluster_state_uuid", "server_uuid"):
        if said.get(name):
            return said[name]
    # MariaDB's own is a hash of its port and a network card's address: containers may
    # have the same one.
    return f"{said.get('server_uid')} {said.get('hostname')}"


def _file(path: str) -> tuple[str, ...]:
    """Return the path of a file, and which one it is: containers have paths alike."""
    if not os.path.exists(path):
        return (secrets.token_hex(),)  # what is in memory is nobody else's
    found = os.stat(path)
    return path, str(found.st_dev), str(found.st_ino)


def _run_once(engine: Engine, kind: Work, work: Callable[[Connection], T]) -> T:
    with engine.connect() as connection, _isolated(connection, kind):
        result = work(connection)
        if kind is not Work.READ:
            connection.commit()
        return result


@contextmanager
def _isolated(connection: Connection, kind: Work) -> Iterator[None]:
    """Let a connection be what the work needs, and leave it as it was."""
    database, commits_itself = connection.dialect.name, _commits_itself(connection)
    if kind is not Work.TRANSACTION:
        if database == "postgresql" and not commits_itself:
            # Saves two of three round trips; elsewhere it costs more than it saves.
            connection.execution_options(isolation_level="AUTOCOMMIT")
        yield
    elif commits_itself:
        with _transactional(connection, _ISOLATION[database]):
            yield
    else:
        # In SQLite, to set what is set already takes trips to the driver's thread, for
        # nothing.
        if database != "sqlite":
            connection.execution_options(isolation_level=_ISOLATION[database])
        yield


@contextmanager
def _transactional(connection: Connection, level: IsolationLevel) -> Iterator[None]:
    """Let a connection that commits each statement by itself have a transaction.

    SQLAlchemy would not let it do so again, where it was not told of it: the driver
    may have been, or an event.
    """
    dialect, driver = connection.dialect, _driver(connection)
    try:
        dialect.set_isolation_level(driver, level)
        yield
    finally:
        if not connection.invalidated:
            try:
                connection.rollback()
                dialect.reset_isolation_level(driver)
                dialect.set_isolation_level(driver, "AUTOCOMMIT")
            except BaseException:
                connection.invalidate()  # the next one is as the application makes it
                raise


def _commits_itself(connection: Connection) -> bool:
    """Say whether the driver commits each statement; False if it does not say."""
    try:
        return connection.dialect.detect_autocommit_setting(_driver(connection))
    except NotImplementedError:
        return False


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def _pause(engine: Engine, attempt: int) -> None:
    """Let those go first who were in the way, and not all at the same moment."""
    seconds = random.uniform(0, 0.02 * 2**attempt)
    if engine.dialect.is_async:
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def _is_passing(error: DBAPIError) -> bool:
    cause: Any = error.orig
    number = cause.args[0] if cause is not None and cause.args else None
    return (
        error.connection_invalidated
        or getattr(cause, "sqlstate", None) in _STATES
        or number in _NUMBERS
    )
