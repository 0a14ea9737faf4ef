"""SyncStorage: an async storage called by sync code, in the process of these tests."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import flask
import pytest
from accounts import OLD, SyncAccounts
from flask import Flask
from forking import OAuth
from quart import Quart
from rooms import FlaskVisitor, make_flask_app
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.schema import CreateTable

from quart_dance.consumer import oauth_authorized
from quart_dance.consumer import storage as async_storage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError
from quart_dance.flask import SyncStorage
from quart_dance.flask.consumer import storage as sync_storage

OWNER: Any = SimpleNamespace(name="dev")
visitor: ContextVar[str] = ContextVar("visitor", default="nobody")


class Asking(async_storage.MemoryStorage):
    """A storage whose `get` does what a test wants."""

    def __init__(self, work: Any = None) -> None:
        super().__init__(OLD)
        self.work = work

    async def get(self, blueprint: Any) -> Any:
        return await self.work()


def test_all_methods(tmp_path):
    """Each method does what that of the async storage does."""
    storage = SyncStorage(FileStorage(f"{tmp_path}/{{user_id}}/{{bp.name}}.json"))
    one: dict[str, Any] = {"user_id": 1}
    assert storage.get(OWNER, **one) is None
    storage.set(OWNER, OLD, **one)
    assert storage.get(OWNER, **one) == storage.reread(OWNER, **one) == OLD
    assert storage.get(OWNER, user_id=2) is None
    assert storage.replace(OWNER, OLD, {"access_token": "new"}, **one)
    assert not storage.replace(OWNER, OLD, None, **one)
    assert storage.account(OWNER, **one) == "1"
    assert storage.named("1") == {"user_id": "1"}
    assert storage.keeps_accounts and storage.can_save()
    storage.delete(OWNER, **one)
    assert storage.get(OWNER, **one) is None
    assert "FileStorage" in repr(storage)


def test_not_an_async_storage():
    """What has no coroutines is refused, by name."""
    with pytest.raises(TypeError, match=r"BaseStorage, not SyncStorage"):
        SyncStorage(SyncStorage(Asking()))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [KeyError, StorageError, TimeoutError, SystemExit])
def test_errors(kind):
    """What a storage raises arrives as it is, and the next call works."""
    error = kind("it failed")

    async def fail() -> Any:
        await asyncio.sleep(0)
        raise error

    storage = Asking(fail)
    with pytest.raises(kind) as caught:
        SyncStorage(storage).get(OWNER)
    assert caught.value is error
    assert SyncStorage(async_storage.MemoryStorage(OLD)).get(OWNER) == OLD


def test_context_vars():
    """The storage sees the ContextVars of its caller, and Flask's request."""

    async def see() -> Any:
        await asyncio.sleep(0)
        return {"access_token": f"{visitor.get()} {flask.request.path}"}

    storage = SyncStorage(Asking(see))

    def ask(name: str) -> str:
        visitor.set(name)
        with Flask(__name__).test_request_context(f"/{name}"):
            return storage.get(OWNER)["access_token"]

    results: dict[str, str] = {}
    threads = [
        threading.Thread(target=lambda name=name: results.update({name: ask(name)}))
        for name in ("alice", "bob")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {"alice": "alice /alice", "bob": "bob /bob"}


def test_caller(tmp_path):
    """Who the user is, is asked in the thread that calls, which may call in turn."""
    inner = SyncStorage(async_storage.MemoryStorage({"access_token": "7"}))
    asked = []

    def who() -> int:
        asked.append(threading.current_thread())
        return int(inner.get(OWNER)["access_token"])

    storage = SyncStorage(
        FileStorage(f"{tmp_path}/{{user_id}}/{{bp.name}}.json", user_id=who)
    )
    assert storage.account(OWNER) == "7"
    assert asked == [threading.current_thread()]


def test_in_a_running_loop():
    """Where an event loop runs it would stand still: it raises, and says what to do."""
    storage = SyncStorage(async_storage.MemoryStorage())

    async def main() -> Any:
        return storage.get(OWNER)

    with pytest.raises(RuntimeError, match="`await` on the async storage itself"):
        asyncio.run(main())


def test_in_the_loop_of_the_storages():
    """So it does in the one event loop that all async storages share."""
    inner = SyncStorage(async_storage.MemoryStorage())

    async def ask() -> Any:
        return inner.get(OWNER)

    with (
        Flask(__name__).test_request_context(),
        pytest.raises(RuntimeError, match="`await` on the async storage itself"),
    ):
        SyncStorage(Asking(ask)).get(OWNER)


async def test_in_a_view_of_quart():
    """So it does in a view of Quart's, but not in a thread of it."""
    storage = SyncStorage(async_storage.MemoryStorage(OLD))
    app = Quart(__name__)

    @app.get("/")
    async def view() -> Any:
        with pytest.raises(RuntimeError, match="asyncio.to_thread"):
            storage.get(OWNER)
        return await asyncio.to_thread(storage.get, OWNER)

    response = await app.test_client().get("/")
    assert await response.get_json() == OLD


def test_in_an_async_view_of_flask(dev_provider):
    """In an async view of Flask's, which has a thread to itself, it works."""
    storage = SyncStorage(async_storage.MemoryStorage())
    app, blueprint = make_flask_app(dev_provider, storage=storage)

    @app.get("/async")
    async def view() -> Any:
        await asyncio.sleep(0)
        login = blueprint.session.get("user").json()["login"]
        return f"{login} {storage.get(blueprint) == blueprint.token}"

    browser = FlaskVisitor(app)
    browser.login(dev_provider)
    assert browser.open("/async").text == "alice True"


class Locking(async_storage.MemoryStorage):
    """A storage that says whether its refresh lock is held."""

    held = False

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Any, **who: Any) -> AsyncIterator[None]:
        async with super().refresh_lock(blueprint, **who):
            self.held = True
            yield
            self.held = False


