"""The SQL of a token table, on a plain connection; it exists once."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    cast,
    delete,
    insert,
    inspect,
    not_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapper

from .model import indexes, utcnow

#: Databases in which one statement inserts or updates.
_UPSERT: Mapping[str, Any] = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}


class Rows:
    """The rows of one model: where each token stands, and how it gets there.

    Args:
        mapper: Of a model with `provider` and `token`; for users, also with a `user`
            relationship or a `user_id`.

    Raises:
        TypeError: The model has no `provider` or no `token`, or several columns make
            out its `user`.
    """

    def __init__(self, mapper: Mapper[Any]) -> None:
        columns = mapper.columns
        if "provider" not in columns or "token" not in columns:
            raise TypeError(
                f"{mapper.class_.__name__} needs the columns 'provider' and 'token': "
                "derive it from OAuthConsumerMixin"
            )
        self.table = typing.cast(Table, mapper.local_table)
        self.provider, self.token = columns["provider"], columns["token"]
        self.created_at = columns.get("created_at")
        self.user: Column[Any] | None = columns.get("user_id")
        #: The attribute of the user object that `user` refers to.
        self.user_key: str | None = None
        if "user" in mapper.relationships:
            pairs = mapper.relationships["user"].local_remote_pairs or []
            if len(pairs) != 1:
                raise TypeError(
                    f"{mapper.class_.__name__}.user refers to {len(pairs)} columns of "
                    "the user's table, and a token is filed under one column"
                )
            self.user, remote = typing.cast(Any, pairs[0])
            target = mapper.relationships["user"].mapper
            self.user_key = target.get_property_by_column(remote).key
        self._key = list(mapper.primary_key)
        self._newest = [
            column.desc()
            for column in (self.created_at, *self._key)
            if column is not None
        ]

    def mine(self, provider: str, user: Any) -> ColumnElement[bool]:
        """Return the condition for an account's rows; no user means nobody's."""
        mine = self.provider == provider
        if self.user is None:
            return mine
        return and_(mine, self.user.is_(None) if user is None else self.user == user)

    def get(self, connection: Connection, provider: str, user: Any) -> Any:
        """Return the newest token of an account, or None."""
        query = select(self.token).where(self.mine(provider, user))
        return connection.scalar(query.order_by(*self._newest).limit(1))

    def delete(self, connection: Connection, provider: str, user: Any) -> None:
        """Delete every row of an account."""
        connection.execute(delete(self.table).where(self.mine(provider, user)))

    def set(
        self,
        connection: Connection,
        provider: str,
        user: Any,
        token: Any,
        indexed: bool,
    ) -> None:
        """Make a token the only one of an account; the row's other columns stay.

        Args:
            connection: In a transaction.
            provider: The blueprint's name.
            user: The user's id, or None for nobody.
            token: The token.
            indexed: Whether the table has our unique indexes; see `is_indexed`.
        """
        new = self._new(token)
        key: dict[Any, Any] = {self.provider: provider}
        if self.user is not None:
            key[self.user] = user
        upsert = _UPSERT.get(connection.dialect.name)
        if indexed and upsert is not None:
            statement = upsert(self.table).values({**key, **new})
            target: dict[str, Any] = {"index_elements": list(key)}
            if self.user is not None and user is None:
                target = {
                    "index_elements": [self.provider],
                    "index_where": self.user.is_(None),
                }
            connection.execute(statement.on_conflict_do_update(**target, set_=new))
            return
        newest = self._lock(connection, provider, user)
        if newest is None:
            connection.execute(insert(self.table).values({**key, **new}))
        else:
            connection.execute(update(self.table).where(newest).values(new))

    def replace(
        self,
        connection: Connection,
        provider: str,
        user: Any,
        old: Any,
        new: Any,
        indexed: bool,
    ) -> bool:
        """Store `new` if `old` is still an account's token; None deletes.

        What was read is compared as the text it is stored as, so that a JSON column
        needs no equality and no row stays locked in between.
        """
        if connection.dialect.name == "sqlite":
            self._hold(connection, provider, user)
        text = cast(self.token, Text)
        query = select(self.token, text, *self._key).where(self.mine(provider, user))
        row = connection.execute(query.order_by(*self._newest).limit(1)).first()
        if row is None or row[0] != old:
            return False
        same = and_(self._is_row(row[2:]), text == row[1])
        if new is None:
            done = connection.execute(delete(self.table).where(same)).rowcount == 1
            if done:  # where there are no indexes, older rows would come back
                self.delete(connection, provider, user)
            return done
        changed = update(self.table).where(same).values(self._new(new))
        done = connection.execute(changed).rowcount == 1
        if done and not indexed:
            mine = self.mine(provider, user)
            others = and_(mine, not_(self._is_row(row[2:])))
            connection.execute(delete(self.table).where(others))
        return done

    def is_indexed(self, connection: Connection) -> bool:
        """Say whether the table has our unique indexes."""
        schemas = connection.get_execution_options().get("schema_translate_map") or {}
        schema = schemas.get(self.table.schema, self.table.schema)
        found = inspect(connection).get_indexes(self.table.name, schema)
        there = {index["name"]: index["column_names"] for index in found}
        wanted = indexes(self.table, self.provider, self.user)
        return all(there.get(name) == columns for name, columns in wanted.items())

    def _hold(self, connection: Connection, provider: str, user: Any) -> None:
        """Lock an account's rows by a write that changes nothing.

        In SQLite that locks the file, as must be done before anything is read: of two
        transactions that have read neither could write.
        """
        unchanged = {self.provider: self.provider}
        mine = self.mine(provider, user)
        connection.execute(update(self.table).where(mine).values(unchanged))

    def _lock(
        self, connection: Connection, provider: str, user: Any
    ) -> ColumnElement[bool] | None:
        """Hold off other writers; keep an account's newest row only, and name it."""
        self._hold(connection, provider, user)
        query = select(*self._key).where(self.mine(provider, user))
        query = query.order_by(*self._newest)
        rows = connection.execute(query).all()
        for row in rows[1:]:
            connection.execute(delete(self.table).where(self._is_row(row)))
        return self._is_row(rows[0]) if rows else None

    def _is_row(self, key: Any) -> ColumnElement[bool]:
        return and_(*(c == v for c, v in zip(self._key, key, strict=True)))

    def _new(self, token: Any) -> dict[Any, Any]:
        new: dict[Any, Any] = {self.token: token}
        if self.created_at is not None:
            new[self.created_at] = utcnow()
        return new
