"""One cache for several programs and databases: who may find whose tokens there."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiomysql
import asyncpg
import pytest
from aiocache import SimpleMemoryCache
from opening import Base, OAuth, make_tables
from servers import PostgreSQL
from sites import HOST
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.flask.consumer.storage import sqla as flask_sqla

OWNER = SimpleNamespace(name="dev")
NEW = {"access_token": "the new one"}
SERVERS = ["postgresql", "mariadb"]


@pytest.fixture(params=SERVERS)
def url(request):
    """Give the URL of an empty database."""
    return request.getfixturevalue(f"{request.param}_url")


@asynccontextmanager
async def storages(*places: str | AsyncEngine) -> Any:
    """Open a storage on each database, and one cache for all of them."""
    engines = [
        create_async_engine(place) if isinstance(place, str) else place
        for place in places
    ]
    cache = SimpleMemoryCache()
    opened = [SQLAlchemyStorage(OAuth, engine, cache=cache) for engine in engines]
    try:
        yield cache, *opened
    finally:
        for engine in engines:
            await engine.dispose()


async def make_them(engine: AsyncEngine) -> None:
    """Make the tables."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)


async def are_apart(cache, one, two):
    """See that what the cache holds of one storage the other one does not find."""
    await one.set(OWNER, NEW, user_id=1)
    await cache.clear()  # the marker of the change
    assert await one.get(OWNER, user_id=1) == NEW
    assert await two.get(OWNER, user_id=1) is None


async def are_one(cache, one, two):
    """See that a log-out in one storage counts at once in the other one."""
    await one.set(OWNER, NEW, user_id=1)
    await cache.clear()  # the marker of the change
    assert await one.get(OWNER, user_id=1) == NEW
    await two.delete(OWNER, user_id=1)
    assert await one.get(OWNER, user_id=1) is None


# Apart


async def test_two_roles_with_schemas_of_their_own(postgresql_url):
    """S11: With one cache, tenants whom only the search path keeps apart stay apart."""
    tenants = [
        create_async_engine(
            postgresql_url, connect_args={"server_settings": {"search_path": name}}
        )
        for name in ("north", "south")
    ]
    async with tenants[0].begin() as connection:
        for name in ("north", "south"):
            await connection.execute(text(f"CREATE SCHEMA {name}"))
    for tenant in tenants:
        await make_them(tenant)
    async with storages(*tenants) as opened:
        await are_apart(*opened)


async def connect(kind, **where):
    """Connect as the connectors of clouds do, of which a URL says nothing."""
    if kind == "postgresql":
        return await asyncpg.connect(user="postgres", **where)
    where["db"] = where.pop("database")
    return await aiomysql.connect(user="root", **where)


@pytest.mark.parametrize("kind", SERVERS)
async def test_two_servers_of_one_name(kind, request):
    """S11: With one cache, databases of one name on two servers of one name are two."""
    site, name = request.getfixturevalue(f"_{kind}")
    own = request.getfixturevalue(f"own_{kind}").site
    driver = make_url(site.url(name)).drivername
    engines = []
    for each in (site, own):
        each.clear(name)
        where = {"host": HOST, "port": each.port, "database": name}

        async def creator(where=where):
            return await connect(kind, **where)

        engines.append(create_async_engine(f"{driver}://", async_creator=creator))
        await make_them(engines[-1])
    async with storages(*engines) as opened:
        await are_apart(*opened)
    own.remove(name)


class Copy(PostgreSQL):
    """A server that begins with all files of another one, which stands still."""

    def __init__(self, original):
        super().__init__()
        self.original = original

    def prepare(self):
        folders = (server.folder / "data" for server in (self.original, self))
        self.call("cp", "-a", *map(str, folders))


async def test_a_copy_of_a_server(own_postgresql):
    """S11: A copy calls itself as the original does; another address keeps it apart."""
    await make_tables(own_postgresql.url)
    own_postgresql.stop()
    with Copy(own_postgresql) as copy:
        own_postgresql.start()
        async with storages(own_postgresql.url, copy.url) as opened:
            await are_apart(*opened)


