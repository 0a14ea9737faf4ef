"""Storages of an application's own, with plain methods, that use its transactions."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

import pytest
from accounts import OLD, SyncAccounts
from rooms import FlaskVisitor, Room

from quart_dance.consumer import storage as async_storages
from quart_dance.flask import SyncStorage
from quart_dance.flask.consumer import oauth_authorized, storage
from quart_dance.flask.consumer.storage.session import SessionStorage
from quart_dance.testing import faults

EXPIRED = {**OLD, "refresh_token": "an-older-refresh-token", "expires_at": 1}
tenant: ContextVar[str] = ContextVar("tenant", default="none")


class Rows(storage.BaseStorage):
    """Three plain methods, and a database that one transaction at a time writes to."""

    def __init__(self, token: Any = None) -> None:
        self.token = token
        self.writing = threading.RLock()
        self.asked = threading.Event()

    def get(self, blueprint: Any) -> Any:
        return self.token

    def set(self, blueprint: Any, token: Any) -> None:
        self.asked.set()
        if not self.writing.acquire(timeout=5):
            raise TimeoutError("the database is locked")
        self.token = token
        self.writing.release()

    def delete(self, blueprint: Any) -> None:
        self.token = None


def test_two_transactions(library):
    """Who has written to the database already does not wait for who waits for them."""
    rows = Rows()
    app, blueprint = library.make(storage=rows)
    failed: list[Exception] = []

    def store(name: str) -> None:
        with app.app_context():
            try:
                blueprint.token = {"access_token": name}
            except Exception as error:
                failed.append(error)

    other = threading.Thread(target=store, args=("other's",))
    with rows.writing:  # as after a flush
        other.start()
        assert rows.asked.wait(30)
        store("mine")
        assert rows.token["access_token"] == "mine"
    other.join(30)
    assert (failed, rows.token["access_token"]) == ([], "other's")


class Forgetful(Rows):
    """Deletes a token that turns out to be broken while it is read."""

    provider: Any

    def get(self, blueprint: Any) -> Any:
        if self.provider.count("token"):
            del blueprint.token
        return self.token


class AsyncForgetful(async_storages.MemoryStorage):
    """The same with coroutines."""

    provider: Any

    async def get(self, blueprint: Any) -> Any:
        if self.provider.count("token"):
            await blueprint.delete_token()
        return await super().get(blueprint)


class WrappedForgetful(SyncStorage):
    """The same around a storage with coroutines."""

    provider: Any

    def get(self, blueprint: Any, **who: Any) -> Any:
        if self.provider.count("token"):
            del blueprint.token
        return super().get(blueprint, **who)


@pytest.mark.parametrize("way", ["plain", "wrapped", "quart"])
async def test_get_deletes(dev_provider, way):
    """A `get` that deletes the token does not wait for the write that it is part of."""
    kept: Any = {
        "plain": lambda: Forgetful(EXPIRED),
        "wrapped": lambda: WrappedForgetful(async_storages.MemoryStorage(EXPIRED)),
        "quart": lambda: AsyncForgetful(EXPIRED),
    }[way]()
    kept.provider = dev_provider
    room = Room("quart" if way == "quart" else "flask", dev_provider, storage=kept)
    new = {"access_token": "new", "token_type": "bearer"}
    dev_provider.fault("token", faults.Answer.json(new))
    page = await room.visitor().get("/me")
    assert dev_provider.count("token") == 1
    assert page.location == "/login/dev?next=/me"


class Noting(SyncAccounts):
    """Notes what it sees of the receiver's ContextVar."""

    def set(self, blueprint: Any, token: Any) -> None:
        self.seen = tenant.get()


def test_context_vars_of_a_receiver(library):
    """What a receiver sets in a ContextVar, the storage and the response see."""
    kept, seen = Noting(), []
    app, blueprint = library.make(storage=kept)

    @app.after_request
    def note(response: Any) -> Any:
        seen.append(tenant.get())
        return response

    def receive(sender: Any, token: Any) -> None:
        tenant.set(sender.name)

    visitor = FlaskVisitor(app)
    before = tenant.set("before")
    with oauth_authorized.connected_to(receive, blueprint):
        visitor.login(library.provider)
    tenant.reset(before)
    assert (kept.seen, seen) == ("dev", ["before", "dev"])


class Backwards(SessionStorage):
    """Keeps tokens in the session with their access tokens backwards."""

    def get(self, blueprint: Any, **who: Any) -> Any:
        token = super().get(blueprint, **who)
        return token and {**token, "access_token": token["access_token"][::-1]}

    def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        token = {**token, "access_token": token["access_token"][::-1]}
        super().set(blueprint, token, **who)


def test_a_session_of_ones_own(dev_provider):
    """DESIGN 5.5: no visitor waits for another's refresh, in a subclass either."""
    room = Room("flask", dev_provider, storage=Backwards())
    alice, bob = room.visitor(), room.visitor()
    alice.login(dev_provider, "alice")
    bob.login(dev_provider, "bob")
    room.now += 3700
    dev_provider.expire_access_tokens()
    dev_provider.fault("token", faults.Hang())
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(alice.open, "/me")
        try:
            asyncio.run(asyncio.wait_for(dev_provider.held(), 30))
            assert pool.submit(bob.open, "/me").result(30).text == "bob"
        finally:
            dev_provider.release()
        assert first.result(30).text == "alice"


@pytest.mark.parametrize("kind", [SessionStorage, Backwards])
def test_a_session_has_no_accounts(dev_provider, kind):
    """What is in the visitors' sessions is nobody's who can be named."""
    room = Room("flask", dev_provider, storage=kind())
    for named in ({"anonymous": True}, {"user_id": 1}):
        with (
            room.app.test_request_context(),
            pytest.raises(TypeError, match="in the visitor's session"),
        ):
            room.blueprint.session_for(**named)
