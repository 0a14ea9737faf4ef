"""What a table of tokens has: the indexes that let one statement do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, inspect, text

from .model import MYSQL, NOBODY_COLUMN, indexes, name_of, schema_of
from .rows import Rows, is_text

_INVALID = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = to_regclass(:name) AND NOT indisvalid
"""
#: In MariaDB and MySQL, each column of each unique index, the primary key among them,
#: and whether the server counts it up. An expression, or the beginning of a column, is
#: no column.
_UNIQUE = """
    SELECT index_name, CASE WHEN sub_part IS NULL THEN column_name END,
        COALESCE(extra LIKE '%auto_increment%', 0)
    FROM information_schema.statistics
    LEFT JOIN information_schema.columns
        USING (table_schema, table_name, column_name)
    WHERE table_schema = :schema AND table_name = :name AND non_unique = 0
"""


def is_indexed(connection: Connection, rows: Rows) -> bool:
    """Say whether a table has our unique indexes, and an upsert meets an account's row.

    In MariaDB and MySQL it meets a row by any unique index, so that no other one may
    take an account for another; elsewhere it names ours.
    """
    missing = missing_indexes(connection, rows)
    if missing or inexact_columns(connection, rows):
        return False
    return connection.dialect.name not in MYSQL or _tells_apart(connection, rows)


def missing_indexes(connection: Connection, rows: Rows) -> list[str]:
    """Return the names of our unique indexes that a table does not have."""
    given_up = _given_up(connection, rows.table)
    there = {
        index["name"]: index["column_names"]
        for index in inspect(connection).get_indexes(*place(connection, rows.table))
        if index["unique"] and index["name"] not in given_up
    }
    wanted = indexes(rows.table, rows.provider, rows.user, connection.dialect.name)
    return [name for name, columns in wanted.items() if there.get(name) != columns]


def inexact_columns(connection: Connection, rows: Rows) -> list[Column[Any]]:
    """Return the columns that take an account's name for another one's.

    By such a collation one account's token would take another one's place.
    """
    if connection.dialect.name not in MYSQL:
        return []
    found = inspect(connection).get_columns(*place(connection, rows.table))
    collations = {c["name"]: getattr(c["type"], "collation", "") for c in found}
    return [
        column
        for column in rows.filed_under("", None)
        if is_text(column) and not str(collations[column.name]).endswith("_bin")
    ]


def outgrown(connection: Connection, rows: Rows) -> tuple[list[str], list[str]]:
    """Return what keeps out all users but one, by letting a provider be in one row.

    Returns:
        Indexes of ours, and what is not ours. Ours are from when all shared the table;
        or a tool made the one for nobody, and left out what that says of nobody.
    """
    if rows.user is None:
        return [], []
    columns, dialect = (rows.table, rows.provider), connection.dialect.name
    known = indexes(*columns, None, dialect) | indexes(*columns, rows.user, dialect)
    found = _unique_providers(connection, rows)
    ours = [name for name, is_index in found.items() if is_index and name in known]
    return ours, [name for name in found if name not in ours]


def place(connection: Connection, table: Table) -> tuple[str, str | None]:
    """Return where a table is: its name, and its schema for this connection."""
    return table.name, schema_of(connection, table)


def _tells_apart(connection: Connection, rows: Rows) -> bool:
    """Say whether no unique index takes a new row for one of another account.

    None does that has all columns of an account, or a number that the server counts
    up. What else is in a row may be alike by chance, or by default.
    """
    name, schema = place(connection, rows.table)
    where = {"name": name, "schema": schema or inspect(connection).default_schema_name}
    account = {column.name for column in rows.filed_under("", None)}
    columns: dict[str, set[Any]] = defaultdict(set)
    for index, column, is_counted in connection.execute(text(_UNIQUE), where):
        columns[index] |= account if is_counted else {column}
    ours = indexes(rows.table, rows.provider, rows.user, connection.dialect.name)
    return ours.keys() <= columns.keys() and all(  # else there may be more to see
        account <= each or each == {NOBODY_COLUMN} for each in columns.values()
    )


def _unique_providers(connection: Connection, rows: Rows) -> dict[str, bool]:
    """Return what lets only one row have a provider, whoever's it is.

    Returns:
        The names, and for each whether it is an index, or else a constraint.
    """
    found, where = inspect(connection), place(connection, rows.table)
    primary = found.get_pk_constraint(*where)
    keys: list[tuple[str | None, Sequence[str | None], bool]] = [
        (primary["name"] or "the primary key", primary["constrained_columns"], False)
    ]
    for constraint in found.get_unique_constraints(*where):
        keys.append((constraint["name"], constraint["column_names"], False))
    for index in found.get_indexes(*where):
        partial = f"{connection.dialect.name}_where" in index.get("dialect_options", {})
        if index["unique"] and not partial:
            is_index = "duplicates_constraint" not in index
            keys.append((index["name"], index["column_names"], is_index))
    return {
        name or "a constraint": is_index
        for name, columns, is_index in keys
        if columns == [rows.provider.name]
    }


def _given_up(connection: Connection, table: Table) -> Sequence[Any]:
    """Return the indexes that PostgreSQL could not make, and has left there."""
    if connection.dialect.name != "postgresql":
        return ()
    name = {"name": name_of(connection, table)}
    return connection.scalars(text(_INVALID), name).all()
