"""A database by its URL, opened for one upgrade."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from .consumer.storage.upgrade import Upgrade, explained, plan, upgrade
from .errors import UpgradeError

#: For each database how to write its URL with a driver of ours, and which extra has it.
_DRIVERS = {
    "postgresql": ("postgresql+asyncpg", "postgresql"),
    "mysql": ("mysql+aiomysql", "mariadb"),
    "mariadb": ("mariadb+aiomysql", "mariadb"),
    "sqlite": ("sqlite+aiosqlite", "sqla"),
}
#: Ends the waiting for a lock after 10 seconds: whoever comes later waits behind us.
_PATIENCE = {
    "postgresql": "SET LOCAL lock_timeout = '10s'",
    "mysql": "SET lock_wait_timeout = 10, innodb_lock_wait_timeout = 10",
    "mariadb": "SET lock_wait_timeout = 10, innodb_lock_wait_timeout = 10",
    "sqlite": "PRAGMA busy_timeout = 10000",
}


def upgrade_by_url(
    url: str,
    table: str,
    *,
    apply: bool,
    schema: str | None = None,
    user_column: str | None = None,
    shared: bool = False,
) -> Upgrade:
    """Upgrade a table in a database, or say what there is to do.

    Args:
        url: SQLAlchemy's; the driver may be an async one, or not.
        table: As `upgrade` takes it, as all that follows.
        apply: Whether to do it.
        schema: …
        user_column: …
        shared: …

    Raises:
        UpgradeError: It cannot be done; the message says why, without the password.
    """
    target = _parsed(url)
    engine = _engine(target)

    def work() -> Upgrade:
        with explained(), _connected(engine, target) as connection:
            return (upgrade if apply else plan)(
                connection,
                table,
                schema=schema,
                user_column=user_column,
                shared=shared,
            )

    # Under a loop for the async drivers; the others do not mind.
    return asyncio.run(greenlet_spawn(work))


def _parsed(url: str) -> URL:
    try:
        target = make_url(url)
    except (ArgumentError, ValueError):
        raise UpgradeError(
            "the URL of a database is written driver://user:password@host:port/name, "
            "with %40 for @ in a password, and so on"
        ) from None
    backend, file = target.get_backend_name(), target.database or ""
    if backend not in _DRIVERS:
        raise UpgradeError(
            f"tokens are kept in PostgreSQL, MariaDB, MySQL or SQLite, not in {backend}"
        )
    if (
        backend == "sqlite"
        and not file.startswith("file:")
        and not Path(file).is_file()
    ):
        # SQLite would make an empty one.
        raise UpgradeError(f"there is no file {file!r}: name the right one")
    return target


def _engine(target: URL) -> Engine:
    try:
        return create_engine(target, poolclass=NullPool, hide_parameters=True)
    except (ImportError, ArgumentError):
        driver, extra = _DRIVERS[target.get_backend_name()]
        raise UpgradeError(
            f"the driver of {target.drivername} is not installed: install it, or "
            f"quart_dance[{extra}], and begin the URL with {driver}://"
        ) from None


@contextmanager
def _connected(engine: Engine, target: URL) -> Iterator[Connection]:
    """Give a connection in a transaction."""
    try:
        connection = engine.connect()
    except Exception as error:  # drivers raise what they like
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
    else:
        with connection, connection.begin():
            connection.exec_driver_sql(_PATIENCE[engine.dialect.name])
            yield connection
        return
    if target.password:
        said = said.replace(target.password, "***")
    raise UpgradeError(f"the database cannot be reached: {said}")
