"""Leases in a table: who holds one, whose clock counts, and how the table comes."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from functools import partial
from itertools import count

import pytest
import pytest_asyncio
from databases import GITHUB, execute, token
from sqlalchemy import event
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import await_only
from stepping import cancelled_at
from world import Base, OAuth

from quart_dance.consumer.storage.database import Work
from quart_dance.consumer.storage.leases import TableLease
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError

TABLE = Base.metadata.tables["flask_dance_oauth_lease"]


@asynccontextmanager
async def connected(url):
    """Open a database with a pool that is soon empty."""
    engine = create_async_engine(url, pool_size=2, max_overflow=0, pool_timeout=10)
    try:
        yield engine
    finally:
        assert engine.pool.checkedout() == 0
        await engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def url(request, tmp_path):
    """Give the URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/tokens.db"
    return request.getfixturevalue(f"{request.param}_url")


@pytest_asyncio.fixture
async def engine(url):
    """Give a database with all tables."""
    async with connected(url) as engine:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield engine


def make_lease(engine, seconds=30.0):
    """Return leases of a process of their own, as a storage makes them."""
    storage = SQLAlchemyStorage(OAuth, engine)
    run = partial(storage._table.run, Work.STATEMENT)
    return TableLease(storage._table.rows.leases, run, seconds)


async def acquire(engine, owner, seconds=30.0):
    """Take a lease that nobody will give back; say whether it was free."""
    storage = SQLAlchemyStorage(OAuth, engine)
    leases = storage._table.rows.leases
    work = partial(leases.acquire, name="a", owner=owner, seconds=seconds)
    return await storage._table.run(Work.STATEMENT, work)


async def owner(engine):
    """Return who holds the one lease that there is; "" is nobody."""
    ((name,),) = await execute(engine, f"SELECT owner FROM {TABLE.name}")
    return name


async def test_one_at_a_time(engine):
    """F5: Whoever comes second waits, until the first one gives the lease back."""
    lease, other = make_lease(engine), make_lease(engine)
    order = []

    async def second():
        async with other.hold("a"):
            order.append("second")

    async with lease.hold("a"):
        task = asyncio.create_task(second())
        async with other.hold("b"):  # another account's
            order.append("first")
    await task
    assert order == ["first", "second"]


async def test_only_the_owner_gives_back(engine):
    """F5: A holder whose lease has run out leaves it to the one who holds it now."""
    lease, other = make_lease(engine), make_lease(engine)
    first = lease.hold("a")
    await first.__aenter__()
    await execute(engine, f"UPDATE {TABLE.name} SET until = 1")  # it has run out
    async with other.hold("a"):
        theirs = await owner(engine)
        await first.__aexit__(None, None, None)
        assert await owner(engine) == theirs != ""
    assert await owner(engine) == ""


async def test_a_holder_that_is_killed(engine):
    """F5: Who waits for a lease that nobody gives back gets it when it has run out."""
    began = time.monotonic()
    assert await acquire(engine, "killed", seconds=0.3)
    async with asyncio.timeout(10), make_lease(engine).hold("a"):
        assert time.monotonic() - began > 0.2


async def test_asked_again(engine):
    """S8: A statement that is carried out twice, as its answer was lost, is no loss."""
    assert [await acquire(engine, x) for x in "xxyx"] == [True, True, False, True]


@pytest.mark.parametrize("skew", [-86_400, 86_400])
async def test_whose_clock_counts(engine, monkeypatch, skew):
    """F5: A process whose clock is a day off neither takes a lease nor loses one."""
    lease, other = make_lease(engine), make_lease(engine)
    real = time.time
    async with lease.hold("a"):
        theirs = await owner(engine)
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + skew)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3), other.hold("a"):
                    pass
            assert await owner(engine) == theirs
            async with other.hold("b"):
                pass
    async with asyncio.timeout(10), lease.hold("b"), other.hold("a"):
        pass


async def test_the_clock_of_the_database_is_set_back(engine):
    """F5: A lease that ends after a hundred times its length is none."""
    lease = make_lease(engine)
    async with lease.hold("a"):
        pass
    future = f"UPDATE {TABLE.name} SET owner = 'x', until = until + :seconds"
    await execute(engine, future, seconds=time.time() + 86_400)
    async with asyncio.timeout(10), lease.hold("a"):
        assert await owner(engine) != "x"


async def test_cancelled_at_every_await(engine):
    """F7: Whoever is cancelled, wherever it waits, hears so, and leaves no lease."""
    lease = make_lease(engine)
    async with lease.hold("a"):
        pass
    ended = []

    async def hold():
        async with lease.hold("a"):
            await asyncio.sleep(0)
        ended.append(True)

    for number in count(1):
        cancelled = await cancelled_at(hold(), number)
        assert cancelled is not bool(ended)
        assert await owner(engine) == ""
        if ended:
            break
    assert number > 2


