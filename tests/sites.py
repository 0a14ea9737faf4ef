"""Where a database or a Redis answers, and how to have an empty place there."""

from __future__ import annotations

import asyncio
import getpass
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import asyncpg
import pymysql
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

HOST = "127.0.0.1"
#: Seconds for one statement of ours: a server that is paused must not hang the tests.
PATIENCE = 30


@dataclass(frozen=True)
class Site(ABC):
    """A server that somebody runs on this machine.

    Attributes:
        port: Its port.
        user: Who we are there; no password is needed.
    """

    port: int
    user: str = ""

    @abstractmethod
    def ask(self, timeout: float) -> None:
        """Raise if it does not answer."""

    @abstractmethod
    def url(self, place: str) -> str:
        """Return the URL of a database there, or of Redis."""

    @abstractmethod
    def clear(self, place: str) -> None:
        """Make a database, an empty one; whoever uses it is thrown out."""

    @abstractmethod
    def remove(self, place: str) -> None:
        """Remove a database, or all keys that begin so."""

    def answers(self, timeout: float = 2) -> bool:
        """Say whether it answers now."""
        try:
            self.ask(timeout)
        except (OSError, asyncpg.PostgresError, pymysql.Error, redis.RedisError):
            return False
        return True


class PostgreSQLSite(Site):
    def ask(self, timeout: float) -> None:
        self._run("SELECT 1", timeout=timeout)

    def url(self, place: str) -> str:
        return f"postgresql+asyncpg://{self.user}@{HOST}:{self.port}/{place}"

    def clear(self, place: str) -> None:
        others = f"datname = '{place}' AND pid <> pg_backend_pid()"
        throw_out = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        if self._run(f"SELECT 1 FROM pg_database WHERE datname = '{place}'"):
            self._run(
                f"{throw_out} WHERE {others}",
                "DROP SCHEMA public CASCADE",
                "CREATE SCHEMA public",
                place=place,
            )
        else:
            # Not from template1, which nobody else may use meanwhile.
            self._run(f"CREATE DATABASE {place} TEMPLATE template0")

    def remove(self, place: str) -> None:
        self._run(f"DROP DATABASE IF EXISTS {place} WITH (FORCE)")

    def _run(
        self, *statements: str, place: str = "postgres", timeout: float = PATIENCE
    ) -> list[Any]:
        async def run() -> list[Any]:
            async with asyncio.timeout(timeout):
                connection = await asyncpg.connect(
                    host=HOST, port=self.port, user=self.user, database=place
                )
                try:
                    return [await connection.fetch(text) for text in statements][-1]
                finally:
                    await connection.close(timeout=timeout)

        # In a thread, because the loop of a test may run in this one.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, run()).result()


class MariaDBSite(Site):
    def ask(self, timeout: float) -> None:
        self._run("SELECT 1", timeout=timeout)

    def url(self, place: str) -> str:
        where = f"{self.user}@{HOST}:{self.port}/{place}"
        return f"mysql+aiomysql://{where}?charset=utf8mb4"

    def clear(self, place: str) -> None:
        self.remove(place)
        self._run(f"CREATE DATABASE {place} CHARACTER SET utf8mb4")

    def remove(self, place: str) -> None:
        users = f"SELECT id FROM information_schema.processlist WHERE db = '{place}'"
        for (number,) in self._run(users):
            try:
                self._run(f"KILL {number}")
            except pymysql.OperationalError as error:
                if error.args[0] != pymysql.constants.ER.NO_SUCH_THREAD:
                    raise
        self._run(f"DROP DATABASE IF EXISTS {place}")

    def _run(self, statement: str, timeout: float = PATIENCE) -> Any:
        connection = pymysql.connect(
            host=HOST,
            port=self.port,
            user=self.user,
            connect_timeout=timeout,
            read_timeout=timeout,
            ssl_disabled=True,  # it costs 20 ms even where it is not used
        )
        with closing(connection), connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()


class RedisSite(Site):
    def ask(self, timeout: float) -> None:
        with self._client(timeout) as client:
            client.ping()

    def url(self, place: str) -> str:
        return f"redis://{HOST}:{self.port}/0"

    def clear(self, place: str) -> None:
        self.remove(place)

    def remove(self, place: str) -> None:
        with self._client(PATIENCE) as client:
            keys = list(client.scan_iter(f"{place}*", count=10_000))
            if keys:
                client.delete(*keys)

    def _client(self, timeout: float) -> redis.Redis:
        once = Retry(NoBackoff(), 0)
        return redis.Redis(HOST, self.port, socket_timeout=timeout, retry=once)


#: Where each one usually is.
POSTGRESQL = (PostgreSQLSite(5432, "postgres"), PostgreSQLSite(5432, getpass.getuser()))
MARIADB = (MariaDBSite(3306, "root"),)
REDIS = (RedisSite(6379),)
