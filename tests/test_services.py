"""The servers behind the tests: found or started, emptied, stopped, killed, paused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import redis.asyncio
import servers
import sites
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine


async def run(url, *statements):
    """Run statements in a transaction of their own; return what the last returns."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            results = [await connection.execute(text(s)) for s in statements]
            return results[-1].scalar() if results[-1].returns_rows else None
    finally:
        await engine.dispose()


KEEP = "CREATE TABLE kept (n INTEGER)", "INSERT INTO kept VALUES (42)"
KEPT = "SELECT n FROM kept"


@pytest.mark.parametrize("name", ["postgresql_url", "mariadb_url"])
@pytest.mark.parametrize("_", [1, 2])
async def test_a_database_is_empty(request, name, _):
    """Each test finds an empty database, whatever the last one left in it."""
    await run(request.getfixturevalue(name), *KEEP)


@pytest.mark.parametrize("site", ["_postgresql", "_mariadb"])
async def test_a_database_is_taken_from_who_holds_it(request, site):
    """A connection that a test has left open, with locks, holds up no other test."""
    site, name = request.getfixturevalue(site)
    site.clear(name)
    engine = create_async_engine(site.url(name))
    connection = await engine.connect()
    for statement in KEEP:
        await connection.execute(text(statement))
    site.clear(name)
    await connection.invalidate()
    await engine.dispose()
    await run(site.url(name), *KEEP)


async def test_keys_are_removed(_redis, redis_url, redis_prefix):
    """A test's keys in Redis go with it."""
    site, _ = _redis
    async with redis.asyncio.from_url(redis_url) as client:
        await client.set(f"{redis_prefix}a", "b")
        await client.set(f"{redis_prefix[:-1]}.not-mine", "c", ex=60)
        site.remove(redis_prefix)
        assert await client.get(f"{redis_prefix}a") is None
        assert await client.getdel(f"{redis_prefix[:-1]}.not-mine") == b"c"


@pytest.mark.parametrize("name", ["own_postgresql", "own_mariadb"])
@pytest.mark.parametrize("end", ["stop", "kill"])
async def test_a_database_comes_back(request, name, end):
    """A server that was stopped or killed is gone, and still has what it stored."""
    server = request.getfixturevalue(name)
    await run(server.url, *KEEP)
    getattr(server, end)()
    assert not server.site.answers()
    server.start()
    assert await run(server.url, KEPT) == 42


@pytest.mark.parametrize("name", ["own_postgresql", "own_mariadb", "own_redis"])
def test_a_server_is_paused(request, name):
    """A server that is paused does not answer; after that it goes on."""
    server = request.getfixturevalue(name)
    server.pause()
    assert not server.site.answers(timeout=0.1)
    server.resume()
    assert server.site.answers()


@pytest.mark.parametrize("name", ["own_postgresql", "own_mariadb", "own_redis"])
def test_a_server_comes_back_by_itself(request, name):
    """A test that leaves its server killed leaves a running one to the next."""
    server = request.getfixturevalue(name)
    server.kill()
    server.clear()
    assert server.site.answers()


@pytest.mark.parametrize("kind", [servers.PostgreSQL, servers.MariaDB, servers.Redis])
def test_a_server_that_survives_power_cuts(kind):
    """Servers start with durable settings, too, and leave nothing behind."""
    with kind(durable=True) as server:
        server.clear()
        assert server.site.answers()
    assert not server.site.answers()
    assert not server.folder.exists()


SKIPPING = """
pytest_plugins = ["services"]

def test_postgresql(own_postgresql):
    pass

def test_redis(own_redis):
    pass
"""

NOTHING_IS_INSTALLED = """
import shutil
shutil.which = lambda *args, **kwargs: None
"""


@pytest.mark.parametrize("required, outcome", [("", "2 skipped"), ("1", "2 errors")])
def test_where_nothing_is_installed(tmp_path, monkeypatch, required, outcome):
    """Where a program is missing tests are skipped, or fail, and say which one."""
    (tmp_path / "test_skipping.py").write_text(SKIPPING)
    (tmp_path / "sitecustomize.py").write_text(NOTHING_IS_INSTALLED)
    path = os.pathsep.join((str(tmp_path), os.path.dirname(sites.__file__)))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("QUART_DANCE_REQUIRE_SERVICES", required)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rsE", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert outcome in done.stdout, done.stdout
    assert "redis-server is not installed" in done.stdout
