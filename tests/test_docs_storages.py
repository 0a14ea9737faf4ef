"""The documentation of storages: its Python blocks run."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import blocks
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from blocks import Page
from quart import Quart
from quart_auth import AuthUser, QuartAuth, login_user
from sqlalchemy import create_engine, inspect, make_url
from sqlalchemy.ext.asyncio import create_async_engine
from support import Visitor

from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import UserRequiredError
from quart_dance.testing.contract import AccountsContract, StorageContract

read = blocks.read


def with_storage(read: Any, name: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Return the application of one page with a storage of another."""
    module, page = read("signals", "signup"), read("storages", name)
    storage = page.VaultStorage if name == "shared" else page.UserStorage
    module.blueprint.storage = storage

    @module.app.get("/me")
    async def me() -> Any:
        return (await module.blueprint.session.get("/user")).json()["login"]

    return module, page


async def test_block_storages_shared(read, dev_provider):
    """Three coroutines keep one token for everybody."""
    module, page = with_storage(read, "shared")
    await Visitor(module.app).login(dev_provider, path="/login/github")
    assert list(page.vault) == ["github"]
    response = await Visitor(module.app).get("/me")
    assert await response.get_data(as_text=True) == "alice"


async def test_block_storages_accounts(read, dev_provider):
    """A storage with accounts keeps tokens apart, and a job can name one."""
    module, page = with_storage(read, "accounts")
    for person in ("alice", "bob"):
        visitor = Visitor(module.app)
        await visitor.login(dev_provider, person=person, path="/login/github")
        response = await visitor.get("/me")
        assert await response.get_data(as_text=True) == person
    assert list(page.tokens) == [("github", "1"), ("github", "2")]
    github = module.blueprint.session_for(user_id=2, app=module.app)
    assert (await github.get("/user")).json()["login"] == "bob"


class TestVaultStorage(StorageContract):
    """The page's storage of one token keeps what a storage promises."""

    @pytest.fixture
    def storage(self):
        return Page("docs/storages.md").run("shared")["VaultStorage"]()


class TestUserStorage(AccountsContract):
    """The page's storage of users' tokens does so, too."""

    @pytest.fixture
    def storage(self):
        return Page("docs/storages.md").run("accounts")["UserStorage"]()


async def tables(storage: Any, metadata: Any) -> None:
    """Make the tables of a page, in the database of its storage."""
    engine = storage.session.kw["bind"]
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


@pytest.fixture
def in_folder(monkeypatch, tmp_path):
    """Work in a folder of the test's own: the pages name their files there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_block_storages_shared_table(read, dev_provider, in_folder):
    """Without users all visitors share the token in the table."""
    module, page = read("signals", "signup"), read("storages", "shared_table")
    module.blueprint.storage = page.storage
    await tables(page.storage, page.Base.metadata)
    await Visitor(module.app).login(dev_provider, path="/login/github")
    github = module.blueprint.session_for(user_id=NOBODY, app=module.app)
    assert (await github.get("/user")).json()["login"] == "alice"
    await page.engine.dispose()


async def test_block_storages_user_table(read, in_folder):
    """Each user has a token of their own in the table."""
    await tokens_of_users(read("storages", "user_table"))


async def test_block_storages_redis_cache(read, in_folder, monkeypatch, own_redis):
    """With Redis as the cache it is the same."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Call to deprecated", DeprecationWarning)
        page = read("storages", "redis_cache")
        await tokens_of_users(page)
        assert len(await page.cache.client.keys("quart_dance:*")) == 2
        await page.cache.client.aclose()