class Slow:
    """A process, or a database, that takes its time over a change of a lease.

    Args:
        engine: The database.
        monkeypatch: Sets the clock forward, the event loop's as well.

    Attributes:
        seconds: How long one takes.
        times: How many do.
        changes: How many there have been.
    """

    def __init__(self, engine, monkeypatch):
        self.seconds = 0
        self.times = 9
        self.changes = 0
        self._spent = 0
        self._clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: self._clock() + self._spent)
        event.listen(engine.sync_engine, "after_cursor_execute", self._note)

    def _note(self, connection, cursor, statement, *_):
        if statement.startswith("UPDATE") and TABLE.name in statement:
            self.changes += 1
            if self.changes <= self.times:
                self._spent += self.seconds


@pytest.fixture
def slow(engine, monkeypatch):
    """Give what makes a change of a lease slow."""
    return Slow(engine, monkeypatch)


async def test_enough_is_left(engine, slow):
    """F5: Whoever needs 4 of 30 seconds to take a lease holds it at once."""
    slow.seconds = 4
    async with make_lease(engine).hold("a"):
        assert slow.changes == 1
        assert await owner(engine) != ""


async def test_too_little_is_left(engine, slow):
    """F5: Whoever needs more gives up after a while, and keeps nobody out."""
    slow.seconds = 6
    with pytest.raises(StorageError, match="too little"):
        async with make_lease(engine).hold("a"):
            raise AssertionError("too little is left")
    assert await owner(engine) == ""
    assert slow.changes == 3 + 1  # it was given back


async def test_slow_but_once(engine, slow):
    """F5: Whoever was held up once has all of the lease when it asks again."""
    slow.seconds, slow.times = 6, 1
    async with make_lease(engine).hold("a"):
        assert slow.changes == 2


async def refresh_locked(storage):
    """Hold the refresh lock of an account for a moment."""
    async with asyncio.timeout(30), storage.refresh_lock(GITHUB, user_id=1):
        pass


async def drop_leases(engine):
    """Leave only the table of tokens, as one has that was made long ago."""
    async with engine.begin() as connection:
        await connection.run_sync(TABLE.drop)


async def test_the_table_is_made_at_the_first_use(engine):
    """S6: Where the table of leases is missing the first refresh makes it."""
    await drop_leases(engine)
    storage = SQLAlchemyStorage(OAuth, engine)
    await storage.set(GITHUB, token("x"), user_id=1)
    assert await storage.get(GITHUB, user_id=1) == token("x")
    with pytest.raises(Exception, match=TABLE.name):
        await owner(engine)  # nothing has needed it so far
    for _ in range(2):
        await refresh_locked(storage)
        assert await owner(engine) == ""
    # And again, if somebody takes it away; that is noticed once.
    await drop_leases(engine)
    with pytest.raises(StorageError, match=TABLE.name):
        await refresh_locked(storage)
    await refresh_locked(storage)


async def test_two_make_the_table(engine, url):
    """S6: Of two who make the table at the same time the slower one is fine, too."""
    await drop_leases(engine)
    made = []
    async with connected(url) as slow:

        @event.listens_for(slow.sync_engine, "before_cursor_execute")
        def be_overtaken(connection, cursor, statement, *_):
            if "CREATE TABLE" in statement and not made:
                made.append(await_only(make()))

        async def make():
            async with engine.begin() as connection:
                await connection.run_sync(TABLE.create)
            return True

        await refresh_locked(SQLAlchemyStorage(OAuth, slow))
    assert made == [True]
    assert await owner(engine) == ""


async def test_many_make_the_table(engine):
    """S6: Ten storages that need it at the same time all get it."""
    await drop_leases(engine)
    storages = [SQLAlchemyStorage(OAuth, engine) for _ in range(10)]
    await asyncio.gather(*map(refresh_locked, storages))
    assert await owner(engine) == ""


RIGHTS = {
    "postgresql": [
        "CREATE ROLE app LOGIN",
        "GRANT USAGE ON SCHEMA public TO app",
        "GRANT ALL ON ALL TABLES IN SCHEMA public TO app",
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app",
        "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO app",
    ],
    "mariadb": [
        "CREATE USER app",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON test.* TO app",
    ],
}


@pytest.mark.parametrize("kind", RIGHTS)
async def test_the_table_may_not_be_made(request, kind):
    """S16: Where the application may not make it the error says what is to be done.

    Tokens are stored and read all the same, and once the table is there all is well.
    """
    server = request.getfixturevalue(f"own_{kind}")
    async with (
        connected(server.url) as admin,
        connected(server.url.replace(f"{server.user}@", "app@")) as engine,
    ):
        async with admin.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
            await connection.run_sync(TABLE.drop)
        for statement in RIGHTS[kind]:
            await execute(admin, statement)
        storage = SQLAlchemyStorage(OAuth, engine)
        await storage.set(GITHUB, token("x"), user_id=1)
        with pytest.raises(StorageError, match="is missing.*create it") as caught:
            await refresh_locked(storage)
        assert "denied" in str(caught.value) and TABLE.name in str(caught.value)
        assert await storage.get(GITHUB, user_id=1) == token("x")
        async with admin.begin() as connection:
            await connection.run_sync(TABLE.create)
        await refresh_locked(storage)
