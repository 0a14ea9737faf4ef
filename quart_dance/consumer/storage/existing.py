"""A table of tokens that is there already: its columns, as the database knows them."""

from __future__ import annotations

import warnings
from typing import Any

from sqlalchemy import Column, Connection, MetaData, Table, inspect
from sqlalchemy.exc import SAWarning
from sqlalchemy.orm import registry
from sqlalchemy.types import NullType

from ...errors import UpgradeError
from .model import MYSQL, NOBODY_COLUMN
from .rows import Rows, is_text
from .structure import outgrown, place

#: The columns that every such table has, and which of them it may lack.
_OURS = {"id", "provider", "created_at", "token", NOBODY_COLUMN}
_OPTIONAL = "created_at"


def existing_rows(
    connection: Connection,
    table: str | type[Any],
    schema: str | None,
    user_column: str | None,
    shared: bool,
) -> Rows:
    """Return the rows of a table, found by its name or as a model says.

    Args:
        connection: To its database.
        table: Its name, or the mapped class.
        schema: Where it is; a model says so itself, and all that follows.
        user_column: The name of the column that tells users apart, or None: see there.
        shared: Whether there is none.

    Raises:
        UpgradeError: There is no such table, or it cannot hold our tokens.
    """
    if isinstance(table, str):
        name, columns = table, _columns(connection, table, schema)
        if shared and user_column:
            raise UpgradeError(
                "a table that is shared has no user column: leave one of them out"
            )
        if not shared:
            user_column = user_column or _user_column(connection, name, schema, columns)
        names = {n: n for n in ("provider", "token", _OPTIONAL) if n in columns}
        names |= {"user_id": user_column} if user_column else {}
    else:
        rows = Rows(inspect(table))
        name, schema = place(connection, rows.table)
        columns = _columns(connection, name, schema)
        found = {"provider": rows.provider, "token": rows.token}
        optional = {_OPTIONAL: rows.created_at, "user_id": rows.user}
        found |= {n: column for n, column in optional.items() if column is not None}
        names = {attribute: column.name for attribute, column in found.items()}
    for needed in ("provider", "token", *names.values()):
        if names.get(needed, needed) not in columns:
            raise UpgradeError(
                f"{name} has no column {names.get(needed, needed)}: is it the table of "
                "the tokens?"
            )
    return _mapped(connection, name, schema, names)


def _columns(connection: Connection, name: str, schema: str | None) -> set[str]:
    inspector = inspect(connection)
    if not inspector.has_table(name, schema):
        raise UpgradeError(
            f"there is no table {name} here, or none that you may see: name the right "
            "one, or the right database"
        )
    with warnings.catch_warnings():
        # Of types that SQLAlchemy does not know; they are none of our business.
        warnings.simplefilter("ignore", SAWarning)
        return {column["name"] for column in inspector.get_columns(name, schema)}


def _user_column(
    connection: Connection, name: str, schema: str | None, columns: set[str]
) -> str | None:
    """Return the column that tells users apart, None if there can be none.

    A wrong guess would take one user's token for an older one of another user.
    """
    keys = inspect(connection).get_foreign_keys(name, schema)
    foreign = {column for key in keys for column in key["constrained_columns"]}
    if "user_id" in columns and foreign <= {"user_id"}:
        return "user_id"
    if columns <= _OURS:
        return None
    raise UpgradeError(
        f"{name} may have its users in one of these columns: "
        f"{', '.join(sorted(columns - _OURS))}. Say which one it is (the user column), "
        "or that all share one token (shared)"
    )


def _mapped(
    connection: Connection, name: str, schema: str | None, names: dict[str, str]
) -> Rows:
    key = inspect(connection).get_pk_constraint(name, schema)["constrained_columns"]
    if not key:
        raise UpgradeError(f"{name} has no primary key: add one first")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SAWarning)  # as above
        table = Table(
            name,
            MetaData(),
            schema=schema,
            autoload_with=connection,
            include_columns=[*key, *names.values()],
            resolve_fks=False,
        )
    table.indexes.clear()  # those of ours that are missing are added later
    columns = {attribute: table.c[column] for attribute, column in names.items()}
    _check_kinds(columns, connection.dialect.name)
    class_ = type("ExistingRow", (), {})
    rows = Rows(registry().map_imperatively(class_, table, properties=columns))
    _check_providers(connection, rows)
    return rows


def _check_providers(connection: Connection, rows: Rows) -> None:
    """See that more than one user can have a token."""
    _, others = outgrown(connection, rows)
    if rows.user is not None and others:
        raise UpgradeError(
            f"{', '.join(others)} of {rows.table.name} lets only one user have a token "
            f"of each provider, being over {rows.provider.name} alone: drop it, or add "
            f"{rows.user.name} to it"
        )


def _check_kinds(columns: dict[str, Column[Any]], dialect: str) -> None:
    """See that the columns that make out an account can be in a unique index."""
    for attribute in ("provider", "user_id"):
        column = columns.get(attribute)
        if column is None:
            continue
        known = not isinstance(column.type, NullType)
        wanted = "VARCHAR" if attribute == "provider" else "a number or a VARCHAR"
        wrong = not known or (attribute == "provider" and not is_text(column))
        if dialect in MYSQL and known and is_text(column):
            wrong = wrong or not getattr(column.type, "length", None)
        if wrong:
            raise UpgradeError(
                f"the column {column.name} is of type {column.type!r}, which no unique "
                f"index can tell apart as it has to be: make it {wanted}"
            )
