"""Refreshing while others do: one flight, and what happens during it counts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from scheduler import Scheduler, texts, timed_app
from support import Visitor

from quart_dance.consumer import oauth_refreshed, oauth_revoked
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.testing import faults

STORAGES = pytest.mark.parametrize("storage", [MemoryStorage, SessionStorage])


@STORAGES
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_fifty_requests(storage, seed):
    """F5: 50 requests of one visitor with an expired token refresh it once."""
    schedule = Scheduler(seed)
    app, blueprint, provider, clock = timed_app(schedule, storage=storage())
    visitor, refreshed = Visitor(app), []

    @oauth_refreshed.connect_via(blueprint)
    async def note(sender: Any, token: Any) -> None:
        refreshed.append(token["access_token"])

    async def main() -> list[str]:
        await visitor.login(provider)
        clock.now += 3600
        said = await texts(*(visitor.get("/me") for _ in range(50)))
        return said + await texts(visitor.get("/me"))

    assert schedule.run(main()) == ["alice"] * 51
    assert schedule.most >= 20
    assert provider.count("token") == 2
    assert refreshed == [provider.tokens[-1].access_token]
    assert provider.reuse_detected == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_flight_for_each_visitor(seed):
    """F5, S15: visitors whose tokens are in their sessions never share a flight."""
    schedule = Scheduler(seed)
    app, _, provider, clock = timed_app(schedule)
    people = ["alice", "bob", "alice", "bob"]
    visitors = [Visitor(app) for _ in people]

    async def main() -> list[list[str]]:
        for visitor, person in zip(visitors, people, strict=True):
            await visitor.login(provider, person)
        clock.now += 3600
        rounds = [texts(*(v.get("/me") for _ in range(8))) for v in visitors]
        return await asyncio.gather(*rounds)

    assert schedule.run(main()) == [[person] * 8 for person in people]
    assert schedule.most >= 20
    assert provider.count("token") == 8
    assert provider.reuse_detected == []


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_storage_in_two_applications(seed):
    """F5: the storage's lock holds off who shares nothing else with the flight."""
    schedule, storage = Scheduler(seed), MemoryStorage()
    app, _, provider, clock = timed_app(schedule, storage=storage)
    other, _, _, _ = timed_app(schedule, storage=storage)
    runtime(other).transport = runtime(app).transport
    runtime(other).clock = clock

    async def main() -> list[str]:
        await Visitor(app).login(provider)
        clock.now += 3600
        visitors = [Visitor(app), Visitor(other)] * 10
        return await texts(*(visitor.get("/me") for visitor in visitors))

    assert schedule.run(main()) == ["alice"] * 20
    assert schedule.most >= 10
    assert (provider.count("token"), provider.reuse_detected) == (2, [])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("person", [None, "bob"])
def test_change_at_any_time(person, seed):
    """F6: whenever it comes, a logout or a new login outlasts every refresh."""
    schedule = Scheduler(seed)
    app, blueprint, provider, clock = timed_app(schedule, storage=MemoryStorage())
    visitor = Visitor(app)

    @app.get("/change")
    async def change() -> str:
        if person:
            await blueprint.set_token(provider.issue_token(person))
        else:
            await blueprint.delete_token()
        return "changed"

    async def main() -> list[str]:
        await visitor.login(provider)
        clock.now += 3600
        visits = [visitor.get("/me") for _ in range(5)]
        await texts(*visits, visitor.get("/change"), visitor.get("/me"))
        return await texts(visitor.get("/me"))

    assert schedule.run(main()) == [person or "nobody"]
    assert schedule.most >= 5


@pytest.mark.parametrize("spent", [False, True])
@pytest.mark.parametrize("person", [None, "bob"])
async def test_change_in_flight(person, spent):
    """F6: a logout, or a new login, while the provider is asked counts."""
    app, blueprint, provider, clock = timed_app(storage=MemoryStorage())
    visitor, again = Visitor(app), None
    await visitor.login(provider)
    clock.now += 3600
    provider.fault("token", faults.Hang(after=spent))
    visit = asyncio.create_task(visitor.get("/me"))
    await provider.held()
    async with app.app_context():
        if person:
            again = provider.issue_token(person)
            await blueprint.set_token(again)
        else:
            await blueprint.delete_token()
    provider.release()
    response = await visit
    assert response.status_code == (200 if person else 302)
    said = await response.get_data(as_text=True)
    assert (said, response.location) in [("bob", None), ("", "/login/dev?next=/me")]
    async with app.app_context():
        stored = await blueprint.token
    assert (stored and stored["access_token"]) == (again and again["access_token"])


@STORAGES
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_dead_refresh_token(storage, seed):
    """F1: `invalid_grant` ends the login, once: deleted, signal, log in again."""
    schedule = Scheduler(seed)
    app, blueprint, provider, clock = timed_app(schedule, storage=storage())
    visitor, revoked = Visitor(app), []

    @oauth_revoked.connect_via(blueprint)
    async def note(sender: Any, token: Any) -> None:
        revoked.append(token["access_token"])

    async def main() -> list[int]:
        await visitor.login(provider)
        clock.now += 3600
        provider.revoke_tokens()
        pages = await asyncio.gather(*(visitor.get("/me") for _ in range(10)))
        assert {page.status_code for page in pages} <= {302, 401}
        assert 302 in [page.status_code for page in pages]
        return [(await visitor.get("/me")).status_code]

    assert schedule.run(main()) == [401]
    assert provider.count("token") == 2
    assert len(revoked) == 1


async def test_invalid_grant_after_a_new_login():
    """F1: if the stored token changed meanwhile, that is used, and nothing deleted."""
    app, blueprint, provider, clock = timed_app(storage=MemoryStorage())
    visitor = Visitor(app)
    await visitor.login(provider)
    clock.now += 3600
    provider.fault("token", faults.Hang())
    visit = asyncio.create_task(visitor.get("/me"))
    await provider.held()
    provider.revoke_tokens("alice")
    async with app.app_context():
        await blueprint.set_token(provider.issue_token("bob"))
    provider.release()
    assert await texts(visit) == ["bob"]
    assert await texts(visitor.get("/me")) == ["bob"]


async def test_the_dead_refresh_token_of_github():
    """F1: GitHub says "bad_refresh_token", and with status 200; it means the same."""
    app, blueprint, provider, clock = timed_app(storage=MemoryStorage())
    visitor = Visitor(app)
    await visitor.login(provider)
    clock.now += 3600
    dead = {"error": "bad_refresh_token", "error_description": "incorrect or expired"}
    provider.fault("token", faults.Answer.json(dead))
    assert (await visitor.get("/me")).status_code == 302
    async with app.app_context():
        assert await blueprint.token is None
