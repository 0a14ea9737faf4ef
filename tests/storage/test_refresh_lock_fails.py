"""A refresh lock of an application's own, or its lease, that fails."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from world import World, text, world

from quart_dance.consumer import oauth_revoked
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import StorageError, TokenRequestError
from quart_dance.testing import faults


class Down(Exception):
    """What keeps the locks is down."""


class Lock:
    """A lock that may fail.

    Attributes:
        fails: Where: "made", "entered", "left", or nowhere.
        held: Whether somebody holds it.
        heard: Of which kinds the errors were with which it was left.
        swallows: Whether it says of an error that it has been dealt with.
    """

    def __init__(self):
        self.fails = None
        self.held = False
        self.heard = []
        self.swallows = False

    def make(self):
        """Return it, as the storage's method or the lease's does."""
        self._fail("made")
        return self

    async def __aenter__(self):
        self._fail("entered")
        self.held = True

    async def __aexit__(self, kind, error, where):
        self.heard.append(kind)
        self.held = False
        self._fail("left")
        return self.swallows

    def _fail(self, where):
        if self.fails == where:
            raise Down("nobody answers")


class LockedStorage(MemoryStorage):
    """A storage with such a lock."""

    def __init__(self, lock):
        super().__init__()
        self.lock = lock

    def refresh_lock(self, blueprint, **who):
        return self.lock.make()


class Lease:
    """Such a lock for the tokens of a database."""

    def __init__(self, lock):
        self.lock = lock

    def hold(self, name):
        return self.lock.make()


@asynccontextmanager
async def locked_world(kind, folder):
    """Give a world whose refresh lock is one of these, and a visitor."""
    lock = Lock()
    if kind == "lease":
        async with world("sqla", folder) as here:
            assert isinstance(here.storage, SQLAlchemyStorage)
            here.storage.lease = Lease(lock)
            yield here, lock, await here.login()
    else:
        here = World(LockedStorage(lock), None)
        yield here, lock, await here.login()
        await here.rest()


BOTH = pytest.mark.parametrize("kind", ["storage", "lease"])


@BOTH
@pytest.mark.parametrize("where", ["made", "entered"])
async def test_not_taken(kind, where, tmp_path):
    """S12, F2: where the lock cannot be taken the error is typed, nothing is spent."""
    async with locked_world(kind, tmp_path) as (here, lock, visitor):
        seen = []
        here.app.register_error_handler(StorageError, lambda e: (seen.append(e), "")[1])
        here.clock.now += 3600
        lock.fails = where
        await visitor.get("/user")
        assert [str(error) for error in seen] == [
            "the storage failed (Down: nobody answers)"
        ]
        assert here.provider.count("token") == 1
        lock.fails = None
        assert await text(visitor) == "alice"
        assert here.provider.reuse_detected == []


@BOTH
async def test_not_given_back(kind, tmp_path, caplog):
    """S12, F3: an error when it is given back is logged; the token is saved."""
    async with locked_world(kind, tmp_path) as (here, lock, visitor):
        here.clock.now += 3600
        lock.fails = "left"
        assert await text(visitor) == "alice"
        assert here.provider.count("token") == 2
        assert "refresh lock of 'dev' was not given back" in caplog.text
        assert "nobody answers" in caplog.text
        assert await text(visitor) == "alice"
        assert here.provider.count("token") == 2


@BOTH
@pytest.mark.parametrize("fails", [None, "left"])
async def test_what_goes_wrong_meanwhile(kind, fails, tmp_path):
    """F2: the provider's error is heard by the lock, and by whoever asked."""
    async with locked_world(kind, tmp_path) as (here, lock, visitor):
        here.clock.now += 3600
        here.provider.fault("token", faults.SERVER_ERROR)
        lock.fails, lock.swallows = fails, True
        assert (await visitor.get("/user")).status_code == 502
        assert lock.heard == [TokenRequestError]
        lock.fails = None
        assert await text(visitor) == "alice"
        assert lock.heard == [TokenRequestError, None]


@BOTH
async def test_revocation(kind, tmp_path, caplog):
    """S12: a revocation needs the lock as well, and is done when it was held."""
    async with locked_world(kind, tmp_path) as (here, lock, visitor):
        heard = []

        @oauth_revoked.connect_via(here.blueprint)
        def note(sender, token):
            heard.append(token["access_token"])

        @here.app.get("/revoke")
        async def revoke():
            await here.blueprint.revoke_token()
            return "revoked"

        (token,) = here.provider.tokens
        lock.fails = "entered"
        assert (await visitor.get("/revoke")).status_code == 500
        assert here.provider.count("revoke") == 0
        assert "StorageError: the storage failed (Down: nobody" in caplog.text
        lock.fails = "left"
        assert await text(visitor, "/revoke") == "revoked"
        assert heard == [token.access_token]
        assert here.provider.tokens == []
        assert await text(visitor, "/authorized") == "false\n"
