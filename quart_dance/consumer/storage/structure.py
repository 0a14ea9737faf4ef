"""What a table of tokens has: the indexes that let one statement do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Table, inspect, text

from .model import MYSQL, indexes, name_of, schema_of
from .rows import Rows, is_text

_INVALID = """
    SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
    WHERE indrelid = to_regclass(:name) AND NOT indisvalid
"""


def is_indexed(connection: Connection, rows: Rows) -> bool:
    """Say whether a table has our unique indexes, and they tell all apart."""
    missing = missing_indexes(connection, rows)
    return not missing and not inexact_columns(connection, rows)


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


def place(connection: Connection, table: Table) -> tuple[str, str | None]:
    """Return where a table is: its name, and its schema for this connection."""
    return table.name, schema_of(connection, table)


def _given_up(connection: Connection, table: Table) -> Sequence[Any]:
    """Return the indexes that PostgreSQL could not make, and has left there."""
    if connection.dialect.name != "postgresql":
        return ()
    name = {"name": name_of(connection, table)}
    return connection.scalars(text(_INVALID), name).all()
