"""Bring a table that Flask-Dance made to what our storage is fastest with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    Connection,
    Executable,
    Index,
    Table,
    false,
    func,
    inspect,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.schema import CreateIndex, CreateTable, DropIndex, ExecutableDDLElement

from ...errors import UpgradeError
from .database import ATTEMPTS, DIALECTS
from .duplicates import Duplicates, Surplus
from .existing import existing_rows
from .model import (
    EXACT,
    MYSQL,
    NOBODY_COLUMN,
    add_indexes,
    indexes,
    name_of,
    nobody_statements,
)
from .rows import Rows
from .structure import inexact_columns, missing_indexes, outgrown, place

__all__ = ["Surplus", "Upgrade", "plan", "upgrade"]


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade would do, or has done.

    Attributes:
        surplus: The accounts with more than one row; all but the newest one go.
        statements: The SQL, in its order; none if nothing is to be done.
    """

    surplus: tuple[Surplus, ...] = ()
    statements: tuple[str, ...] = ()


def plan(
    connection: Connection,
    table: str | type[Any],
    *,
    schema: str | None = None,
    user_column: str | None = None,
    shared: bool = False,
) -> Upgrade:
    """Return what `upgrade` would do now; nothing is changed.

    Args:
        connection: As `upgrade` takes it, as all that follows.
        table: …
        schema: …
        user_column: …
        shared: …

    Raises:
        UpgradeError: `upgrade` would raise it, too.
    """
    with explained():
        steps = _Steps(connection, table, schema, user_column, shared)
        surplus = steps.surplus()
        removal = [steps.duplicates.removal()] if surplus else []
        todo = [*steps.preparing(), *removal, *steps.finishing()]
        return Upgrade(surplus, tuple(map(steps.as_text, todo)))


def upgrade(
    connection: Connection,
    table: str | type[Any],
    *,
    schema: str | None = None,
    user_column: str | None = None,
    shared: bool = False,
) -> Upgrade:
    """Remove duplicates from a table of tokens, add our indexes and its leases.

    Of an account's rows the newest one stays. An index of ours that keeps out all users
    but one goes: it is from when all shared the table. Others may write meanwhile: they
    wait.
    In PostgreSQL and SQLite it is all in the connection's transaction; MariaDB and
    MySQL commit with each change of a table, and there it begins anew where a
    duplicate has been written before the index was there. What is done already is not
    done again.

    Args:
        connection: To the database; Alembic's ``op.get_bind()`` is one.
        table: Its name, or the mapped class of the application.
        schema: Where a table is that is given by name, and not found without.
        user_column: The column that tells users apart, of a table that is given by
            name. The default is ``user_id`` where nothing else may be meant.
        shared: Whether a table that is given by name has no such column, though it
            has columns of the application's own.

    Returns:
        What has been done.

    Raises:
        UpgradeError: There is no such table, or it cannot be upgraded as it is; the
            message says what to do. Nothing is lost.
    """
    with explained():
        steps = _Steps(connection, table, schema, user_column, shared)
        for _ in range(ATTEMPTS if steps.dialect in MYSQL else 1):
            if not steps.preparing() and not steps.finishing():
                break
            if steps.run():
                break
        else:
            raise UpgradeError(
                "others have stored several tokens for one account meanwhile: run "
                "this again, when there is less to do; or accounts differ in spaces "
                "at the end only, which this database cannot tell apart"
            )
        return Upgrade(tuple(steps.removed), tuple(steps.done))