async def test_block_storages_redis_lease(read, in_folder, monkeypatch, own_redis):
    """While one process refreshes a token Redis knows it."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    page = read("storages", "redis_lease")
    await tokens_of_users(page)
    one = SimpleNamespace(name="github")
    async with page.storage.refresh_lock(one, user_id=1):
        assert len(await page.redis.keys("quart_dance:lease:*")) == 1
    assert await page.redis.keys("*") == []
    await page.redis.aclose()


async def test_block_storages_server_session(
    read, dev_provider, monkeypatch, own_redis
):
    """The cookie holds an id, a new one after the login, and Redis the session."""
    monkeypatch.setenv("REDIS_URL", own_redis.url)
    page = read("storages", "server_session")

    @page.app.get("/me")
    async def me() -> Any:
        return (await page.blueprint.session.get("/user")).json()["login"]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Call to deprecated", DeprecationWarning)
        async with page.app.test_app():
            visitor = Visitor(page.app)
            ids = []
            for person in ("alice", "bob"):
                await visitor.login(dev_provider, person, "/login/github")
                ids.append(visitor.cookies["session"])
                response = await visitor.get("/me")
                assert await response.get_data(as_text=True) == person
            assert ids[0] != ids[1]
            found = await page.app.session_interface.backend.keys("session:*")
            assert sorted(found) == sorted(f"session:{each}" for each in ids)


async def test_block_storages_cached_table(read, in_folder):
    """With a cache in front it is the same."""
    page = read("storages", "cached_table")
    assert page.storage.cache is not None
    await tokens_of_users(page)


async def tokens_of_users(page: SimpleNamespace) -> None:
    """See that each user has a token, by id and when logged in, and nobody has one."""
    assert isinstance(page.storage, SQLAlchemyStorage)
    await tables(page.storage, page.Base.metadata)
    async with page.async_session.begin() as session:
        session.add_all([page.User(id=1), page.User(id=2)])
    one = SimpleNamespace(name="github")
    await page.storage.set(one, {"access_token": "alice's"}, user_id="1")
    await page.storage.set(one, {"access_token": "bob's"}, user_id=2)
    for user_id, token in ((1, "alice's"), ("2", "bob's")):
        got = await page.storage.get(one, user_id=user_id)
        assert got == {"access_token": token}
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    QuartAuth(app)
    async with app.test_request_context("/"):
        with pytest.raises(UserRequiredError):
            await page.storage.get(one)
        login_user(AuthUser("2"))
        assert await page.storage.get(one) == {"access_token": "bob's"}
    await page.engine.dispose()


async def test_block_storages_postgresql(read, in_folder, monkeypatch, postgresql_url):
    """In PostgreSQL each user has a token of their own, too."""
    monkeypatch.setenv("DATABASE_URL", postgresql_url)
    page = read("storages", "postgresql")
    assert page.engine.url == make_url(postgresql_url)
    await tokens_of_users(page)


async def test_block_storages_mariadb(read, in_folder, monkeypatch, mariadb_url):
    """In MariaDB each user has a token of their own, too."""
    monkeypatch.setenv("DATABASE_URL", mariadb_url)
    page = read("storages", "mariadb")
    assert page.engine.url == make_url(mariadb_url)
    await tokens_of_users(page)


async def test_block_storages_alembic_mariadb(read, mariadb_url):
    """Alembic leaves to us what it would get wrong, in new tables and in old ones."""
    include = read("storages", "alembic_mariadb").include_object
    page = read("storages", "user_table")

    def compare(connection):
        options = {"include_object": include}
        context = MigrationContext.configure(connection, opts=options)
        return [str(change) for change in compare_metadata(context, page.Base.metadata)]

    engine = create_async_engine(mariadb_url)
    async with engine.begin() as connection:
        wanted = await connection.run_sync(compare)
        assert any("uq_flask_dance_oauth_provider_user" in change for change in wanted)
        assert not any("nobody" in change.partition("Table(")[0] for change in wanted)
        await connection.run_sync(page.Base.metadata.create_all)
        assert await connection.run_sync(compare) == []
    await engine.dispose()


def test_block_storages_alembic():
    """The migration gives Flask-Dance's table our indexes; it is one of Alembic's."""
    module = SimpleNamespace(**Page("docs/storages.md").run("alembic"))
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        columns = "id INTEGER PRIMARY KEY, provider VARCHAR(50), token JSON"
        connection.exec_driver_sql(f"CREATE TABLE flask_dance_oauth ({columns})")
        with Operations.context(MigrationContext.configure(connection)):
            module.upgrade()
            module.downgrade()
        found = inspect(connection).get_indexes("flask_dance_oauth")
        assert [index["name"] for index in found] == ["uq_flask_dance_oauth_provider"]
    engine.dispose()


async def test_block_storages_files(read, dev_provider, in_folder):
    """Each user's token is a file, and a job can name one."""
    module, page = read("signals", "signup"), read("storages", "files")
    module.blueprint.storage = page.storage
    for person in ("alice", "bob"):
        await Visitor(module.app).login(dev_provider, person, "/login/github")
    github = module.blueprint.session_for(user_id=2, app=module.app)
    assert (await github.get("/user")).json()["login"] == "bob"
    files = sorted(path.name for path in in_folder.glob("tokens/github/*.json"))
    assert files == ["1.json", "2.json"]
