"""SyncStorage in real Flask-Dance, AsyncStorage under Quart, and both at once."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flask
import pytest
from accounts import OLD
from flask_dance.consumer.storage import BaseStorage as FlaskDanceBaseStorage
from flask_dance.consumer.storage import MemoryStorage as FlaskDanceMemoryStorage
from forking import OAuth
from libraries import THEIRS
from rooms import FlaskVisitor
from sqlalchemy.ext.asyncio import create_async_engine
from support import Visitor, make_app

from quart_dance.consumer import storage as async_storage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.flask import AsyncStorage, SyncStorage
from quart_dance.flask.consumer.storage.file import FileStorage as SyncFiles
from quart_dance.testing.contract import AccountsContract, StorageContract

OWNER: Any = SimpleNamespace(name="dev")
flask_dance = pytest.mark.parametrize("library", [THEIRS], indirect=True)
tag: ContextVar[str] = ContextVar("tag", default="")


# SyncStorage in Flask-Dance


def who() -> int | None:
    """Return the id of who is logged in."""
    return flask.session.get("user_id")


async def make_storage(kind: str, folder: Path) -> async_storage.BaseStorage:
    """Return an async storage that keeps tokens for users."""
    if kind == "file":
        return FileStorage(f"{folder}/{{user_id}}/{{bp.name}}.json", user_id=who)
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder}/tokens.db")
    async with engine.begin() as connection:
        await connection.run_sync(OAuth.metadata.create_all)
    await engine.dispose()
    return SQLAlchemyStorage(OAuth, engine, user_id=who, user_required=False)


@flask_dance
@pytest.mark.parametrize("kind", ["file", "sqla"])
def test_in_flask_dance(library, kind, tmp_path):
    """Users of Flask-Dance log in, call, have their tokens refreshed, and log out."""
    storage = SyncStorage(asyncio.run(make_storage(kind, tmp_path)))
    app, blueprint = library.make(storage=storage)

    @app.get("/be/<int:user_id>")
    def be(user_id: int) -> str:
        flask.session["user_id"] = user_id
        return ""

    @app.get("/logout")
    def logout() -> str:
        del blueprint.token
        return ""

    visitors = {"alice": FlaskVisitor(app), "bob": FlaskVisitor(app)}
    for number, (person, visitor) in enumerate(visitors.items()):
        visitor.open(f"/be/{number}")
        assert visitor.login(library.provider, person).status == 302
    assert [v.open("/me").text for v in visitors.values()] == ["alice", "bob"]
    token = storage.get(blueprint, user_id=0)
    assert token is not None
    storage.set(blueprint, {**token, "expires_in": -1, "expires_at": 1}, user_id=0)
    library.provider.expire_access_tokens("alice")
    assert [v.open("/me").text for v in visitors.values()] == ["alice", "bob"]
    new = storage.get(blueprint, user_id=0)
    assert new is not None
    assert new["access_token"] == library.provider.tokens[-1].access_token
    visitors["alice"].open("/logout")
    assert [v.open("/me").text for v in visitors.values()] == ["nobody", "bob"]
    storage.close()


@flask_dance
def test_errors_in_flask_dance(library):
    """What an async storage raises reaches Flask-Dance's view as it is."""

    class Failing(async_storage.MemoryStorage):
        async def get(self, blueprint: Any) -> Any:
            raise LookupError("no such vault")

    app, _ = library.make(storage=SyncStorage(Failing()))
    app.testing = True
    with pytest.raises(LookupError, match="no such vault"):
        FlaskVisitor(app).open("/me")


# AsyncStorage under Quart


class Vault(FlaskDanceBaseStorage):  # type: ignore[misc]
    """A storage as Flask-Dance's users write one, with three plain methods."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.calls: list[tuple[str, bool]] = []

    def _note(self) -> None:
        here = threading.current_thread() is threading.main_thread()
        self.calls.append((tag.get(), here))

    def get(self, blueprint: Any) -> Any:
        self._note()
        text = self.texts.get(blueprint.name)
        return None if text is None else json.loads(text)

    def set(self, blueprint: Any, token: Any) -> None:
        self._note()
        assert type(token) is dict
        self.texts[blueprint.name] = json.dumps(token)

    def delete(self, blueprint: Any) -> None:
        self._note()
        self.texts.pop(blueprint.name, None)


@pytest.mark.parametrize("make", [FlaskDanceMemoryStorage, Vault])
async def test_under_quart(dev_provider, make):
    """Storages of Flask-Dance's kind serve a Quart application, refresh included."""
    app, blueprint = make_app(dev_provider, storage=AsyncStorage(make()))
    async with app.test_app():
        visitor = Visitor(app)
        assert (await visitor.get("/me")).status_code == 401
        await visitor.login(dev_provider)
        async with app.app_context():
            token = await blueprint.token
            assert token is not None
            await blueprint.set_token({**token, "expires_at": 1})
        dev_provider.expire_access_tokens()
        said = await asyncio.gather(*(visitor.get("/me") for _ in range(5)))
        assert [await s.get_data(as_text=True) for s in said] == ["alice"] * 5
        assert dev_provider.count("token") == 2
        async with app.app_context():
            await blueprint.delete_token()
        assert (await visitor.get("/me")).status_code == 401