class _Steps:
    """What there is to do, and what has been done."""

    def __init__(self, connection: Any, *where: Any) -> None:
        if not isinstance(connection, Connection):  # such as Alembic's when offline
            raise UpgradeError(
                "this needs a connection to a database, and got a "
                f"{type(connection).__name__}: what to do depends on what is there"
            )
        self.connection, self.dialect = connection, connection.dialect.name
        if self.dialect not in DIALECTS:
            raise UpgradeError(
                "tokens are kept in PostgreSQL, MariaDB, MySQL or SQLite, not in "
                f"{self.dialect}"
            )
        self.rows: Rows = existing_rows(connection, *where)
        self.duplicates = Duplicates(self.rows, self.dialect)
        self.removed: list[Surplus] = []
        self.done: list[str] = []
        add_indexes(self.rows.table, self.rows.provider, self.rows.user)

    def run(self) -> bool:
        """Do it all; say whether there was no new duplicate when it came to indexes."""
        self._execute(*self.preparing())
        # To drop an index, readers must have gone. Asked for later, that may wait for
        # one who has read and waits for us.
        drops, _ = outgrown(self.connection, self.rows)
        mode = "ACCESS EXCLUSIVE" if drops else "EXCLUSIVE"
        _lock(self.connection, self.rows.table, mode)
        surplus = self.surplus()
        if surplus:
            self._execute(self.duplicates.removal())
            self.removed += surplus
        try:
            self._execute(*self.finishing())
        except IntegrityError:
            return False
        return True

    def surplus(self) -> tuple[Surplus, ...]:
        """Return the accounts with duplicates, when nothing depends on these."""
        if not missing_indexes(self.connection, self.rows):
            return ()
        found = self.duplicates.count(self.connection)
        if found:
            self.duplicates.check(self.connection)
        return found

    def preparing(self) -> list[Executable]:
        """Return what MariaDB and MySQL need before there can be indexes."""
        if self.dialect not in MYSQL:
            return []
        rows, inexact = self.rows, inexact_columns(self.connection, self.rows)
        todo: list[Executable] = [_MakeExact(column) for column in inexact]
        if rows.user is not None:
            there = inspect(self.connection).get_columns(
                *place(self.connection, rows.table)
            )
            if NOBODY_COLUMN not in {column["name"] for column in there}:
                todo.append(self._nobody_statements()[0])
        return todo

    def finishing(self) -> list[Executable]:
        """Return what drops outgrown indexes, and makes ours and the leases' table."""
        rows, missing = self.rows, missing_indexes(self.connection, self.rows)
        known = {str(index.name): index for index in rows.table.indexes}
        todo: list[Executable] = []
        for name in outgrown(self.connection, rows)[0]:
            todo.append(DropIndex(known.get(name) or Index(name, rows.provider)))
            missing.append(name)
        wanted = indexes(rows.table, rows.provider, rows.user, self.dialect)
        for name, columns in wanted.items():
            if name not in missing:
                continue
            if rows.user is not None and columns == [NOBODY_COLUMN]:
                todo.append(self._nobody_statements()[1])
            else:
                todo.append(CreateIndex(known[name]))
        if not rows.leases.is_there(self.connection):
            todo.append(CreateTable(rows.leases.table))
        return todo

    def _nobody_statements(self) -> tuple[Executable, Executable]:
        rows, user = self.rows, self.rows.user
        assert user is not None
        return nobody_statements(self.connection, rows.table, rows.provider, user)

    def as_text(self, statement: Any) -> str:
        """Return a statement as one line of SQL."""
        options = {"literal_binds": True} if statement.is_dml else {}
        compiled = statement.compile(self.connection, compile_kwargs=options)
        percent = "%%" if self.connection.dialect.paramstyle.endswith("format") else "%"
        return " ".join(str(compiled).replace(percent, "%").split())

    def _execute(self, *statements: Executable) -> None:
        for statement in statements:
            self.connection.execute(statement)
            self.done.append(self.as_text(statement))


class _MakeExact(ExecutableDDLElement):
    """Lets MariaDB or MySQL compare a column to the letter, and keeps all else."""

    def __init__(self, column: Any) -> None:
        kind = mysql.CHAR if isinstance(column.type, mysql.CHAR) else mysql.VARCHAR
        self.table, self.column = column.table, column._copy()
        self.column.type = kind(column.type.length, collation=EXACT)


@compiles(_MakeExact)
def _modify_column(element: _MakeExact, compiler: Any, **_: Any) -> str:
    name = compiler.preparer.format_table(element.table)
    definition = compiler.get_column_specification(element.column)
    return f"ALTER TABLE {name} MODIFY {definition}"


def _lock(connection: Connection, table: Table, mode: str) -> None:
    """Hold off whoever writes to the table, or begins to refer to one of its rows.

    In PostgreSQL and SQLite until the transaction ends; in MariaDB and MySQL until
    the next change of a table. PostgreSQL has modes, and the others one way.
    """
    if connection.dialect.name == "postgresql":
        name = name_of(connection, table)
        connection.exec_driver_sql(f"LOCK TABLE {name} IN {mode} MODE")
    elif connection.dialect.name in MYSQL:
        connection.exec_driver_sql("COMMIT")  # what was read is of no value now
        rows = select(func.count()).select_from(table).with_for_update()
        connection.execute(rows)
    else:
        column = next(iter(table.c))
        connection.execute(update(table).where(false()).values({column: column}))


@contextmanager
def explained() -> Iterator[None]:
    """Raise what a database says as an `UpgradeError`, without any values."""
    try:
        yield
        return
    except (SQLAlchemyError, OSError) as error:
        cause: Any = getattr(error, "orig", None) or error
        said = str(cause.args[-1] if cause.args else cause).partition("\n")[0]
    said = re.sub(r"^<class '[^']*'>: ", "", said).rstrip(".")
    raise UpgradeError(f"the database says: {said}. Run this again when that is mended")
