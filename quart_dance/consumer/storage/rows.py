"""The SQL of a token table, on a plain connection; it exists once."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Table,
    Text,
    and_,
    bindparam,
    cast,
    delete,
    func,
    insert,
    inspect,
    not_,
    select,
    update,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Mapper

from ...errors import UserRequiredError
from .leases import Leases
from .model import EXACT, MYSQL, lease_table, utcnow


@dataclass(frozen=True)
class Row:
    """A token as it was read, and what tells whether it is still there.

    Attributes:
        token: The token.
        text: As the database stores it.
        key: The primary key of its row.
    """

    token: Any = field(repr=False)
    text: Any = field(repr=False)
    key: Sequence[Any]


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
        self.leases = Leases(lease_table(self.table))
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
        self.key = list(mapper.primary_key)
        #: The order in which the first row of an account is the one that counts.
        self.newest = [
            column.desc()
            for column in (self.created_at, *self.key)
            if column is not None
        ]
        # To build a statement takes longer than to send it: once is enough.
        self._select = cache(self._build_select)
        self._delete = cache(self._build_delete)
        self._upsert = cache(self._build_upsert)

    def get(self, connection: Connection, provider: str, user: Any) -> Any:
        """Return the newest token of an account, or None."""
        query = self._select(connection.dialect.name, user is None)
        return connection.scalar(query, _account(provider, user))

    def find(self, connection: Connection, provider: str, user: Any) -> Row | None:
        """Return the newest token of an account for a later `swap`, or None."""
        query = select(self.token, cast(self.token, Text), *self.key)
        query = query.where(self._mine(connection.dialect.name, user is None))
        query = query.order_by(*self.newest).limit(1)
        found = connection.execute(query, _account(provider, user)).first()
        return None if found is None else Row(found[0], found[1], found[2:])

    def delete(self, connection: Connection, provider: str, user: Any) -> None:
        """Delete every row of an account."""
        statement = self._delete(connection.dialect.name, user is None)
        connection.execute(statement, _account(provider, user))

    def upsert(
        self, connection: Connection, provider: str, user: Any, token: Any
    ) -> None:
        """Make a token an account's, by our unique indexes; see `is_indexed`.

        The other columns of the row stay.
        """
        statement = self._upsert(connection.dialect.name, user is None)
        values = {**self.filed_under(provider, user), **self._new(token)}
        connection.execute(statement, {c.key: value for c, value in values.items()})

    def set(self, connection: Connection, provider: str, user: Any, token: Any) -> None:
        """Make a token the only one of an account, without our unique indexes.

        In one transaction, after `leases.lock`: the newest row is kept, with what
        its other columns hold.
        """
        mine = self._mine(connection.dialect.name, user is None)
        query = select(*self.key).where(mine).order_by(*self.newest)
        new = self._new(token)
        # Others, who do not take the lock, may delete a row, and put another one there,
        # between our reading and our writing: then it is read as it is now, and kept.
        for reading in (query, query.with_for_update()):
            rows = connection.execute(reading, _account(provider, user)).all()
            for row in rows[1:]:
                connection.execute(delete(self.table).where(self._is_row(row)))
            if not rows:
                break
            changed = update(self.table).where(self._is_row(rows[0])).values(new)
            if connection.execute(changed).rowcount == 1:
                return
        values = {**self.filed_under(provider, user), **new}
        connection.execute(insert(self.table).values(values))

    def swap(self, connection: Connection, row: Row, new: Any) -> bool:
        """Store `new` in a row that `find` returned, None deletes it.

        What was read is compared as the text it is stored as, so that a JSON column
        needs no equality and no row stays locked in between.

        Returns:
            Whether the row still held that token.
        """
        text: ColumnElement[Any] = cast(self.token, Text)
        if connection.dialect.name in MYSQL:
            text = exact(self.token)
        same = and_(self._is_row(row.key), text == row.text)
        if new is None:
            return connection.execute(delete(self.table).where(same)).rowcount == 1
        changed = update(self.table).where(same).values(self._new(new))
        return connection.execute(changed).rowcount == 1

    def delete_others(
        self, connection: Connection, provider: str, user: Any, row: Row
    ) -> None:
        """Delete an account's older tokens, that would come back without `row`."""
        others = not_(self._is_row(row.key))
        mine = self._mine(connection.dialect.name, user is None)
        statement = delete(self.table).where(and_(mine, others))
        connection.execute(statement, _account(provider, user))

    def id_of(self, user: Any) -> Any:
        """Return what a user of the application's own model is filed under.

        Raises:
            UserRequiredError: The user has not been committed yet, or has no such id.
            ValueError: It is not loaded.
        """
        state, name = inspect(user), type(user).__name__
        if state.identity is None:
            raise UserRequiredError(
                f"{name} has no identity yet: commit the user first"
            )
        keys = state.mapper.primary_key
        attributes = [state.mapper.get_property_by_column(key).key for key in keys]
        key = self.user_key or attributes[0]
        if key in attributes:  # known without a query, even if it has expired
            return state.identity[attributes.index(key)]
        if key in state.unloaded:
            raise ValueError(f"{name}.{key} is not loaded: pass user_id= instead")
        if getattr(user, key) is None:
            raise UserRequiredError(f"{name} has no {key}: no token can be theirs")
        return getattr(user, key)

    def filed_under(self, provider: str, user: Any) -> dict[Column[Any], Any]:
        """Return the columns that make out an account, with their values."""
        key = {self.provider: provider}
        return key if self.user is None else {**key, self.user: user}

    def _mine(self, dialect: str, nobody: bool) -> ColumnElement[bool]:
        """Return the condition for an account's rows; see `_account` for the values."""
        mine: list[ColumnElement[bool]] = []
        for column, name in self.filed_under("the_provider", "the_user").items():
            if nobody and column is self.user:
                mine.append(column.is_(None))
                continue
            value = bindparam(name, type_=column.type)
            mine.append(column == value)
            if is_text(column) and dialect in MYSQL:
                # Its "=" may be true for another case, accent or trailing space.
                mine.append(exact(column) == value)
                mine.append(func.char_length(column) == func.char_length(value))
        return and_(*mine)

    def _build_select(self, dialect: str, nobody: bool) -> Any:
        query = select(self.token).where(self._mine(dialect, nobody))
        return query.order_by(*self.newest).limit(1)

    def _build_delete(self, dialect: str, nobody: bool) -> Any:
        return delete(self.table).where(self._mine(dialect, nobody))

    def _build_upsert(self, dialect: str, nobody: bool) -> Any:
        new = self._new(None)
        if dialect in MYSQL:
            changed = mysql.insert(self.table)
            values = {column.name: changed.inserted[column.key] for column in new}
            return changed.on_duplicate_key_update(values)
        target: dict[str, Any] = {"index_elements": list(self.filed_under("", None))}
        if self.user is not None and nobody:
            where = self.user.is_(None)
            target = {"index_elements": [self.provider], "index_where": where}
        makers: Any = {"postgresql": postgresql.insert, "sqlite": sqlite.insert}
        statement = makers[dialect](self.table)
        values = {column: statement.excluded[column.key] for column in new}
        return statement.on_conflict_do_update(**target, set_=values)

    def _is_row(self, key: Any) -> ColumnElement[bool]:
        return and_(*(c == v for c, v in zip(self.key, key, strict=True)))

    def _new(self, token: Any) -> dict[Any, Any]:
        new: dict[Any, Any] = {self.token: token}
        if self.created_at is not None:
            new[self.created_at] = utcnow()
        return new


def _account(provider: str, user: Any) -> dict[str, Any]:
    """Return the values that `Rows._mine` asks for."""
    account = {"the_provider": provider, "the_user": user}
    return {name: value for name, value in account.items() if value is not None}


def is_text(column: Column[Any]) -> bool:
    return column.type.python_type is str


def exact(column: Column[Any]) -> ColumnElement[Any]:
    """Return a column as text that MariaDB and MySQL compare to the letter."""
    return cast(column, mysql.CHAR(charset="utf8mb4")).collate(EXACT)
