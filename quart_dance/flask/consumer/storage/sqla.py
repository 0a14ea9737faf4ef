"""Tokens in the database of a Flask application, through SQLAlchemy."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, closing
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Connection, Engine
from sqlalchemy import inspect as inspect_model
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from ....consumer.storage import sqla, table
from ....consumer.storage.base import BaseStorage, Owner
from ....consumer.storage.cache import TokenCache
from ....consumer.storage.caller import in_caller
from ....consumer.storage.database import Work, run
from ....consumer.storage.model import OAuthConsumerMixin
from ....errors import StorageError
from ....oauth.token import Token
from ...storages import SyncStorage

__all__ = ["OAuthConsumerMixin", "SQLAlchemyStorage"]

T = TypeVar("T")
AnySession = scoped_session[Any] | sessionmaker[Any] | Session | Engine


class SyncCache(Protocol):
    """What we ask of a cache; Flask-Caching's is like this."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any, *, timeout: int) -> Any: ...

    def add(self, key: str, value: Any, *, timeout: int) -> Any: ...


class SQLAlchemyStorage(SyncStorage):
    """Keeps tokens in a table: one row for each provider and user.

    Connections and transactions are its own, and short: `session` only says which
    engine, and what an application has not committed is neither seen nor touched. The
    statements run in the thread of whoever needs a token.

    SQLite in memory has one connection for all. There, while the application has
    something on it that is not committed, what is stored is part of that transaction,
    to be committed or rolled back with it. That is for `db.session`, a
    `scoped_session` or a `Session`; otherwise StorageError is raised then.

    Args:
        model: The mapped class; see `OAuthConsumerMixin`.
        session: Flask-SQLAlchemy's ``db.session``, or any `scoped_session`,
            `sessionmaker`, `Session` or `Engine`.
        user: Whose token: a user object, a proxy such as Flask-Login's
            `current_user`, or a function that returns one.
        user_id: The same as an id; it wins over `user`.
        user_required: As `quart_dance.consumer.storage.sqla.SQLAlchemyStorage` takes
            it, as all that follows.
        anon_user: …
        cache: Flask-Caching's cache, or None. How long it may take is for itself to
            say: nothing else can break off a call in the caller's thread.
        cache_ttl: …

    Raises:
        TypeError: `session` is none of these, or the cache has coroutines.
    """

    def __init__(
        self,
        model: type[Any],
        session: AnySession,
        user: Any = None,
        user_id: Any = None,
        user_required: bool | None = None,
        anon_user: type | None = None,
        cache: SyncCache | None = None,
        *,
        cache_ttl: int = 300,
    ) -> None:
        if cache is not None and inspect.iscoroutinefunction(cache.get):
            raise TypeError(f"{type(cache).__name__} has coroutines: use a sync cache")
        storage = _CallersDatabase(
            model, cast(Any, session), user, user_id, user_required, anon_user
        )
        if cache is not None:
            storage.cache = _CallersCache(_Timeouts(cache), cache_ttl)
        # Who the user is may be asked of a coroutine function even here.
        self.waits = any(map(inspect.iscoroutinefunction, (user, user_id)))
        super().__init__(storage)