async def test_two_files_of_one_name(tmp_path):
    """S11: In two containers, say, one name stands for two files: they are two."""
    path = tmp_path / "app.db"
    url = f"sqlite+aiosqlite:///{path}"
    await make_tables(url)
    async with storages(url, url) as (cache, one, two):
        await one.set(OWNER, NEW, user_id=1)
        await cache.clear()  # the marker of the change
        assert await one.get(OWNER, user_id=1) == NEW
        await one.aclose()
        path.rename(tmp_path / "elsewhere.db")
        await make_tables(url)
        assert await two.get(OWNER, user_id=1) is None


async def test_two_databases_in_memory():
    """S11: What is in memory is nobody else's, whatever their cache."""
    engines = [create_async_engine("sqlite+aiosqlite://") for _ in range(2)]
    for engine in engines:
        await make_them(engine)
    async with storages(*engines) as opened:
        await are_apart(*opened)


# One


async def test_two_programs_with_urls_of_their_own(url):
    """S10: With one cache, a log-out in one program is seen in the other one.

    Each says in its own words where the database is.
    """
    await make_tables(url)
    plain = make_url(url)
    words = {"postgresql": {"ssl": "disable"}, "mysql": {"charset": "utf8mb4"}}
    other = plain.set(host="localhost", query=words[plain.get_backend_name()])
    if plain.port in (5432, 3306):
        other = other.set(port=None)
    urls = [each.render_as_string(hide_password=False) for each in (plain, other)]
    async with storages(*urls) as opened:
        await are_one(*opened)


async def test_a_file_with_two_names(tmp_path, monkeypatch):
    """S10: A file is the same one, whether its path is relative or absolute."""
    monkeypatch.chdir(tmp_path)
    urls = "sqlite+aiosqlite:///app.db", f"sqlite+aiosqlite:///{tmp_path}/app.db"
    await make_tables(urls[0])
    async with storages(*urls) as opened:
        await are_one(*opened)


class SyncFace:
    """A cache of aiocache's, as Flask-Caching's are."""

    def __init__(self, cache):
        self.cache = cache

    def get(self, key):
        return asyncio.run(self.cache.get(key))

    def set(self, key, value, *, timeout):
        return asyncio.run(self.cache.set(key, value, ttl=timeout))

    def add(self, key, value, *, timeout):
        return asyncio.run(self.cache.add(key, value, ttl=timeout))


@pytest.mark.parametrize("kind", [*SERVERS, "sqlite"])
async def test_flask_and_quart(kind, request, tmp_path):
    """S10: With one cache and drivers of their own, what Flask deletes Quart sees."""
    url = f"sqlite+aiosqlite:///{tmp_path}/app.db"
    if kind != "sqlite":
        url = request.getfixturevalue(f"{kind}_url")
    await make_tables(url)
    drivers = {"postgresql": "psycopg", "mysql": "pymysql", "sqlite": "pysqlite"}
    backend = make_url(url).get_backend_name()
    plain = make_url(url).set(drivername=f"{backend}+{drivers[backend]}")
    engine = create_engine(plain)
    async with storages(url) as (cache, quart):
        flask = flask_sqla.SQLAlchemyStorage(OAuth, engine, cache=SyncFace(cache))

        async def delete(owner, **who):
            await asyncio.to_thread(flask.delete, owner, **who)

        await are_one(cache, quart, SimpleNamespace(delete=delete))
    engine.dispose()


async def test_a_role_that_may_not_ask(own_postgresql):
    """S16: Where a server may not say who it is, the cache works all the same."""
    admin = create_async_engine(own_postgresql.url)
    ask = "EXECUTE ON FUNCTION pg_control_system()"
    async with admin.begin() as connection:
        await connection.execute(text(f"REVOKE {ask} FROM PUBLIC"))
        await connection.execute(text("CREATE ROLE plain LOGIN"))
        await connection.execute(text("GRANT USAGE, CREATE ON SCHEMA public TO plain"))
    url = make_url(own_postgresql.url).set(username="plain").render_as_string()
    await make_tables(url)
    async with storages(url, url) as opened:
        await are_one(*opened)
    async with admin.begin() as connection:
        await connection.execute(text(f"GRANT {ask} TO PUBLIC"))
        await connection.execute(text("DROP OWNED BY plain"))
        await connection.execute(text("DROP ROLE plain"))
    await admin.dispose()
