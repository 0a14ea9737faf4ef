"""Every storage that processes share, on every server, held to its word by them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from opening import empty_tables, in_redis, make_tables

from quart_dance.testing.contract import AccountsContract, SharedContract

pytestmark = pytest.mark.slow


@pytest.fixture(scope="class")
def url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Give a database with tables, to be emptied for each test; or no database."""
    name, _, more = request.cls.kind.partition(" ")
    if name in ("postgresql", "mariadb"):
        site, own = request.getfixturevalue(f"_{name}")
        own += "_shared"
        site.clear(own)
        url = site.url(own)
    else:
        url = f"sqlite+aiosqlite:///{tmp_path_factory.mktemp('shared')}/tokens.db"
    if name != "file":
        asyncio.run(make_tables(url, indexed=more != "without indexes"))
    yield url
    if name in ("postgresql", "mariadb"):
        site.remove(own)


class Shared(AccountsContract, SharedContract):
    """A storage of users' tokens that two processes share.

    Attributes:
        kind: A database, or files, and what else; see `opening.place_of`.
    """

    opens = "opening:opened"
    lease = 2
    kind: ClassVar[str]

    @pytest.fixture
    def place(
        self, request: pytest.FixtureRequest, url: str, tmp_path: Path
    ) -> dict[str, Any]:
        """Give an empty place."""
        name, _, more = self.kind.partition(" ")
        if name == "file":
            return {"folder": str(tmp_path)}
        asyncio.run(empty_tables(url))
        return {"url": url, "lease_seconds": 2, **in_redis(more, request)}


class TestPostgreSQL(Shared):
    kind = "postgresql"


class TestPostgreSQLBehindRedis(Shared):
    kind = "postgresql redis cache"


class TestPostgreSQLWithLeasesInRedis(Shared):
    kind = "postgresql redis lease"


class TestPostgreSQLWithoutIndexes(Shared):
    kind = "postgresql without indexes"


class TestMariaDB(Shared):
    kind = "mariadb"


class TestMariaDBBehindRedis(Shared):
    kind = "mariadb redis cache"


class TestMariaDBWithoutIndexes(Shared):
    kind = "mariadb without indexes"


class TestSQLite(Shared):
    kind = "sqlite"


class TestSQLiteBehindRedis(Shared):
    kind = "sqlite redis cache"


class TestSQLiteWithoutIndexes(Shared):
    kind = "sqlite without indexes"


class TestFiles(Shared):
    kind = "file"
