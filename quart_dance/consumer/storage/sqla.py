"""Tokens in a database, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ClassVar, TypeVar

from sqlalchemy import Connection
from sqlalchemy import inspect as inspect_model

from ...errors import UserRequiredError
from ...oauth.token import Token
from .base import NOBODY, BaseStorage, Owner, account_of, local_lock
from .cache import AsyncCache, TokenCache
from .caller import in_caller
from .database import Work
from .leases import Lease, TableLease, lease_name
from .model import MYSQL, OAuthConsumerMixin
from .rows import Row
from .table import Session, TokenTable
from .users import as_text, chosen, coerce, key_of

__all__ = ["OAuthConsumerMixin", "SQLAlchemyStorage"]

T = TypeVar("T")


class SQLAlchemyStorage(BaseStorage):
    """Keeps tokens in a table: one row for each provider and user.

    The database is PostgreSQL, MariaDB or MySQL, or SQLite.

    Connections and transactions are its own, and short: `session` only says which
    engine. What an application has not committed is neither seen nor touched; but
    SQLite in memory has one connection for all, and is no place for tokens.

    Args:
        model: The mapped class, with `provider` and `token`, and for users with a
            `user` relationship or a `user_id`; see `OAuthConsumerMixin`.
        session: An `async_sessionmaker`, or an `async_scoped_session`, `AsyncSession`
            or `AsyncEngine`.
        user: Whose token: a user object, a proxy such as Quart-Auth's `current_user`,
            or a function or coroutine function that returns one.
        user_id: The same as an id; it wins over `user`.
        user_required: Whether `get`, `set` and `delete` raise when there is no user;
            else that is an account of its own. The default is yes if `user` or
            `user_id` is given.
        anon_user: The class of those who are not logged in.
        cache: A cache of aiocache's kind, or None.
        cache_ttl: Seconds that a token is kept there at most.
        lease: What holds off other processes while a token is refreshed, such as a
            `RedisLease`. The default is a table beside the tokens' own.

    Attributes:
        lease_seconds: How long a process that is killed while it refreshes a token
            holds up that account, without a `lease` of one's own. It must be longer
            than a refresh may take: some 25 s.

    Raises:
        TypeError: `session` is none of these. What is wrong with `model` is found at
            the first use, when all models are known.
    """

    lease_seconds: float = 30.0
    _table_class: ClassVar[type[TokenTable]] = TokenTable

    def __init__(
        self,
        model: type[Any],
        session: Session,
        user: Any = None,
        user_id: Any = None,
        user_required: bool | None = None,
        anon_user: type | None = None,
        cache: AsyncCache | None = None,
        *,
        cache_ttl: int = 300,
        lease: Lease | None = None,
    ) -> None:
        self._table = self._table_class(model, session)
        self.user = user
        self.user_id = user_id
        if user_required is None:
            user_required = user is not None or user_id is not None
        self.user_required = user_required
        self.anon_user = anon_user
        self.cache = None if cache is None else TokenCache(cache, cache_ttl)
        self.lease = lease

    @property
    def model(self) -> type[Any]:
        """The mapped class."""
        return self._table.model

    @property
    def session(self) -> Session:
        """What the storage was given to find the engine."""
        return self._table.session

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.model.__name__}>"

    async def get(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> Token | None:
        """Return an account's token, from the cache if there is one.

        Raises:
            UserRequiredError: No user is known, and one is required.
            StorageError: The database failed.
        """
        who = await self._who("get", user, user_id)
        load = partial(self._load, blueprint, who)
        if self.cache is None:
            return await load()
        return await self.cache.read(await self._cache_key(blueprint, who), load)

    async def reread(self, blueprint: Owner, **who: Any) -> Token | None:
        """Return an account's token, from the database."""
        return await self._load(blueprint, await self._who("get", **who))

    async def set(
        self,
        blueprint: Owner,
        token: Mapping[str, Any],
        *,
        user: Any = None,
        user_id: Any = None,
    ) -> None:
        """Store an account's token; the other columns of its row stay.

        Raises:
            UserRequiredError: No user is known, and one is required.
            StorageError: The database failed; what was stored before stays.
        """
        who = await self._who("set", user, user_id)
        # A traceback may show our locals: in none of them is a token unmasked.
        new = token = Token(token).copy()
        provider = blueprint.name

        async def save() -> None:
            rows = self._table.rows
            if await self._table.is_indexed():

                def upsert(connection: Connection) -> None:
                    rows.upsert(connection, provider, who, dict(new))

                return await self._table.run(Work.STATEMENT, upsert, new)

            def replace_all(connection: Connection) -> None:
                rows.leases.lock(connection, lease_name(provider, who))
                rows.set(connection, provider, who, dict(new))

            await self._table.make_leases()
            return await self._table.run(Work.TRANSACTION, replace_all, new)

        await self._change(blueprint, who, save)

    async def delete(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> None:
        """Delete an account's token.

        Raises:
            UserRequiredError: No user is known, and one is required.
            StorageError: The database failed; the token stays.
        """
        who = await self._who("delete", user, user_id)

        def work(connection: Connection) -> None:
            self._table.rows.delete(connection, blueprint.name, who)

        deleting = partial(self._table.run, Work.STATEMENT, work)
        await self._change(blueprint, who, deleting)

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        """Store `new` if `old` is still what the database holds; None deletes."""
        user_id = await self._who("set", **who)
        old, new = Token(old), None if new is None else Token(new).copy()
        rows, indexed = self._table.rows, await self._table.is_indexed()

        def find(connection: Connection) -> Row | None:
            return rows.find(connection, blueprint.name, user_id)

        row = await self._table.run(Work.READ, find)
        if row is None or row.token != old:
            return False

        def swap(connection: Connection) -> bool:
            plain = None if new is None else dict(new)
            swapped = rows.swap(connection, row, plain)
            if swapped and not indexed:
                rows.delete_others(connection, blueprint.name, user_id, row)
            return swapped

        kind = Work.STATEMENT if indexed else Work.TRANSACTION
        save = partial(self._table.run, kind, swap, new)
        return await self._change(blueprint, user_id, save)

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        """Hold off every other refresh of this account, in all processes.

        Raises:
            StorageError: The database, or what else keeps the leases, failed.
        """
        account = await account_of(self, blueprint, **who)
        name = lease_name(blueprint.name, account)
        # One of each process is enough to ask for the lease.
        async with local_lock(self._table.engine(), blueprint.name, account):
            lease = self.lease
            if lease is None:
                await self._table.make_leases()
                run = partial(self._table.run, Work.STATEMENT)
                lease = TableLease(self._table.rows.leases, run, self.lease_seconds)
            async with lease.hold(name):
                yield

    async def account(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        """Return whose token it is: the user's id as text, None for nobody."""
        identity = await self._identity(user, user_id)
        return None if identity is None else as_text(identity)

    def named(self, account: str | None) -> dict[str, Any]:
        """Return how to name an account to the other methods."""
        if self._table.rows.user is None:
            return {}
        return {"user_id": NOBODY if account is None else account}

    @property
    def _holds(self) -> object:
        return self._table.engine()

    async def aclose(self) -> None:
        """Close the connections that lie in the engine's pool."""
        await self._table.aclose()

    async def _load(self, blueprint: Owner, who: Any) -> Token | None:
        def work(connection: Connection) -> Any:
            return self._table.rows.get(connection, blueprint.name, who)

        token = await self._table.run(Work.READ, work)
        return None if token is None else Token(token)

    async def _change(
        self, blueprint: Owner, who: Any, save: Callable[[], Awaitable[T]]
    ) -> T:
        if self.cache is None:
            return await save()
        return await self.cache.change(await self._cache_key(blueprint, who), save)

    async def _cache_key(self, blueprint: Owner, who: Any) -> str:
        # Other programs that use this table must come to the same key.
        return TokenCache.key(*await self._table.address(), blueprint.name, who)

    # The account

    async def _who(self, verb: str, user: Any = None, user_id: Any = None) -> Any:
        """Return the value of the user column, None for nobody.

        Raises:
            UserRequiredError: There is no user, and one is required.
        """
        identity = await self._identity(user, user_id)
        if identity is None and self.user_required and user_id is not NOBODY:
            raise UserRequiredError(
                f"cannot {verb} an OAuth token without a user: nobody is logged in"
            )
        return identity

    async def _identity(self, user: Any, user_id: Any) -> Any:
        user, user_id = await chosen(self.user, self.user_id, user, user_id)
        if user_id is None and user is not None:
            user_id = await in_caller(self._id_of, user)
        if user_id is None or user_id is NOBODY:
            return None
        column = self._table.rows.user
        if column is None:
            raise TypeError(f"{self.model.__name__} has no user: no user can be named")
        identity = coerce(user_id, column.type.python_type)
        if isinstance(identity, str) and identity.endswith(" "):
            # To the indexes of MariaDB and MySQL a space there is none.
            if self._table.engine().dialect.name in MYSQL:
                raise ValueError("in this database no user id may end with a space")
        return identity

    def _id_of(self, user: Any) -> Any:
        if hasattr(inspect_model(user, raiseerr=False), "identity"):
            return self._table.rows.id_of(user)
        return key_of(user, self.anon_user)
