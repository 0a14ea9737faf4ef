"""Fixtures: PostgreSQL, MariaDB and Redis.

A server that runs on this machine is used, else one is started, else the test is
skipped. With QUART_DANCE_REQUIRE_SERVICES=1 it fails instead.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pytest
import servers
import sites

AnyServer = TypeVar("AnyServer", bound=servers.Server)


@contextmanager
def running(kind: type[AnyServer]) -> Iterator[AnyServer]:
    """Start a server of one's own, or skip the test where it is not installed."""
    try:
        server = kind()
    except servers.MissingProgram as missing:
        if os.environ.get("QUART_DANCE_REQUIRE_SERVICES") == "1":
            pytest.fail(f"{missing}, and QUART_DANCE_REQUIRE_SERVICES=1", pytrace=False)
        pytest.skip(f"{missing}, and no server answers at its usual place")
    with server:
        yield server


@contextmanager
def place(
    usual: Sequence[sites.Site], kind: type[servers.Server]
) -> Iterator[tuple[sites.Site, str]]:
    """Give a place with a random name on a server, and remove it in the end."""
    name = f"quart_dance_{secrets.token_hex(6)}"
    for site in usual:
        if site.answers():
            try:
                yield site, name
            finally:
                site.remove(name)
            return
    with running(kind) as server:
        yield server.site, name


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[tuple[sites.Site, str]]:
    with place(sites.POSTGRESQL, servers.PostgreSQL) as found:
        yield found


@pytest.fixture(scope="session")
def _mariadb() -> Iterator[tuple[sites.Site, str]]:
    with place(sites.MARIADB, servers.MariaDB) as found:
        yield found


@pytest.fixture(scope="session")
def _redis() -> Iterator[tuple[sites.Site, str]]:
    with place(sites.REDIS, servers.Redis) as found:
        yield found


@pytest.fixture
def postgresql_url(_postgresql: tuple[sites.Site, str]) -> str:
    """Give SQLAlchemy's URL of an empty database in PostgreSQL."""
    site, name = _postgresql
    site.clear(name)
    return site.url(name)


@pytest.fixture
def mariadb_url(_mariadb: tuple[sites.Site, str]) -> str:
    """Give SQLAlchemy's URL of an empty database in MariaDB."""
    site, name = _mariadb
    site.clear(name)
    return site.url(name)


@pytest.fixture
def redis_url(_redis: tuple[sites.Site, str]) -> str:
    """Give the URL of a Redis that others use as well: see `redis_prefix`."""
    site, name = _redis
    return site.url(name)


@pytest.fixture
def redis_prefix(_redis: tuple[sites.Site, str]) -> Iterator[str]:
    """Give what a test's keys in Redis must begin with; they are deleted after it."""
    site, name = _redis
    prefix = f"{name}:{secrets.token_hex(6)}:"
    yield prefix
    site.remove(prefix)


@pytest.fixture(scope="session")
def _own_postgresql() -> Iterator[servers.PostgreSQL]:
    with running(servers.PostgreSQL) as server:
        yield server


@pytest.fixture(scope="session")
def _own_mariadb() -> Iterator[servers.MariaDB]:
    with running(servers.MariaDB) as server:
        yield server


@pytest.fixture(scope="session")
def _own_redis() -> Iterator[servers.Redis]:
    with running(servers.Redis) as server:
        yield server


@pytest.fixture
def own_postgresql(_own_postgresql: servers.PostgreSQL) -> servers.PostgreSQL:
    """Give a PostgreSQL that runs and is empty, for this test to stop and kill."""
    _own_postgresql.clear()
    return _own_postgresql


@pytest.fixture
def own_mariadb(_own_mariadb: servers.MariaDB) -> servers.MariaDB:
    """Give a MariaDB that runs and is empty, for this test to stop and kill."""
    _own_mariadb.clear()
    return _own_mariadb


@pytest.fixture
def own_redis(_own_redis: servers.Redis) -> servers.Redis:
    """Give a Redis that runs and is empty, for this test to stop and kill."""
    _own_redis.clear()
    return _own_redis
