"""A table of tokens in an application's database, on connections of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
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

from ...errors import StorageError
from ...oauth.token import Token
from .base import local_lock, saved
from .database import Work, address, run
from .forks import is_ours, leave, make_ours
from .rows import Rows
from .structure import is_indexed
from .waiting import finished, in_turn

T = TypeVar("T")
#: Seconds that one write to SQLite waits for another of this event loop.
PATIENCE = 5.0
Session = (
    async_sessionmaker[Any] | async_scoped_session[Any] | AsyncSession | AsyncEngine
)


@dataclass
class _Facts:
    """What has been found out about the table, in one database.

    Attributes:
        indexed: Whether our unique indexes are there.
        has_leases: Whether the table of the leases is.
    """

    indexed: bool
    has_leases: bool = False


class TokenTable:
    """The table of a model, in whatever database a session leads to.

    Args:
        model: The mapped class.
        session: What says which engine.

    Raises:
        TypeError: `session` is nothing that does.
    """

    def __init__(self, model: type[Any], session: Session) -> None:
        self.model = model
        self.session = session
        self._check_session()
        self._known: WeakKeyDictionary[Engine, _Facts] = WeakKeyDictionary()
        # Stays when the facts are looked up again: a cache goes on without a database.
        self._addresses: WeakKeyDictionary[Engine, tuple[str, ...]] = (
            WeakKeyDictionary()
        )

    @cached_property
    def rows(self) -> Rows:
        """The SQL; relationships of the model are known when all models are."""
        return Rows(inspect_model(self.model))

    def _check_session(self) -> None:
        kinds = (async_sessionmaker, async_scoped_session, AsyncSession, AsyncEngine)
        if not isinstance(self.session, kinds):
            raise TypeError(
                "session is an async_sessionmaker, async_scoped_session, AsyncSession "
                f"or AsyncEngine, not {type(self.session).__name__}"
            )

    def engine(self) -> Engine:
        """Return the engine that the session leads to now."""
        session = self.session
        if isinstance(session, AsyncEngine):
            return session.sync_engine
        if isinstance(session, async_scoped_session):
            session = session.session_factory
        if isinstance(session, async_sessionmaker):
            session = session()  # connects to nothing
        bind = session.sync_session.get_bind(inspect_model(self.model))
        return bind.engine

    async def run(
        self, kind: Work, work: Callable[[Connection], T], *tokens: Token | None
    ) -> T:
        """Run some SQL on a connection, and in a transaction, of our own.

        Args:
            kind: What `work` is.
            work: Takes the connection.
            tokens: What an error may not repeat.

        Raises:
            StorageError: The database failed.
        """
        engine = self.engine()
        try:
            return await saved(self._execute(engine, kind, work), *tokens)
        except StorageError:
            # Perhaps an index or a table is gone: look again the next time.
            self._known.pop(engine, None)
            raise

    async def _execute(
        self, engine: Engine, kind: Work, work: Callable[[Connection], T]
    ) -> T:
        _leave_parents(engine)
        if kind is Work.READ or engine.dialect.name != "sqlite":
            return await finished(greenlet_spawn(run, engine, kind, work))
        # There is one writer. SQLite lets the others ask again and again until one of
        # them happens to be first, and some never are.
        async with in_turn(local_lock(engine, "writing"), PATIENCE):
            return await finished(greenlet_spawn(run, engine, kind, work))

    async def aclose(self) -> None:
        """Close the connections that lie in the engine's pool."""
        engine = self.engine()
        _leave_parents(engine)
        await AsyncEngine(engine).dispose()

    async def is_indexed(self) -> bool:
        """Say whether the table has our unique indexes; see `structure.is_indexed`."""
        return (await self._facts()).indexed

    async def make_leases(self) -> None:
        """See to it that the table of the leases is there.

        Raises:
            StorageError: It is not, and could not be made.
        """
        facts, leases = await self._facts(), self.rows.leases
        if not (facts.has_leases or await self.run(Work.READ, leases.is_there)):
            try:
                await self.run(Work.TRANSACTION, leases.create)
            except StorageError as error:
                raise StorageError(
                    f"{error}; the table {leases.table.name!r} is missing, with which "
                    "one process refreshes a token and the others wait: create it as "
                    "the table of the tokens was created"
                ) from None
        facts.has_leases = True

    async def address(self) -> tuple[str, ...]:
        """Return what tells the table from all others; see `database.address`."""
        engine = self.engine()
        if engine not in self._addresses:

            def look(connection: Connection) -> tuple[str, ...]:
                return address(connection, self.rows.table)

            self._addresses[engine] = await self.run(Work.READ, look)
        return self._addresses[engine]

    async def _facts(self) -> _Facts:
        engine = self.engine()
        if engine not in self._known:

            def look(connection: Connection) -> bool:
                return is_indexed(connection, self.rows)

            self._known[engine] = _Facts(await self.run(Work.READ, look))
        return self._known[engine]


def _leave_parents(engine: Engine) -> None:
    """Leave connections to the process that has forked this one: both would use them.

    Here, where they are used, since nobody else knows of all: storages wrap others,
    and a server may fork without telling Python.
    """
    if not is_ours(engine, _leave_parents):
        leave(engine.pool)
        engine.dispose(close=False)
        make_ours(engine)
