"""The columns of a token table, and the indexes that make it safe."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Index,
    Integer,
    String,
    Table,
    event,
)
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import Mapped, Mapper, declared_attr, mapped_column


def utcnow() -> datetime:
    """Return the time as Flask-Dance stores it: UTC, without saying so."""
    return datetime.now(UTC).replace(tzinfo=None)


class OAuthConsumerMixin:
    """The columns of a table of tokens, as Flask-Dance has them.

    For users, add a ``user_id`` column and a ``user`` relationship. Two unique
    indexes come with it: one token for each provider and user, and one for nobody.

    Attributes:
        id: The primary key.
        provider: The name of the blueprint.
        created_at: When the token was stored; UTC, without a time zone.
        token: The token.
    """

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    provider: Mapped[str] = mapped_column(String(50))
    created_at: Mapped[datetime] = mapped_column(DateTime, default=utcnow)
    token: Mapped[dict[str, Any]] = mapped_column(MutableDict.as_mutable(JSON))

    @declared_attr.directive
    def __tablename__(cls) -> str:
        return f"flask_dance_{cls.__name__.lower()}"  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} id={self.id!r} provider={self.provider!r}>"


def indexes(
    table: Table, provider: Column[Any], user: Column[Any] | None
) -> dict[str, list[str]]:
    """Return the names of our unique indexes of a table, and what each one is over."""
    if user is None:
        return {f"uq_{table.name}_provider": [provider.name]}
    return {
        f"uq_{table.name}_provider_user": [provider.name, user.name],
        f"uq_{table.name}_provider_nobody": [provider.name],
    }


def add_indexes(table: Table, provider: Column[Any], user: Column[Any] | None) -> None:
    """Attach our unique indexes to a table, for `create_all` and for migrations.

    NULLs are distinct in a unique index, so the row of nobody has one of its own.
    """
    names = list(indexes(table, provider, user))
    if user is None:
        Index(names[0], provider, unique=True)
        return
    Index(names[0], provider, user, unique=True)
    nobody = user.is_(None)
    Index(
        names[1], provider, unique=True, sqlite_where=nobody, postgresql_where=nobody
    ).ddl_if(callable_=_has_partial_indexes)


def _has_partial_indexes(
    ddl: Any, target: Any, bind: Any, tables: Any = None, state: Any = None, **kw: Any
) -> bool:
    return kw["dialect"].name in ("sqlite", "postgresql")


@event.listens_for(OAuthConsumerMixin, "after_mapper_constructed", propagate=True)
def _index_table(mapper: Mapper[Any], class_: type) -> None:
    table = mapper.local_table
    if not isinstance(table, Table) or mapper.inherits is not None:
        return
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
