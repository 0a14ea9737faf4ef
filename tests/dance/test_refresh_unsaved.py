"""A refreshed token that cannot be saved: it is given out once, and not lost."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any

import httpx2
import pytest
from scheduler import Scheduler, texts, timed_app
from support import TOKEN, Visitor

from quart_dance.consumer import oauth_refreshed, oauth_revoked
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import NotAuthorizedError, StorageError


class Flaky(MemoryStorage):
    """A storage that fails to save as often as it is told.

    Attributes:
        failures: How often it will.
    """

    failures = 0

    def fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no space left")

    async def set(self, blueprint: Any, token: Any) -> None:
        self.fail()
        await super().set(blueprint, token)

    async def delete(self, blueprint: Any) -> None:
        self.fail()
        await super().delete(blueprint)


@pytest.mark.parametrize("hours", [0, 23])
def test_failed_save(hours):
    """F3, F5: a rotated token that could not be saved is saved by a later request."""
    storage = Flaky()
    app, _, provider, clock = timed_app(storage=storage)
    visitor = Visitor(app)

    async def main() -> None:
        await visitor.login(provider)
        clock.now += 3600
        storage.failures = 1_000
        assert (await visitor.get("/me")).status_code == 500
        storage.failures = 0
        provider.policy.expires_in = 100_000
        clock.now += hours * 3600
        assert await texts(visitor.get("/me")) == ["alice"]
        clock.now += 61
        assert await texts(visitor.get("/me")) == ["alice"]

    Scheduler(0).run(main())
    # What was saved so late has expired itself; it was not the spent one that is used.
    assert provider.count("token") == (2 if hours == 0 else 3)
    assert provider.reuse_detected == []


def test_a_save_that_fails_for_a_moment():
    """F3: a rotated token is tried to be saved again while the lease is held."""
    storage = Flaky()
    app, _, provider, clock = timed_app(storage=storage)
    visitor, held = Visitor(app), []

    async def main() -> None:
        await visitor.login(provider)
        clock.now += 3600
        storage.failures = 4
        visit = asyncio.create_task(visitor.get("/me"))
        while storage.failures and not visit.done():
            await asyncio.sleep(0.01)
            held.append(storage.failures)
        # Another process, say, that waits for its turn to refresh.
        blueprint = app.blueprints["dev"]
        async with storage.refresh_lock(blueprint):
            new = provider.tokens[-1].access_token
            assert (await storage.get(blueprint))["access_token"] == new
        assert (await visit).status_code == 200

    Scheduler(0).run(main())
    assert len(set(held)) > 1
    assert provider.count("token") == 2


@pytest.mark.parametrize("dead", [False, True])
def test_the_signal_of_a_late_save(dead):
    """F1, F3: what is saved, or deleted, later is told then, and once."""
    storage, told = Flaky(), []
    app, blueprint, provider, clock = timed_app(storage=storage)
    for signal in (oauth_refreshed, oauth_revoked):

        async def receive(sender: Any, token: Any, name: str = signal.name) -> None:
            told.append(name)

        signal.connect(receive, blueprint, weak=False)

    async def main() -> None:
        async with app.app_context():
            token = {**provider.issue_token(), "expires_at": 1}
            await storage.set(blueprint, token)
            if dead:
                provider.revoke_tokens()
            storage.failures = 1_000
            with pytest.raises(StorageError):
                await blueprint.session.get("user")
            assert told == []
            storage.failures = 0
            if dead:
                with pytest.raises(NotAuthorizedError):
                    await blueprint.session.get("user")
                assert await storage.get(blueprint) is None
            else:
                assert (await blueprint.session.get("user")).status_code == 200

    Scheduler(0).run(main())
    assert told == [oauth_revoked.name if dead else oauth_refreshed.name]
    assert provider.count("token") == 1


#: What it gives out, when that is over.
PROLONGED = {**TOKEN, "refresh_token": "rt", "expires_at": 1}


class Prolonging(httpx2.AsyncBaseTransport):
    """A provider that gives out the same token again, with a new end."""

    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.refreshes = 0
        self.end = 0.0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/token":
            self.refreshes += 1
            self.end = self.clock() + 3600
            return httpx2.Response(200, json={**TOKEN, "expires_in": 3600})
        return httpx2.Response(200 if self.clock() < self.end else 403)


def prolonged(storage: Flaky) -> tuple[Any, Any, Prolonging, Any]:
    """Return an application of a provider that prolongs, and what belongs to it."""
    app, blueprint, _, clock = timed_app(storage=storage)
    network = Prolonging(clock)
    runtime(app).transport = network
    return app, blueprint, network, clock


async def refresh(blueprint: Any, storage: Flaky, failures: int) -> None:
    """Refresh a token whose save fails so often: soon over, or never."""
    await storage.set(blueprint, PROLONGED)
    storage.failures = failures
    with pytest.raises(StorageError) if failures > 100 else nullcontext():
        await blueprint.session.get("user")
    storage.failures = 0


@pytest.mark.parametrize("late", [0, 2 * 3600])
def test_a_token_that_is_prolonged(late):
    """F3: what is saved late is not used when it is over, nor in later refreshes."""
    storage = Flaky()
    app, blueprint, network, clock = prolonged(storage)

    async def main() -> None:
        async with app.app_context():
            await refresh(blueprint, storage, 1_000)
            clock.now += late
            for count in range(1, 5):
                assert (await blueprint.session.get("user")).status_code == 200
                assert network.refreshes == count + bool(late)
                clock.now += 2 * 3600

    Scheduler(0).run(main())


@pytest.mark.parametrize("failures", [3, 1_000])
def test_what_was_saved_is_spent(failures):
    """F3: what has been saved, soon or late, is not given out again."""
    storage = Flaky()
    app, blueprint, network, clock = prolonged(storage)

    async def main() -> None:
        async with app.app_context():
            await refresh(blueprint, storage, failures)
            assert (await blueprint.session.get("user")).status_code == 200
            clock.now += 120  # what is remembered for a minute is forgotten
            await blueprint.set_token(PROLONGED)
            assert (await blueprint.session.get("user")).status_code == 200

    Scheduler(0).run(main())
    assert network.refreshes == 2


def test_a_late_save_takes_no_lease():
    """F3: a lease that its holder could not give back does not hold up the save."""
    storage = Flaky()
    app, blueprint, provider, clock = timed_app(storage=storage)

    async def main() -> None:
        async with app.app_context():
            await storage.set(blueprint, {**provider.issue_token(), "expires_at": 1})
            storage.failures = 1_000
            with pytest.raises(StorageError):
                await blueprint.session.get("user")
            storage.failures = 0
            async with storage.refresh_lock(blueprint), asyncio.timeout(60):
                calls = [blueprint.session.get("user") for _ in range(3)]
                answers = await asyncio.gather(*calls)
            assert [answer.status_code for answer in answers] == [200] * 3

    Scheduler(0).run(main())
    assert (provider.count("token"), provider.reuse_detected) == (1, [])
