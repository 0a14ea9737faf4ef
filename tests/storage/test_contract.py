"""Every storage we ship, and one made by its documentation alone, held to its word."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from aiocache import SimpleMemoryCache
from databases import (
    Base,
    OAuth,
    PlainBase,
    PlainOAuth,
    database,
    make_flask_dance_table,
)
from quart import Quart
from quart.sessions import SessionInterface, SessionMixin
from sqlalchemy import JSON, Uuid
from sqlalchemy.ext.asyncio import async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import quart_dance
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.testing.contract import (
    AccountsContract,
    DurableContract,
    StorageContract,
)
from quart_dance.testing.contract.core import ONE


class VaultStorage(BaseStorage):
    """Three coroutines over a dict, and what they call takes its time."""

    def __init__(self):
        self.tokens = {}

    async def get(self, blueprint):
        await asyncio.sleep(0)
        found = self.tokens.get(blueprint.name)
        return None if found is None else json.loads(found)

    async def set(self, blueprint, token):
        text = json.dumps(token)
        await asyncio.sleep(0)
        self.tokens[blueprint.name] = text

    async def delete(self, blueprint):
        await asyncio.sleep(0)
        self.tokens.pop(blueprint.name, None)


class TestCustomStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        return VaultStorage()


class TestMemoryStorage(StorageContract):
    @pytest.fixture
    def storage(self):
        return MemoryStorage()


class TestSessionStorage(StorageContract):
    longest = 2048

    @pytest_asyncio.fixture
    async def storage(self):
        app = Quart(__name__)
        app.secret_key = "the secret key of the tests"
        async with app.test_request_context("/"):
            yield SessionStorage()


class ServerSession(dict, SessionMixin):
    """A session that is kept on the server."""


class ServerSessions(SessionInterface):
    async def open_session(self, app, request):
        return ServerSession()

    async def save_session(self, app, session, response):
        return None


class TestSessionStorageOnTheServer(StorageContract):
    @pytest_asyncio.fixture
    async def storage(self):
        app = Quart(__name__)
        app.session_interface = ServerSessions()
        async with app.test_request_context("/"):
            yield SessionStorage()


class Files(DurableContract):
    """A storage in a folder, and another one that opens the same files."""

    path = "{bp.name}.json"

    @pytest.fixture
    def storage(self, tmp_path):
        return FileStorage(tmp_path / self.path)

    @pytest.fixture
    def reopen(self, tmp_path):
        async def again():
            return FileStorage(tmp_path / self.path)

        return again


class TestFileStorage(Files):
    pass


class TestFileStorageOfUsers(AccountsContract, Files):
    path = "{user_id}/{bp.name}.json"
    user_ids = ("../../etc/passwd", 0, "con")


class TestFileStorageWithoutEnding(AccountsContract, Files):
    path = "{bp.name}/{user_id}"
    user_ids = ("writing", 0, "writing.refreshing")


class Databases(DurableContract):
    """A storage in a file of SQLite, and another one that opens the same file."""

    model: type = PlainOAuth
    base: type[DeclarativeBase] | None = PlainBase

    def cache(self):
        return None

    async def prepare(self, engine):
        return None

    @pytest_asyncio.fixture
    async def storage(self, tmp_path):
        async with database(tmp_path / "tokens.db", self.base) as engine:
            await self.prepare(engine)
            session = async_sessionmaker(engine)
            yield SQLAlchemyStorage(self.model, session, cache=self.cache())

    @pytest_asyncio.fixture
    async def reopen(self, tmp_path):
        async with database(tmp_path / "tokens.db", None) as engine:

            async def again():
                return SQLAlchemyStorage(self.model, engine, cache=self.cache())

            yield again


class TestSQLAlchemyStorage(Databases):
    pass


class TestSQLAlchemyStorageWithCache(Databases):
    def cache(self):
        return SimpleMemoryCache()


class TestSQLAlchemyStorageOfUsers(AccountsContract, Databases):
    model, base = OAuth, Base


class TestSQLAlchemyStorageOfUsersWithCache(AccountsContract, Databases):
    model, base = OAuth, Base

    def cache(self):
        return SimpleMemoryCache(timeout=None)


class TestSQLAlchemyStorageOnFlaskDancesTable(AccountsContract, Databases):
    model, base = OAuth, None

    async def prepare(self, engine):
        await make_flask_dance_table(engine)


class UuidBase(DeclarativeBase):
    pass


class UuidOAuth(OAuthConsumerMixin, UuidBase):
    user_id: Mapped[UUID | None] = mapped_column(Uuid)


class TestSQLAlchemyStorageOfUuids(AccountsContract, Databases):
    model, base = UuidOAuth, UuidBase
    user_ids = (UUID(int=1), UUID(int=0), "6ba7b810-9dad-11d1-80b4-00c04fd430c8")


class OwnBase(DeclarativeBase):
    pass


class OwnOAuth(OwnBase):
    """A model without the mixin: string ids of its own, no indexes, no dates."""

    __tablename__ = "tokens"
    user_id: Mapped[str | None]
    provider: Mapped[str]
    token: Mapped[dict[str, object]] = mapped_column(JSON)
    number: Mapped[int] = mapped_column(primary_key=True)


class TestSQLAlchemyStorageWithoutMixin(AccountsContract, Databases):
    model, base = OwnOAuth, OwnBase
    user_ids = ("ada", "0", "4_2")


@pytest.mark.parametrize("make", [MemoryStorage, SessionStorage, VaultStorage])
@pytest.mark.parametrize(
    "who", [{"user_id": 0}, {"user_id": "ada"}, {"user": object()}]
)
async def test_a_storage_without_accounts_takes_no_user(make, who):
    """Where all share one token, whoever names a user is told so."""
    with pytest.raises(TypeError, match="keeps no tokens for users"):
        await make().account(ONE, **who)


def test_the_kit_needs_no_pytest():
    """`quart_dance.testing` is imported where pytest is not installed."""
    code = "import sys; sys.modules['pytest'] = None; import quart_dance.testing"
    subprocess.run([sys.executable, "-c", code], check=True)


BROKEN = '''
import asyncio

import pytest
from quart_dance.consumer.storage import NOBODY, BaseStorage, MemoryStorage
from quart_dance.testing.contract import AccountsContract, StorageContract


class Naive(BaseStorage):
    tokens = {}

    async def get(self, blueprint):
        return self.tokens.get(blueprint.name)

    async def set(self, blueprint, token):
        self.tokens[blueprint.name] = token

    async def delete(self, blueprint):
        del self.tokens[blueprint.name]


class Wildcard(BaseStorage):
    """No user means everybody, and 0 means no user."""

    def __init__(self):
        self.tokens = {}

    async def account(self, blueprint, *, user=None, user_id=None):
        return str(user_id) if user_id and user_id is not NOBODY else None

    def mine(self, blueprint, user_id):
        mine = user_id if user_id and user_id is not NOBODY else None
        return [k for k in self.tokens
                if k[0] == blueprint.name and mine in (None, k[1])]

    async def get(self, blueprint, user_id=None):
        return next((self.tokens[k] for k in self.mine(blueprint, user_id)), None)

    async def set(self, blueprint, token, user_id=None):
        self.tokens[blueprint.name, user_id] = dict(token)

    async def delete(self, blueprint, user_id=None):
        for key in self.mine(blueprint, user_id):
            del self.tokens[key]


class TestNaive(StorageContract):
    @pytest.fixture
    def storage(self):
        Naive.tokens.clear()
        return Naive()


class TestWildcard(AccountsContract):
    @pytest.fixture
    def storage(self):
        return Wildcard()


class TestMemory(StorageContract):
    pytestmark = pytest.mark.asyncio(loop_scope="class")

    @pytest.fixture
    def storage(self):
        return MemoryStorage()

    async def test_first(self):
        TestMemory.loop = asyncio.get_running_loop()

    async def test_second(self):
        assert TestMemory.loop is asyncio.get_running_loop()
'''


def test_what_breaks_its_word_is_found_out(tmp_path):
    """In strict mode, in any loop, promises are run, and who breaks them fails."""
    (tmp_path / "test_broken.py").write_text(BROKEN)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = strict\n")
    run = subprocess.run(
        [sys.executable, *"-m pytest -q -rf -p no:cacheprovider -k".split()]
        + ["not refresh_lock"],  # to wait for one that nobody gives back takes time
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(quart_dance.__file__).parents[1])},
        capture_output=True,
        text=True,
    )
    failed = set(re.findall(r"^FAILED test_broken.py::(\w+::\w+)", run.stdout, re.M))
    assert "13 failed, 57 passed" in run.stdout, run.stdout
    assert failed == {
        "TestNaive::test_a_failed_set_leaves_the_old_token",
        "TestNaive::test_delete_twice",
        "TestNaive::test_sets_and_deletes_at_once",
        "TestNaive::test_what_is_returned_is_a_copy",
        "TestNaive::test_what_was_passed_is_copied",
        "TestWildcard::test_a_failed_set_leaves_the_old_token",
        "TestWildcard::test_accounts_have_names",
        "TestWildcard::test_accounts_never_meet",
        "TestWildcard::test_an_empty_id_is_refused",
        "TestWildcard::test_everybody_has_a_token",
        "TestWildcard::test_named_leads_back_to_an_account",
        "TestWildcard::test_what_is_returned_is_a_copy",
        "TestWildcard::test_what_was_passed_is_copied",
    }
