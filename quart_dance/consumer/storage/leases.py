"""Leases: one process refreshes an account's token, and if it dies, another one."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Any, Protocol

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Table,
    and_,
    inspect,
    literal_column,
    or_,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from ...errors import StorageError
from .model import MYSQL, schema_of
from .waiting import leased

#: The time of the database, in seconds: the clocks of processes may differ.
_NOW = {
    "postgresql": "extract(epoch FROM clock_timestamp())",
    "sqlite": "(julianday('now') - 2440587.5) * 86400.0",
    "mysql": "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1000000",
}
_NOW["mariadb"] = _NOW["mysql"]
#: Seconds for which nobody takes a lease.
_LONGEST = 600


class Lease(Protocol):
    """What holds off other processes while one of them refreshes a token."""

    def hold(self, name: str) -> AbstractAsyncContextManager[Any]:
        """Return what waits for the lease of that name, and gives it back."""


def lease_name(provider: str, account: object) -> str:
    """Return how the lease of an account is called."""
    text = json.dumps([provider, None if account is None else str(account)])
    return hashlib.sha256(text.encode()).hexdigest()


class TableLease:
    """Leases in a table, taken and given back in short transactions.

    Args:
        leases: The table's.
        run: Runs one statement on a connection of its own.
        seconds: How long one lasts.
    """

    def __init__(
        self,
        leases: Leases,
        run: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        seconds: float,
    ) -> None:
        self._leases = leases
        self._run = run
        self._seconds = seconds

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold a lease; no connection is in use meanwhile.

        Raises:
            StorageError: The database failed, or is too slow.
        """
        owner = secrets.token_hex(16)

        def acquire(connection: Connection) -> float | None:
            asked = time.monotonic()
            taken = self._leases.acquire(connection, name, owner, self._seconds)
            return asked if taken else None

        def release(connection: Connection) -> None:
            self._leases.release(connection, name, owner)

        try:
            await leased(partial(self._run, acquire), self._seconds)
            yield
        finally:  # also if that failed: it may have been taken
            with suppress(StorageError):  # then it ends by itself
                await self._run(release)


class Leases:
    """The leases of a token table: a row for each account that has had one.

    Args:
        table: See `model.lease_table`.
    """

    def __init__(self, table: Table) -> None:
        self.table = table

    def is_there(self, connection: Connection) -> bool:
        """Say whether the table exists."""
        schema = schema_of(connection, self.table)
        return inspect(connection).has_table(self.table.name, schema)

    def create(self, connection: Connection) -> None:
        """Create the table if it is missing."""
        try:
            self.table.create(connection, checkfirst=True)
        except DBAPIError:
            connection.rollback()
            if not self.is_there(connection):  # another process may have been faster
                raise

    def acquire(
        self, connection: Connection, name: str, owner: str, seconds: float
    ) -> bool:
        """Take a lease if it is free, or over, or ours; at most two statements.

        Args:
            connection: Each statement may stand for itself.
            name: The account's.
            owner: Whose it will be.
            seconds: How long.
        """
        table, now = self.table, _now(connection)
        free = or_(
            table.c.until <= now,
            table.c.owner == owner,
            # Nobody can have taken it for so long: the clock was set back.
            table.c.until > now + max(100 * seconds, _LONGEST),
        )
        mine = {"owner": owner, "until": now + seconds}
        taken = update(table).where(and_(table.c.name == name, free)).values(mine)
        if connection.execute(taken).rowcount == 1:
            return True
        if connection.dialect.name in MYSQL:
            # It has locked the gap where the row would be, for all who look for a row
            # there; each would then wait for the others.
            connection.commit()
            first: Any = mysql.insert(table).prefix_with("IGNORE")
        else:
            first = _insert(connection, table).on_conflict_do_nothing()
        return connection.execute(first.values(name=name, **mine)).rowcount == 1

    def release(self, connection: Connection, name: str, owner: str) -> None:
        """Give a lease back, if it is still ours; in one statement."""
        mine = and_(self.table.c.name == name, self.table.c.owner == owner)
        free = {"owner": "", "until": 0.0}
        connection.execute(update(self.table).where(mine).values(free))

    def lock(self, connection: Connection, name: str) -> None:
        """Hold off whoever locks the same name, until the end of the transaction.

        This is for writing where no index keeps two rows apart. Leases do not mind.
        """
        free = {"name": name, "owner": "", "until": 0.0}
        if connection.dialect.name in MYSQL:
            locked: Any = mysql.insert(self.table).values(free)
            locked = locked.on_duplicate_key_update(name=name)
        else:
            locked = _insert(connection, self.table).values(free)
            locked = locked.on_conflict_do_update(
                index_elements=["name"], set_={"name": name}
            )
        connection.execute(locked)


def _insert(connection: Connection, table: Table) -> Any:
    makers = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
    return makers[connection.dialect.name](table)


def _now(connection: Connection) -> ColumnElement[Any]:
    return literal_column(_NOW[connection.dialect.name], Double)
