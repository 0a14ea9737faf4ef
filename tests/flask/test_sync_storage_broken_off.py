"""SyncStorage: calls that are broken off, by a timeout or by ^C."""

from __future__ import annotations

import asyncio
import signal
import threading
import traceback
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rooms import FlaskVisitor, make_flask_app

from quart_dance.consumer import storage as async_storage
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.errors import StorageError
from quart_dance.flask import SyncStorage
from quart_dance.flask.consumer import oauth_authorized, storage

OWNER: Any = SimpleNamespace(name="dev")


class Stuck(async_storage.MemoryStorage):
    """A storage that never answers; it says when it is cancelled."""

    def __init__(self, begun: Any = lambda: None) -> None:
        super().__init__()
        self.begun = begun
        self.cancelled = threading.Event()

    async def get(self, blueprint: Any) -> Any:
        self.begun()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def test_timeout():
    """What takes longer than the timeout is cancelled, and the caller goes on."""
    storage = Stuck()
    with pytest.raises(TimeoutError, match="did not answer in time"):
        SyncStorage(storage, timeout=0.05).get(OWNER)
    assert storage.cancelled.wait(10)


def test_timeout_in_a_blueprint(dev_provider):
    """The timeout counts in a blueprint of ours as well."""
    storage = Stuck()
    app, blueprint = make_flask_app(
        dev_provider, storage=SyncStorage(storage, timeout=0.05)
    )
    with (
        app.app_context(),
        pytest.raises(StorageError, match="did not answer in time"),
    ):
        _ = blueprint.token
    assert storage.cancelled.wait(10)


class Sharing(async_storage.MemoryStorage):
    """A storage whose callers share a connection, which one of them has broken off."""

    async def get(self, blueprint: Any) -> Any:
        connecting = asyncio.get_running_loop().create_future()
        connecting.cancel()
        await connecting


def test_cancelled_by_somebody_else(dev_provider):
    """What is cancelled elsewhere is an error as others are, and no thread dies of it.

    A server's thread catches no more than exceptions.
    """
    with pytest.raises(RuntimeError, match="has been cancelled"):
        SyncStorage(Sharing()).get(OWNER)
    app, blueprint = make_flask_app(dev_provider, storage=Sharing())
    with app.app_context(), pytest.raises(StorageError, match="CancelledError"):
        _ = blueprint.token


async def cancel(*args: Any, **kwargs: Any) -> Any:
    """Be cancelled, as what an application's own event loop has run."""
    raise asyncio.CancelledError


class Running(storage.MemoryStorage):
    """A storage of plain methods, one of which runs a coroutine."""

    def set(self, blueprint: Any, token: Any) -> None:
        asyncio.run(cancel())


def test_a_storage_is_cancelled_in_the_callers_thread(dev_provider):
    """A storage with plain methods fails as any does, and no thread dies of it."""
    app, blueprint = make_flask_app(dev_provider, storage=Running())
    with app.app_context(), pytest.raises(StorageError, match="CancelledError"):
        blueprint.token = {"access_token": "a"}
    assert FlaskVisitor(app).login(dev_provider).status == 500


def test_a_receiver_is_cancelled(dev_provider):
    """A receiver's failure is an error page's; what it did stands in the log."""
    app, blueprint = make_flask_app(dev_provider, storage=storage.MemoryStorage())
    with oauth_authorized.connected_to(cancel, blueprint):
        assert FlaskVisitor(app).login(dev_provider).status == 500
        app.testing = True
        with pytest.raises(RuntimeError, match="has been cancelled") as raised:
            FlaskVisitor(app).login(dev_provider)
    assert raised.value.__cause__ is not None
    frames = traceback.extract_tb(raised.value.__cause__.__traceback__)
    assert frames[-1].name == "cancel"


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let ^C interrupt, also where a shell that runs us behind its back lets it not."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("where", ["waiting", "serving"])
def test_keyboard_interrupt(where, tmp_path, interruptible):
    """^C reaches the thread that waits, and what it has waited for is cancelled."""
    if where == "waiting":
        main = threading.main_thread().ident
        assert main is not None
        stuck = Stuck(lambda: signal.pthread_kill(main, signal.SIGINT))
        storage = SyncStorage(stuck)
    else:
        stuck = Interrupted(f"{tmp_path}/{{user_id}}/{{bp.name}}.json", user_id=stop)
        storage = SyncStorage(stuck)
    with pytest.raises(KeyboardInterrupt):
        storage.get(OWNER)
    assert stuck.cancelled.wait(10)


def stop() -> int:
    """Be interrupted in the middle of saying who the user is."""
    raise KeyboardInterrupt


class Interrupted(FileStorage):
    """Files that say when their reading is cancelled."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cancelled = threading.Event()

    async def get(self, blueprint: Any, **who: Any) -> Any:
        try:
            return await super().get(blueprint, **who)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
