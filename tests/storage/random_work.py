"""Two accounts, and tasks that do random work on them at once."""

from __future__ import annotations

import asyncio
import selectors
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import Any

from aiocache import RedisCache
from databases import DictCache, database, execute
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from linear import RecordedStorage, final_states
from scheduler import Clock, ParkedTransport
from sqlalchemy.ext.asyncio import create_async_engine
from support import make_app
from world import Base, OAuth

from quart_dance.consumer.runtime import runtime
from quart_dance.errors import NotAuthorizedError, TokenExpiredError
from quart_dance.testing import DevProvider

PEOPLE = {0: "alice", 7: "bob"}
VERBS = ["get", "call", "set", "delete", "logout", "expire"]
visitor: ContextVar[int] = ContextVar("visitor")
scripts = st.lists(
    st.tuples(st.sampled_from(VERBS), st.sampled_from([0, 0, 7])),
    min_size=1,
    max_size=5,
)


class Shuffle(asyncio.SelectorEventLoop):
    """A loop in which calls are parked, and go on in an order that a seed draws.

    One goes on whenever the loop would wait, be it for a thread of the database. The
    clock stands still: no deadline passes while a call is parked.
    """

    def __init__(self):
        super().__init__(Selector(self))
        self.random = Random(0)
        self.parked = []

    async def park(self):
        future = self.create_future()
        self.parked.append(future)
        await future

    def rested(self):
        future = self.parked.pop(self.random.randrange(len(self.parked)))
        if not future.done():
            future.set_result(None)

    def time(self):
        return 0.0


class Selector(selectors.DefaultSelector):
    """Tells the loop when it has nothing to do."""

    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout != 0 and self.loop.parked:
            self.loop.rested()
            timeout = 0
        return super().select(timeout)


class ParkedCache:
    """A cache to which every call is parked before it leaves."""

    def __init__(self, inner, park):
        self.inner = inner
        self.park = park

    async def get(self, key):
        await self.park()
        return await self.inner.get(key)

    async def set(self, key, value, *, ttl):
        await self.park()
        return await self.inner.set(key, value, ttl=ttl)

    async def add(self, key, value, *, ttl):
        await self.park()
        return await self.inner.add(key, value, ttl=ttl)


@asynccontextmanager
async def connected(url):
    """Open a database on a server, with its tables."""
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield engine
    await engine.dispose()


class Accounts(RuleBasedStateMachine):
    """Two accounts, and four tasks that work on them at once, again and again.

    Every read, write and compare-and-swap of the storage is recorded. For each
    account there must be an order of them, one that keeps what was over before
    something else began, in which a plain variable would have answered the same: so
    nothing deleted or replaced comes back, and nobody gets another account's.

    Attributes:
        url: Of a database on a server; "" for a file.
        cached: Whether there is a cache.
        redis: Of the cache, the arguments of aiocache's; none for one in memory.
    """

    url = ""
    cached = False
    redis: dict[str, Any] = {}

    @initialize()
    def open(self):
        self.runner = asyncio.Runner(loop_factory=Shuffle)
        self.loop = self.runner.get_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.stack = AsyncExitStack()
        self.memory = DictCache()
        self.clock = Clock()
        self.provider = DevProvider(clock=self.clock)
        self.app, self.blueprint = make_app(self.provider)
        runtime(self.app).clock = self.clock
        transport = ParkedTransport(self.provider.transport(), self.loop)
        runtime(self.app).transport = transport
        self.stored = dict.fromkeys(PEOPLE)
        self.runner.run(self._open())
        self.runner.run(self._empty())

    async def _open(self):
        path = Path(self.folder.name) / "tokens.db"
        opening = connected(self.url) if self.url else database(path, Base)
        self.engine = await self.stack.enter_async_context(opening)
        cache = None
        if self.cached:
            self.cache = RedisCache(**self.redis) if self.redis else self.memory
            cache = ParkedCache(self.cache, self.loop.park)
        if self.cached and self.redis:
            self.stack.push_async_callback(self.cache.client.aclose)
        self.blueprint.storage = RecordedStorage(
            OAuth, self.engine, user_id=visitor.get, cache=cache
        )

    async def _empty(self):
        """Delete what an earlier run has left on the servers."""
        await execute(self.engine, f"DELETE FROM {OAuth.__tablename__}")
        await self._forget()

    async def _forget(self):
        """Let the cache lose everything."""
        self.memory.values.clear()
        if self.cached and self.redis:
            await self.cache.clear(namespace=self.cache.namespace)

    @rule(
        before=st.sampled_from(["", "", "restart", "forget"]),
        first=st.sampled_from([[], ["set"], ["set", "expire"]]),
        scripts=st.lists(scripts, min_size=4, max_size=4),
        seed=st.integers(0, 2**32),
    )
    def work(self, before, first, scripts, seed):
        """Let four tasks work at once, and compare what came of it with the model.

        Before that, perhaps, a new engine and a new storage are opened, or the cache
        loses everything.
        """
        if before == "restart":
            self.runner.run(self.stack.aclose())
            self.runner.run(self._open())
        elif before == "forget":
            self.runner.run(self._forget())
        self.loop.random.seed(seed)
        self.runner.run(self._work(first, scripts))

    async def _work(self, first, scripts):
        storage = self.blueprint.storage
        storage.events.clear()
        await self._task([(verb, user_id) for user_id in PEOPLE for verb in first])
        await asyncio.gather(*(self._task(script) for script in scripts))
        for user_id, person in PEOPLE.items():
            visitor.set(user_id)
            known = await storage.get(self.blueprint)
            assert await storage.reread(self.blueprint) == known
            events = storage.events[str(user_id)]
            name = known and known["access_token"]
            assert final_states(events, self.stored[user_id]) == {name}, events
            self.stored[user_id] = name
            issued = {t.access_token: t.person.login for t in self.provider.tokens}
            assert issued.get(name, person) == person
        assert self.provider.reuse_detected == []

    async def _task(self, script):
        async with self.app.app_context():
            for verb, user_id in script:
                visitor.set(user_id)
                await self.loop.park()
                await getattr(self, f"_{verb}")(PEOPLE[user_id])

    async def _get(self, person):
        await self.blueprint.token

    async def _set(self, person):
        await self.blueprint.set_token(self.provider.issue_token(person))

    async def _delete(self, person):
        await self.blueprint.delete_token()

    async def _logout(self, person):
        await self.blueprint.revoke_token()

    async def _expire(self, person):
        self.clock.now += 3600

    async def _call(self, person):
        try:
            response = await self.blueprint.session.get("user")
        except (NotAuthorizedError, TokenExpiredError):
            return
        if response.status_code != 401:  # revoked on the way, after another logout
            assert response.json()["login"] == person

    def teardown(self):
        if hasattr(self, "runner"):
            self.runner.run(self._close())
            self.runner.close()
            self.folder.cleanup()

    async def _close(self):
        async with self.app.app_context():
            await self.blueprint.aclose()
        await self.stack.aclose()
