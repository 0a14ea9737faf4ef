"""The tokens that an account has too many of: which, whose, and what needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    ColumnElement,
    Connection,
    Delete,
    Subquery,
    TableClause,
    and_,
    case,
    cast,
    column,
    delete,
    func,
    inspect,
    not_,
    select,
    table,
    text,
    tuple_,
)

from ...errors import UpgradeError
from .model import MYSQL
from .rows import Rows, exact, is_text

#: How many rows a message names.
_SOME = 5
#: Databases of MariaDB's or MySQL's that have foreign keys to a table.
_REFERRING_SCHEMAS = """
SELECT DISTINCT table_schema FROM information_schema.key_column_usage
WHERE referenced_table_schema = :schema AND referenced_table_name = :name
"""


@dataclass(frozen=True)
class Surplus:
    """An account with more than one row.

    Attributes:
        provider: The provider.
        user: The value of the user column; None for nobody.
        count: How many rows it has besides the newest one.
    """

    provider: str
    user: Any
    count: int


class Duplicates:
    """The rows that are not the newest ones of their accounts.

    Which one is the newest `Rows` says. Each question is one statement, however many
    rows there are.
    """

    def __init__(self, rows: Rows, dialect: str) -> None:
        self.rows = rows
        self.dialect = dialect
        self._ranked = self._rank()
        self._key = [self._ranked.c[f"key_{n}"] for n in range(len(rows.key))]

    def count(self, connection: Connection) -> tuple[Surplus, ...]:
        """Return the accounts that have several rows."""
        ranked, user = self._ranked.c, self.rows.user
        account = [ranked.provider, *([] if user is None else [ranked.account])]
        query = select(*account, ranked.total - 1).where(self._is_kept())
        found = connection.execute(query.order_by(*account))
        return tuple(
            Surplus(provider, user[0] if user else None, count)
            for provider, *user, count in found
        )

    def removal(self) -> Delete:
        """Return the statement that deletes them."""
        return delete(self.rows.table).where(self._is_superseded())

    def check(self, connection: Connection) -> None:
        """See that nothing is lost with them.

        Raises:
            UpgradeError: A row that would stay holds no token, or something refers to
                one that would go.
        """
        key = self.rows.key
        kept = tuple_(*key).in_(select(*self._key).where(self._is_kept()))
        query = select(*key).where(kept, not_(self._holds_token()))
        _refuse(
            connection.execute(query.limit(_SOME)).all(),
            "the newest row of an account that has several holds no token: "
            f"{_names(key)} = {{}}. Put one into it, or delete it",
        )
        for child, referred in self._referring(connection):
            doomed = select(*referred).select_from(self.rows.table)
            doomed = doomed.where(self._is_superseded())
            own = list(child.c)
            query = select(*own).where(tuple_(*own).in_(doomed)).distinct()
            _refuse(
                connection.execute(query.limit(_SOME)).all(),
                f"{child.fullname}.{_names(own)} refers to older rows of accounts "
                f"that have several: {_names(referred)} = {{}}. Let it refer to the "
                "newest ones",
            )

    def _rank(self) -> Subquery:
        """Return all rows with their place in their account, and its number of rows."""
        rows, account = self.rows, self._account()
        columns = [key.label(f"key_{number}") for number, key in enumerate(rows.key)]
        columns.append(rows.provider.label("provider"))
        if rows.user is not None:
            columns.append(rows.user.label("account"))
        place = func.row_number().over(partition_by=account, order_by=rows.newest)
        total = func.count().over(partition_by=account)
        columns += [place.label("place"), total.label("total")]
        return select(*columns).subquery("ranked")

    def _account(self) -> list[ColumnElement[Any]]:
        """Return what tells accounts apart; NULLs are alike here."""
        account: list[ColumnElement[Any]] = []
        for each in (self.rows.provider, self.rows.user):
            if each is None:
                continue
            if self.dialect in MYSQL and is_text(each):
                account += [exact(each), func.char_length(each)]
            else:
                account.append(each)
        return account

    def _is_superseded(self) -> ColumnElement[bool]:
        old = select(*self._key).where(self._ranked.c.place > 1)
        return tuple_(*self.rows.key).in_(old)

    def _is_kept(self) -> ColumnElement[bool]:
        return and_(self._ranked.c.place == 1, self._ranked.c.total > 1)

    def _holds_token(self) -> ColumnElement[bool]:
        """Return the condition for a JSON object, never NULL."""
        token: Column[Any] = self.rows.token
        kind: ColumnElement[Any]
        if self.dialect != "postgresql":
            kind = case((func.json_valid(token) == 1, func.json_type(token)), else_="")
        elif isinstance(token.type, JSON):
            kind = func.json_typeof(cast(token, JSON))
        else:  # a type of the application's own
            return token.is_not(None)
        return and_(token.is_not(None), func.lower(kind) == "object")

    def _referring(
        self, connection: Connection
    ) -> Iterator[tuple[TableClause, list[ColumnElement[Any]]]]:
        """Yield the foreign keys to the table: the columns there, and those here."""
        inspector, ours = inspect(connection), self.rows.table
        home = inspector.default_schema_name
        schemas: Sequence[str | None] = [ours.schema]
        if self.dialect == "postgresql":
            schemas = inspector.get_schema_names()
        elif self.dialect in MYSQL:
            where = {"schema": ours.schema or home, "name": ours.name}
            schemas = connection.scalars(text(_REFERRING_SCHEMAS), where).all()
        for schema in schemas:
            all_keys = inspector.get_multi_foreign_keys(schema=schema)
            for (_, name), keys in all_keys.items():
                for key in keys:
                    referred = key["referred_schema"] or home, key["referred_table"]
                    if referred == (ours.schema or home, ours.name):
                        names = key["constrained_columns"]
                        child = table(name, *map(column, names), schema=schema)
                        yield child, [column(c) for c in key["referred_columns"]]


def _refuse(found: Sequence[Any], problem: str) -> None:
    if found:
        keys = ", ".join("/".join(map(str, row)) for row in found)
        raise UpgradeError(f"{problem.replace('{}', keys)}, and run this again")


def _names(columns: Sequence[Any]) -> str:
    return "/".join(column.name for column in columns)
