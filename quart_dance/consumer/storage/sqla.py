"""Tokens in a database, through SQLAlchemy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine
from sqlalchemy import inspect as inspect_model
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.pool import Pool

from ...errors import UserRequiredError
from ...oauth.token import Token
from .base import NOBODY, BaseStorage, Owner, finished
from .cache import AsyncCache, TokenCache
from .caller import in_caller
from .model import OAuthConsumerMixin
from .rows import Rows
from .users import coerce, key_of, resolve

__all__ = ["OAuthConsumerMixin", "SQLAlchemyStorage"]

T = TypeVar("T")
#: Pools of the process that has forked us: what is collected would be closed.
_parents: list[Pool] = []
Session = (
    async_sessionmaker[Any] | async_scoped_session[Any] | AsyncSession | AsyncEngine
)


class SQLAlchemyStorage(BaseStorage):
    """Keeps tokens in a table: one row for each provider and user.

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

    Raises:
        TypeError: `session` is none of these. What is wrong with `model` is found at
            the first use, when all models are known.
    """

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
        self._indexed: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.model.__name__}>"

    async def get(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> Token | None:
        """Return an account's token, from the cache if there is one.

        Raises:
            UserRequiredError: No user is known, and one is required.
        """
        who = await self._who("get", user, user_id)

        async def load() -> Token | None:
            return await self._load(blueprint, who)

        if self.cache is None:
            return await load()
        return await self.cache.read(self._cache_key(blueprint, who), load)

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
        """
        who = await self._who("set", user, user_id)
        token = Token(token).copy()
        indexed = await self._is_indexed()

        def work(connection: Connection) -> bool:
            self._rows.set(connection, blueprint.name, who, dict(token), indexed)
            return True

        await self._change(blueprint, who, work, token)

    async def delete(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> None:
        """Delete an account's token.

        Raises:
            UserRequiredError: No user is known, and one is required.
        """
        who = await self._who("delete", user, user_id)

        def work(connection: Connection) -> bool:
            self._rows.delete(connection, blueprint.name, who)
            return True

        await self._change(blueprint, who, work, None)

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        """Store `new` if `old` is still what the database holds; None deletes."""
        user_id = await self._who("set", **who)
        token = None if new is None else Token(new).copy()
        indexed = await self._is_indexed()

        def work(connection: Connection) -> bool:
            plain = None if token is None else dict(token)
            name = blueprint.name
            return self._rows.replace(connection, name, user_id, old, plain, indexed)

        return await self._change(blueprint, user_id, work, token)

    async def account(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        """Return whose token it is: the user's id as text, None for nobody."""
        identity = await self._identity(user, user_id)
        return None if identity is None else str(identity)

    def named(self, account: str) -> dict[str, Any]:
        """Return how to name an account to the other methods."""
        return {"user_id": account}

    async def aclose(self) -> None:
        """Close the connections that lie in the engine's pool."""
        await AsyncEngine(self._engine()).dispose()

    def after_fork(self) -> None:
        """Leave the connections in the engine's pool to the parent process."""
        engine = self._engine()
        _parents.append(engine.pool)
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

    async def _run(self, work: Callable[[Connection], T]) -> T:
        """Run some SQL on a connection, and in a transaction, of our own."""
        engine = self._engine()

        async def transaction() -> T:
            async with AsyncEngine(engine).begin() as connection:
                return await connection.run_sync(work)

        try:
            return await finished(transaction())
        except DBAPIError:
            # Perhaps an index is gone: look again the next time.
            self._indexed.pop(engine, None)
            raise

    async def _load(self, blueprint: Owner, who: Any) -> Token | None:
        def work(connection: Connection) -> Any:
            return self._rows.get(connection, blueprint.name, who)

        token = await self._run(work)
        return None if token is None else Token(token)

    async def _change(
        self,
        blueprint: Owner,
        who: Any,
        work: Callable[[Connection], bool],
        token: Token | None,
    ) -> bool:
        async def save() -> bool:
            return await self._run(work)

        if self.cache is None:
            return await save()
        return await self.cache.change(self._cache_key(blueprint, who), save, token)

    async def _is_indexed(self) -> bool:
        engine = self._engine()
        if engine not in self._indexed:
            # In a transaction of its own: in SQLite one that has read may not write
            # where another one writes.
            self._indexed[engine] = await self._run(self._rows.is_indexed)
        return self._indexed[engine]

    def _cache_key(self, blueprint: Owner, who: Any) -> str:
        # Of the URL what is alike under every driver: other programs that use this
        # database must come to the same key, and those of another one must not.
        engine = self._engine()
        url, schemas = engine.url, engine.get_execution_options()
        database = url.get_backend_name(), url.host, url.port, url.database
        schema = str(schemas.get("schema_translate_map")), sorted(url.query.items())
        table = self._rows.table.fullname
        return TokenCache.key(*database, *schema, table, blueprint.name, who)

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
        if user_id is None and user is None:
            user_id, user = await resolve(self.user_id), None
            if user_id is None and self.user_id is None:
                user = await resolve(self.user)
        if user_id is None and user is not None:
            user_id = await in_caller(self._id_of, user)
        if user_id is None or user_id is NOBODY:
            return None
        column = self._rows.user
        if column is None:
            raise TypeError(f"{self.model.__name__} has no user: no user can be named")
        return coerce(user_id, column.type.python_type)

    def _id_of(self, user: Any) -> Any:
        state = inspect_model(user, raiseerr=False)
        if state is None or not hasattr(state, "identity"):
            return key_of(user, self.anon_user)
        if state.identity is None:
            raise UserRequiredError(
                f"{type(user).__name__} has no identity yet: commit the user first"
            )
        mapper = state.mapper
        attributes = [mapper.get_property_by_column(c).key for c in mapper.primary_key]
        key = self._rows.user_key or attributes[0]
        if key in attributes:  # known without a query, even if it has expired
            return state.identity[attributes.index(key)]
        name = type(user).__name__
        if key in state.unloaded:
            raise ValueError(f"{name}.{key} is not loaded: pass user_id= instead")
        if getattr(user, key) is None:
            raise UserRequiredError(f"{name} has no {key}: no token can be theirs")
        return getattr(user, key)
