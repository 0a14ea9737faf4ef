"""Every storage that processes share, on every server, held to its word by processes."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from opening import place_of

from quart_dance.testing.contract import AccountsContract, SharedContract


class Shared(AccountsContract, SharedContract):
    """A storage of users' tokens that two processes share.

    Attributes:
        kind: See `opening.place_of`.
    """

    opens = "opening:opened"
    lease = 2
    kind: ClassVar[str]

    @pytest.fixture
    def place(self, request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
        """Give an empty place."""
        return place_of(self.kind, request, tmp_path)


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