async def test_in_a_thread():
    """Its methods are called in a thread, with the ContextVars of whoever calls."""
    vault = Vault()
    storage = AsyncStorage(vault)
    tag.set("seen")
    await storage.set(OWNER, OLD)
    assert await storage.get(OWNER) == OLD
    await storage.delete(OWNER)
    assert vault.calls == [("seen", False)] * 3
    assert "Vault" in repr(storage)


async def test_does_not_stop_the_loop():
    """While a sync storage works, other tasks do."""
    go = threading.Event()

    class Slow(Vault):
        def get(self, blueprint: Any) -> Any:
            assert go.wait(10)
            return OLD

    getting = asyncio.create_task(AsyncStorage(Slow()).get(OWNER))
    await asyncio.sleep(0)
    go.set()  # nobody could, if the loop stood still
    assert await getting == OLD


async def test_cancelled():
    """A call that is cancelled has ended when its caller goes on: no thread is left."""
    begun, go, done = asyncio.Event(), threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    class Slow(Vault):
        def set(self, blueprint: Any, token: Any) -> None:
            loop.call_soon_threadsafe(begun.set)
            assert go.wait(10)
            super().set(blueprint, token)
            done.set()

    vault = Slow()
    setting = asyncio.create_task(AsyncStorage(vault).set(OWNER, OLD))
    await begun.wait()
    setting.cancel()
    loop.call_later(0, go.set)
    with pytest.raises(asyncio.CancelledError):
        await setting
    assert done.is_set() and vault.get(OWNER) == OLD


class Locked(Vault):
    """A storage with a lock that another process holds."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.asked, self.left = threading.Event(), threading.Event()
        self.lock.acquire()

    @contextmanager
    def refresh_lock(self, blueprint: Any, **who: Any) -> Iterator[None]:
        self.asked.set()
        with self.lock:
            yield
        self.left.set()


async def test_cancelled_before_the_lock():
    """S13: a lock that comes when nobody waits for it any more is left at once."""
    vault = Locked()
    storage = AsyncStorage(vault)
    waiting = asyncio.create_task(storage.refresh_lock(OWNER).__aenter__())
    assert await asyncio.to_thread(vault.asked.wait, 30)
    while not waiting.done():  # it is patient, once
        waiting.cancel()
        await asyncio.sleep(0)
    vault.lock.release()
    assert await asyncio.to_thread(vault.left.wait, 30)
    vault.left.clear()
    async with storage.refresh_lock(OWNER):
        assert vault.lock.locked()
    assert vault.left.is_set() and not vault.lock.locked()


class PerProcess(Vault):
    """A storage for users, with a lock that its process has, as `fcntl.lockf` gives."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[Any] = []

    def account(self, blueprint: Any, **who: Any) -> str:
        return str(who["user_id"])

    def refresh_lock(self, blueprint: Any, **who: Any) -> nullcontext[None]:
        self.taken.append(who["user_id"])
        return nullcontext()


async def test_a_lock_that_is_its_process_s():
    """F5: tasks wait for each other beside a storage's own lock; other users do not."""
    kept = PerProcess()
    storage = AsyncStorage(kept)

    async def take(user_id: int) -> None:
        async with storage.refresh_lock(OWNER, user_id=user_id):
            pass

    async with storage.refresh_lock(OWNER, user_id=1):
        same = asyncio.create_task(take(1))
        for _ in range(5):  # which goes to threads and back
            await take(2)
        assert kept.taken == [1] + [2] * 5
    await same
    assert kept.taken == [1] + [2] * 5 + [1]


@pytest.mark.parametrize(
    "storage", [object(), async_storage.MemoryStorage(), {}.keys()]
)
def test_not_a_sync_storage(storage):
    """What lacks a method, or has coroutines, is refused."""
    with pytest.raises(TypeError, match="has the plain methods get, set, delete"):
        AsyncStorage(storage)


# Both at once


class TestSyncMemory(StorageContract):
    """A sync storage of three methods, held to what an async one promises."""

    @pytest.fixture
    def storage(self) -> AsyncStorage:
        return AsyncStorage(Vault())


class TestThereAndBack(AccountsContract):
    """An async storage, called as a sync one, called as an async one."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> AsyncStorage:
        files = FileStorage(f"{tmp_path}/{{user_id}}/{{bp.name}}.json")
        return AsyncStorage(SyncStorage(files))


class TestSyncFile(AccountsContract):
    """The storage of files for Flask, under Quart."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> AsyncStorage:
        return AsyncStorage(SyncFiles(f"{tmp_path}/{{user_id}}/{{bp.name}}.json"))