class _CallersTable(table.TokenTable):
    """The same table, on connections of the caller's thread."""

    def _check_session(self) -> None:
        session: Any = self.session
        if not isinstance(session, scoped_session | sessionmaker | Session | Engine):
            raise TypeError(
                "session is db.session, or a scoped_session, sessionmaker, Session or "
                f"Engine, not {type(session).__name__}"
            )

    def engine(self) -> Engine:
        session: Any = self.session
        if isinstance(session, Engine):
            return session
        if isinstance(session, scoped_session):
            session = session.session_factory
        if isinstance(session, sessionmaker):
            session = session()  # connects to nothing
        engine: Engine = session.get_bind(inspect_model(self.model)).engine
        return engine

    async def _execute(
        self, engine: Engine, kind: Work, work: Callable[[Connection], T]
    ) -> T:
        return await in_caller(self._run_here, engine, kind, work)

    def _run_here(
        self, engine: Engine, kind: Work, work: Callable[[Connection], T]
    ) -> T:
        if not _is_busy(engine):
            return run(engine, kind, work)
        # A connection of our own would be this one: to give it back ends what others
        # have begun there.
        session: Any = self.session
        if isinstance(session, scoped_session):
            session = session()
        if not (isinstance(session, Session) and session.in_transaction()):
            raise StorageError(
                "SQLite in memory has one connection for all, and something on it is "
                "not committed: commit it first, or use a database in a file"
            )
        mapper = inspect_model(self.model)
        connection = session.connection(bind_arguments={"mapper": mapper})
        with connection.begin_nested():
            return work(connection)


def _is_busy(engine: Engine) -> bool:
    """Say whether all share a connection, on which a transaction has begun.

    All, or all in this thread: so it is where SQLite keeps a database in memory.
    """
    pool, connection = engine.pool, cast(Any, None)
    if engine.dialect.name != "sqlite":
        return False
    if isinstance(pool, StaticPool):
        connection = pool.connection.dbapi_connection
    elif isinstance(pool, SingletonThreadPool):
        with closing(pool.connect()) as shared:  # counted: stays open for the others
            connection = shared.dbapi_connection
    return connection is not None and connection.in_transaction


class _CallersDatabase(sqla.SQLAlchemyStorage):
    """The same storage, on connections of the caller's thread."""

    _table_class = _CallersTable

    # Nothing is done: the connections are the application's.
    aclose = BaseStorage.aclose

    # The account: Flask-Dance also looks into `blueprint.config`.

    def _who_of(self, blueprint: Owner, who: Mapping[str, Any]) -> dict[str, Any]:
        named = {name: value for name, value in who.items() if value is not None}
        if named or self.user is not None or self.user_id is not None:
            return named
        config: Mapping[str, Any] = getattr(blueprint, "config", {})
        return {n: config[n] for n in ("user", "user_id") if config.get(n) is not None}

    async def get(self, blueprint: Owner, **who: Any) -> Token | None:
        return await super().get(blueprint, **self._who_of(blueprint, who))

    async def set(self, blueprint: Owner, token: Mapping[str, Any], **who: Any) -> None:
        await super().set(blueprint, token, **self._who_of(blueprint, who))

    async def delete(self, blueprint: Owner, **who: Any) -> None:
        await super().delete(blueprint, **self._who_of(blueprint, who))

    async def account(self, blueprint: Owner, **who: Any) -> str | None:
        return await super().account(blueprint, **self._who_of(blueprint, who))

    async def reread(self, blueprint: Owner, **who: Any) -> Token | None:
        return await super().reread(blueprint, **self._who_of(blueprint, who))

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        who = self._who_of(blueprint, who)
        return await super().replace(blueprint, old, new, **who)

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        async with super().refresh_lock(blueprint, **self._who_of(blueprint, who)):
            yield


class _CallersCache(TokenCache):
    """The same cache, called in the caller's thread, with or without an event loop."""

    def _clock(self) -> float:
        return time.monotonic()

    async def _whole(self, change: Awaitable[T]) -> T:
        return await change  # nobody can cancel a statement in the caller's thread

    async def _answer(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await call()


class _Timeouts:
    """A sync cache, as an async one; Flask-Caching says `timeout` for `ttl`."""

    def __init__(self, cache: SyncCache) -> None:
        self._cache = cache

    async def get(self, key: str) -> Any:
        return await in_caller(self._cache.get, key)

    async def set(self, key: str, value: Any, *, ttl: int) -> Any:
        return await in_caller(self._cache.set, key, value, timeout=ttl)

    async def add(self, key: str, value: Any, *, ttl: int) -> Any:
        return await in_caller(self._cache.add, key, value, timeout=ttl)