class Backwards(SyncStorage):
    """Keeps access tokens backwards, and notes whether the lock is held meanwhile."""

    def __init__(self) -> None:
        super().__init__(Locking())
        self.held: list[bool] = []

    def get(self, blueprint: Any, **who: Any) -> Any:
        token = super().get(blueprint, **who)
        return token and {**token, "access_token": token["access_token"][::-1]}

    def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        self.held.append(self.async_storage.held)  # type: ignore[attr-defined]
        token = {**token, "access_token": token["access_token"][::-1]}
        super().set(blueprint, token, **who)


def test_a_subclass(dev_provider):
    """What a subclass does counts at a refresh too, and the async storage's lock."""
    storage = Backwards()
    app, blueprint = make_flask_app(dev_provider, storage=storage)
    browser = FlaskVisitor(app)
    browser.login(dev_provider)
    with app.app_context():
        blueprint.token = {**blueprint.token, "expires_at": 1}
    dev_provider.expire_access_tokens()
    assert browser.open("/me").text == "alice"
    assert storage.held == [False, False, True]
    assert dev_provider.count("token") == 2
    new = dev_provider.tokens[-1].access_token
    kept = SyncStorage(storage.async_storage).get(OWNER)
    assert kept is not None and kept["access_token"] == new[::-1]


def test_a_receiver_reads(dev_provider):
    """A receiver may use the storage, of either kind, while the login waits for it."""
    for storage in (sync_storage.MemoryStorage(), SyncAccounts(), Backwards()):
        app, blueprint = make_flask_app(dev_provider, storage=storage)
        read = []

        def receive(sender: Any, token: Any, read: list[Any] = read) -> None:
            flask.session["user"] = sender.session.get("user").json()["login"]
            read.append(sender.token)
            sender.token = token
            read.append(sender.token)

        with oauth_authorized.connected_to(receive, blueprint):
            FlaskVisitor(app).login(dev_provider)
        before, after = read
        assert before is None
        assert after["access_token"] == dev_provider.tokens[-1].access_token


def test_many_over_one_engine(tmp_path):
    """Storages that come and go are collected; the last one's engine is closed."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as database:
        database.execute(str(CreateTable(OAuth.__table__)))
    alive: WeakSet[Any] = WeakSet()
    for _ in range(3):
        storage = SyncStorage(SQLAlchemyStorage(OAuth, engine))
        alive.add(storage.async_storage)
        assert storage.get(OWNER, user_id=1) is None
        gc.collect()
    assert list(alive) == [storage.async_storage]
    assert engine.pool.checkedin() == 1
    storage.close()
    assert engine.pool.checkedin() == 0


def test_without_an_engine():
    """A session that leads nowhere fails where it is used, as it does with `await`."""
    storage = SyncStorage(SQLAlchemyStorage(OAuth, async_sessionmaker()))
    with pytest.raises(UnboundExecutionError):
        storage.get(OWNER, user_id=1)


def test_close(tmp_path):
    """Closed by hand it holds no connection; used again it opens one."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")
    storage = SyncStorage(SQLAlchemyStorage(OAuth, engine))
    with closing(sqlite3.connect(tmp_path / "tokens.db")) as database:
        database.execute(str(CreateTable(OAuth.__table__)))
    for _ in range(2):
        storage.set(OWNER, OLD, user_id=1)
        assert engine.pool.checkedin() == 1
        storage.close()
        assert engine.pool.checkedin() == 0
