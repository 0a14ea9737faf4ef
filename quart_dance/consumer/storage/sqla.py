"""Tokens in a database, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy import inspect as inspect_model
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.util import greenlet_spawn

from ...errors import StorageError, UserRequiredError
from ...oauth.token import Token
from .base import (
    NOBODY,
    BaseStorage,
    Owner,
    account_of,
    local_lock,
    saved,
)
from .cache import AsyncCache, TokenCache
from .caller import in_caller
from .database import Work, address, run
from .forks import leave
from .leases import Lease, TableLease, lease_name
from .model import MYSQL, OAuthConsumerMixin
from .rows import Row, Rows
from .users import as_text, chosen, coerce, key_of
from .waiting import finished

__all__ = ["OAuthConsumerMixin", "SQLAlchemyStorage"]

T = TypeVar("T")
Session = (
    async_sessionmaker[Any] | async_scoped_session[Any] | AsyncSession | AsyncEngine
)


@dataclass
class _Facts:
    """What a storage has found out about a database.

    Attributes:
        indexed: Whether our unique indexes are there.
        has_leases: Whether the table of the leases is.
    """

    indexed: bool
    has_leases: bool = False


class SQLAlchemyStorage(BaseStorage):
    """Keeps tokens in a table: one row for each provider and user.

    The database is PostgreSQL, MariaDB or MySQL, or SQLite.

    Connections and transactions are its own, and short: whatever is passed as
    `session` only says which engine. What an application has not committed is neither
    seen nor touched.

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
            than the token endpoint may take, and the save after it.

    Raises:
        TypeError: `session` is none of these. What is wrong with `model` is found at
            the first use, when all models are known.
    """

    lease_seconds: float = 30.0

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
        self.model = model
        self.session = session
        self.user = user
        self.user_id = user_id
        if user_required is None:
            user_required = user is not None or user_id is not None
        self.user_required = user_required
        self.anon_user = anon_user
        self.cache = None if cache is None else TokenCache(cache, cache_ttl)
        self._check_session()
        self._lazy_rows: Rows | None = None
        self.lease = lease
        self._known: WeakKeyDictionary[Engine, _Facts] = WeakKeyDictionary()
        self._addresses: WeakKeyDictionary[Engine, tuple[str, ...]] = (
            WeakKeyDictionary()
        )

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

        async def load() -> Token | None:
            return await self._load(blueprint, who)

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
            if (await self._facts()).indexed:

                def upsert(connection: Connection) -> None:
                    self._rows.upsert(connection, provider, who, dict(new))

                return await self._run(Work.STATEMENT, upsert, new)

            def replace_all(connection: Connection) -> None:
                self._rows.leases.lock(connection, lease_name(provider, who))
                self._rows.set(connection, provider, who, dict(new))

            await self._with_leases()
            return await self._run(Work.TRANSACTION, replace_all, new)

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
            self._rows.delete(connection, blueprint.name, who)

        await self._change(blueprint, who, partial(self._run, Work.STATEMENT, work))

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
        row = await self._find(blueprint, user_id)
        if row is None or row.token != old:
            return False

        def swap(connection: Connection) -> bool:
            plain = None if new is None else dict(new)
            swapped = self._rows.swap(connection, row, plain)
            if swapped and not facts.indexed:
                self._rows.delete_others(connection, blueprint.name, user_id, row)
            return swapped

        facts = await self._facts()
        kind = Work.STATEMENT if facts.indexed else Work.TRANSACTION
        save = partial(self._run, kind, swap, new)
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
        async with local_lock(self, blueprint.name, account):
            lease = self.lease
            if lease is None:
                await self._with_leases()
                leases, run = self._rows.leases, partial(self._run, Work.STATEMENT)
                lease = TableLease(leases, run, self.lease_seconds)
            async with lease.hold(name):
                yield

    async def account(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        """Return whose token it is: the user's id as text, None for nobody."""
        identity = await self._identity(user, user_id)
        return None if identity is None else as_text(identity)

    def named(self, account: str) -> dict[str, Any]:
        """Return how to name an account to the other methods."""
        return {"user_id": account}

    async def aclose(self) -> None:
        """Close the connections that lie in the engine's pool."""
        await AsyncEngine(self._engine()).dispose()

    def after_fork(self) -> None:
        """Leave the connections in the engine's pool to the parent process."""
        engine = self._engine()
        leave(engine.pool)
        engine.dispose(close=False)

    # The database

    @property
    def _rows(self) -> Rows:
        # Not in the constructor: relationships are known when all models are.
        if self._lazy_rows is None:
            self._lazy_rows = Rows(inspect_model(self.model))
        return self._lazy_rows

    def _check_session(self) -> None:
        kinds = (async_sessionmaker, async_scoped_session, AsyncSession, AsyncEngine)
        if not isinstance(self.session, kinds):
            raise TypeError(
                "session is an async_sessionmaker, async_scoped_session, AsyncSession "
                f"or AsyncEngine, not {type(self.session).__name__}"
            )

    def _engine(self) -> Engine:
        session = self.session
        if isinstance(session, AsyncEngine):
            return session.sync_engine
        if isinstance(session, async_scoped_session):
            session = session.session_factory
        if isinstance(session, async_sessionmaker):
            session = session()  # connects to nothing
        bind = session.sync_session.get_bind(inspect_model(self.model))
        return bind.engine

    async def _run(
        self, kind: Work, work: Callable[[Connection], T], *tokens: Token | None
    ) -> T:
        """Run some SQL on a connection, and in a transaction, of our own.

        Raises:
            StorageError: The database failed.
        """
        engine = self._engine()
        try:
            return await saved(self._execute(engine, kind, work), *tokens)
        except StorageError:
            # Perhaps an index or a table is gone: look again the next time.
            self._known.pop(engine, None)
            raise

    async def _execute(
        self, engine: Engine, kind: Work, work: Callable[[Connection], T]
    ) -> T:
        return await finished(greenlet_spawn(run, engine, kind, work))

    async def _load(self, blueprint: Owner, who: Any) -> Token | None:
        def work(connection: Connection) -> Any:
            return self._rows.get(connection, blueprint.name, who)

        token = await self._run(Work.READ, work)
        return None if token is None else Token(token)

    async def _find(self, blueprint: Owner, who: Any) -> Row | None:
        def work(connection: Connection) -> Row | None:
            return self._rows.find(connection, blueprint.name, who)

        return await self._run(Work.READ, work)

    async def _change(
        self, blueprint: Owner, who: Any, save: Callable[[], Awaitable[T]]
    ) -> T:
        if self.cache is None:
            return await save()
        return await self.cache.change(await self._cache_key(blueprint, who), save)

    async def _facts(self) -> _Facts:
        """Return what is known of the database, looked up once for each engine."""
        engine = self._engine()
        if engine not in self._known:
            indexed = await self._run(Work.READ, self._rows.is_indexed)
            self._known[engine] = _Facts(indexed)
        return self._known[engine]

    async def _with_leases(self) -> None:
        """See to it that the table of the leases is there."""
        facts, leases = await self._facts(), self._rows.leases
        if not (facts.has_leases or await self._run(Work.READ, leases.is_there)):
            try:
                await self._run(Work.TRANSACTION, leases.create)
            except StorageError as error:
                raise StorageError(
                    f"{error}; the table {leases.table.name!r} is missing, with which "
                    "one process refreshes a token and the others wait: create it as "
                    "the table of the tokens was created"
                ) from None
        facts.has_leases = True

    async def _cache_key(self, blueprint: Owner, who: Any) -> str:
        # Other programs that use this table must come to the same key.
        engine = self._engine()
        if engine not in self._addresses:

            def look(connection: Connection) -> tuple[str, ...]:
                return address(connection, self._rows.table)

            self._addresses[engine] = await self._run(Work.READ, look)
        return TokenCache.key(*self._addresses[engine], blueprint.name, who)

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
        column = self._rows.user
        if column is None:
            raise TypeError(f"{self.model.__name__} has no user: no user can be named")
        identity = coerce(user_id, column.type.python_type)
        if isinstance(identity, str) and identity.endswith(" "):
            if self._engine().dialect.name in MYSQL:  # to its indexes a space is none
                raise ValueError("in this database no user id may end with a space")
        return identity

    def _id_of(self, user: Any) -> Any:
        if hasattr(inspect_model(user, raiseerr=False), "identity"):
            return self._rows.id_of(user)
        return key_of(user, self.anon_user)
