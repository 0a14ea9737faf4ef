"""The columns of a token table, the indexes that make it safe, and its leases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DateTime,
    Double,
    Index,
    Integer,
    String,
    Table,
    TextClause,
    event,
    text,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, Mapper, declared_attr, mapped_column

#: MariaDB's and MySQL's own way to compare text takes "A" for "a".
EXACT = "utf8mb4_bin"
#: How SQLAlchemy calls them.
MYSQL = ("mysql", "mariadb")
#: In those, the column that stands for nobody: they have no partial indexes.
NOBODY_COLUMN = "provider_of_nobody"


def utcnow() -> datetime:
    """Return the time as Flask-Dance stores it: UTC, without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)


class OAuthConsumerMixin:
    """The columns of a table of tokens, as Flask-Dance has them.

    For users, add a ``user_id`` column and a ``user`` relationship. Two unique
    indexes come with it: one token for each provider and user, and one for nobody.
    A second, small table comes along: ``<table>_lease``, for refreshes.

    Attributes:
        id: The primary key.
        provider: The name of the blueprint.
        created_at: When the token was stored; UTC, without a time zone.
        token: The token.
    """

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    provider: Mapped[str] = mapped_column(
        String(50).with_variant(mysql.VARCHAR(50, collation=EXACT), *MYSQL)
    )
    created_at: Mapped[datetime] = mapped_column(DateTime, default=utcnow)
    token: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON))

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"flask_dance_{cls.__name__.lower()}"  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} id={self.id!r} provider={self.provider!r}>"


def lease_table(table: Table) -> Table:
    """Return the table of the leases that belong to a table of tokens.

    A row has the hash of an account's name, who refreshes its token, and until when,
    in seconds of the database's own clock.
    """
    name, schema = f"{table.name}_lease", table.schema
    known = table.metadata.tables.get(f"{schema}.{name}" if schema else name)
    if known is not None:
        return known
    return Table(
        name,
        table.metadata,
        Column("name", String(64), primary_key=True),
        Column("owner", String(32), nullable=False),
        Column("until", Double, nullable=False),
        schema=schema,
    )


def schema_of(connection: Connection, table: Table) -> str | None:
    """Return the schema that a table is in for this connection."""
    schemas = connection.get_execution_options().get("schema_translate_map") or {}
    schema: str | None = schemas.get(table.schema, table.schema)
    return schema


def name_of(connection: Connection, table: Table) -> str:
    """Return the name of a table for this connection, quoted for SQL."""
    quote = connection.dialect.identifier_preparer.quote
    parts = schema_of(connection, table), table.name
    return ".".join(quote(part) for part in parts if part)


def indexes(
    table: Table, provider: Column[Any], user: Column[Any] | None, dialect: str
) -> dict[str, list[str]]:
    """Return the names of our unique indexes of a table, and what each one is over."""
    if user is None:
        return {f"uq_{table.name}_provider": [provider.name]}
    nobody = NOBODY_COLUMN if dialect in MYSQL else provider.name
    return {
        f"uq_{table.name}_provider_user": [provider.name, user.name],
        f"uq_{table.name}_provider_nobody": [nobody],
    }


def add_indexes(table: Table, provider: Column[Any], user: Column[Any] | None) -> None:
    """Attach our unique indexes to a table, for `create_all` and for migrations.

    NULLs are distinct in a unique index, so the row of nobody has one of its own.
    """
    names = list(indexes(table, provider, user, ""))
    if user is None:
        Index(names[0], provider, unique=True)
        return
    Index(names[0], provider, user, unique=True)
    nobody = user.is_(None)
    Index(
        names[1], provider, unique=True, sqlite_where=nobody, postgresql_where=nobody
    ).ddl_if(callable_=_has_partial_indexes)

    @event.listens_for(table, "after_create")
    def add_nobody(target: Table, connection: Connection, **_: Any) -> None:
        if connection.dialect.name in MYSQL:
            for statement in nobody_statements(connection, table, provider, user):
                connection.execute(statement)


def nobody_statements(
    connection: Connection, table: Table, provider: Column[Any], user: Column[Any]
) -> tuple[TextClause, TextClause]:
    """Return what gives a table of MariaDB's or MySQL's its index for nobody.

    It is over a column that is computed from the others. That one is not part of the
    model: nobody writes it, and whoever names no columns still gets a whole row.
    """
    quote = connection.dialect.identifier_preparer.quote
    name = name_of(connection, table)
    nobody = f"CASE WHEN {quote(user.name)} IS NULL THEN {quote(provider.name)} END"
    index = quote(f"uq_{table.name}_provider_nobody")
    length = getattr(provider.type, "length", None) or 50
    return (
        _verbatim(
            f"ALTER TABLE {name} ADD COLUMN {NOBODY_COLUMN} VARCHAR({length}) "
            f"COLLATE {EXACT} GENERATED ALWAYS AS ({nobody}) VIRTUAL"
        ),
        _verbatim(f"CREATE UNIQUE INDEX {index} ON {name} ({NOBODY_COLUMN})"),
    )


def _verbatim(statement: str) -> TextClause:
    return text(statement.replace(":", r"\:"))


def _has_partial_indexes(
    ddl: Any, target: Any, bind: Any, tables: Any = None, state: Any = None, **kw: Any
) -> bool:
    return kw["dialect"].name in ("sqlite", "postgresql")


@event.listens_for(OAuthConsumerMixin, "after_mapper_constructed", propagate=True)
def _complete_table(mapper: Mapper[Any], class_: type) -> None:
    table = mapper.local_table
    if not isinstance(table, Table) or mapper.inherits is not None:
        return
    lease_table(table)
    provider, user = mapper.columns["provider"], mapper.columns.get("user_id")
    related = mapper.has_property("user")
    foreign = [column for column in table.columns if column.foreign_keys]
    # What `user` refers to is known when all models are, which is too late. A wrong
    # guess would let one user's token keep out another's: where two columns may be
    # meant there are no indexes, and the storage works as on a table without them.
    if user is not None and (user.foreign_keys or not foreign or not related):
        add_indexes(table, provider, user)
    elif user is None and len(foreign) == 1:
        add_indexes(table, provider, foreign[0])
    elif user is None and not foreign and not related:
        add_indexes(table, provider, None)
