"""Several processes, one expired token: it is refreshed once, whoever dies."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from crew import Crew
from opening import opened, place_of
from serving import served

from quart_dance.testing import DevProvider, faults

pytestmark = pytest.mark.slow

OWNER = SimpleNamespace(name="dev")
PLACES = ["postgresql", "mariadb", "sqlite", "file"]
CACHED = [f"{name} redis cache" for name in PLACES if name != "file"]
LEASED = ["postgresql redis lease"]
FRAMEWORKS = ["quart", "flask", "flask sync"]


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    """Give processes that stay from test to test."""
    crew = Crew()
    yield crew
    crew.close()


@pytest.fixture
def provider() -> Iterator[DevProvider]:
    """Give a provider on a port, with rotation and reuse detection."""
    with served() as provider:
        yield provider


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    """Give an empty place for tokens."""
    return place_of(request.param, request, tmp_path)


def store(place: dict[str, Any], tokens: dict[int, dict[str, Any]]) -> None:
    """Store a token for each user."""

    async def main() -> None:
        async with opened(**place) as storage:
            anyhow: Any = storage
            for user_id, token in tokens.items():
                await anyhow.set(OWNER, token, user_id=user_id)

    asyncio.run(main())


def stored(place: dict[str, Any], user_id: int = 1) -> Any:
    """Return a user's token."""

    async def main() -> Any:
        async with opened(**place) as storage:
            anyhow: Any = storage
            return await anyhow.reread(OWNER, user_id=user_id)

    return asyncio.run(main())


def give_expired(provider: DevProvider, place: dict[str, Any], *users: int) -> None:
    """Store tokens that have expired, at the provider too."""
    store(place, {u: {**provider.issue_token(), "expires_at": 1} for u in users})
    provider.expire_access_tokens()


def job(
    provider: DevProvider,
    place: dict[str, Any],
    users: list[int],
    *,
    skew: float = 0,
    die: str = "",
    framework: str = "quart",
) -> dict[str, Any]:
    """Return a job; see `worker.Job`."""
    return {
        "options": provider.options(),
        "place": place,
        "users": users,
        "skew": skew,
        "die": die,
        "framework": framework,
    }


@pytest.mark.parametrize("place", [*PLACES, *CACHED, *LEASED], indirect=True)
@pytest.mark.parametrize(("processes", "skew"), [(2, 0), (4, 2)])
def test_one_refresh(crew, provider, place, processes, skew):
    """F5: 2 and 4 processes with 50 tasks each, also with clocks 2 s apart.

    Exactly one refresh, every task succeeds, and the login is alive afterwards.
    """
    give_expired(provider, place, 1)
    for round_ in (1, 2):
        provider.fault("token", faults.Slow(0.1))
        jobs = [
            job(provider, place, [1] * 50, skew=skew * (n % 2))
            for n in range(processes)
        ]
        assert crew.run(*jobs) == [["alice"] * 50] * processes
        assert provider.count("token") == round_
        assert provider.reuse_detected == []
        # And again, with the token that came out of the first round.
        token = stored(place)
        provider.expire_access_tokens()
        store(place, {1: {**token, "expires_at": 1}})


@pytest.mark.parametrize("place", ["postgresql", "mariadb", "sqlite"], indirect=True)
def test_one_refresh_of_flask_and_quart(crew, provider, place):
    """F5: processes of both frameworks share a table: one refresh, and the next one."""
    give_expired(provider, place, 1)
    for round_ in (1, 2):
        provider.fault("token", faults.Slow(0.1))
        jobs = [job(provider, place, [1] * 20, framework=each) for each in FRAMEWORKS]
        assert crew.run(*jobs) == [["alice"] * 20] * len(FRAMEWORKS)
        assert provider.count("token") == round_
        assert provider.reuse_detected == []
        token = stored(place)
        provider.expire_access_tokens()
        store(place, {1: {**token, "expires_at": 1}})


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_many_accounts(crew, provider, place):
    """F5: 40 accounts refresh at once from 2 processes with 5 connections each.

    Each account once; none starves, and nobody waits for a connection for ever.
    """
    users = list(range(40))
    give_expired(provider, place, *users)
    provider.fault("token", faults.Slow(0.1), times=40)
    said = crew.run(*(job(provider, place, users * 2) for _ in range(2)))
    assert said == [["alice"] * 80] * 2
    assert provider.count("token") == 40
    assert provider.reuse_detected == []


#: When the process that refreshes dies, and whether the provider has rotated by then.
DEATHS = [("before", False), ("during", False), ("answered", True), ("after", True)]


@pytest.mark.parametrize(("when", "rotated"), DEATHS)
@pytest.mark.parametrize(
    ("place", "framework"),
    [
        *((place, "quart") for place in [*PLACES, *LEASED]),
        ("postgresql", "flask"),
        ("sqlite", "flask sync"),
    ],
    indirect=["place"],
)
def test_killed(crew, provider, place, framework, when, rotated):
    """F5, F7: SIGKILL of the process that refreshes: 5.6 says what the others get.

    They wait for the lease at most. If the provider had not rotated, one of them
    refreshes, and all succeed. Else there is one invalid_grant, and the visitor has to
    log in again: no error, and no token that is left behind.
    """
    place["lease_seconds"] = 3
    give_expired(provider, place, 1)
    die = when if when in ("before", "after") else ""
    if not die:
        provider.fault("token", faults.Hang(after=when == "answered"))
    doomed = job(provider, place, [1], die=die, framework=framework)
    (first,) = crew.begin(doomed)
    if not die:
        asyncio.run(provider.held())
        first.process.kill()
    assert first.heard() == ""
    asked = provider.count("token")
    said = crew.run(*(job(provider, place, [1] * 10) for _ in range(2)))
    if rotated:
        assert said == [["log in again"] * 10] * 2
        assert stored(place) is None
        assert len(provider.reuse_detected) == 1
    else:
        assert said == [["alice"] * 10] * 2
        assert provider.reuse_detected == []
    assert provider.count("token") == asked + 1
    # A new login works at once.
    store(place, {1: provider.issue_token()})
    assert crew.run(job(provider, place, [1])) == [["alice"]]
