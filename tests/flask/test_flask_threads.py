"""Many threads at once: nobody gets another one's session, state or token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import flask
import pytest
from accounts import Base, OAuth
from rooms import FlaskVisitor, Room
from sqlalchemy import Engine, create_engine, select
from sqlalchemy.orm import Session
from support import query

from quart_dance.flask.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.testing import DevProvider, Person, faults

MANY = 32
NAMES = [f"person-{number}" for number in range(MANY)]


@pytest.fixture
def provider() -> DevProvider:
    """Give a provider with many people."""
    people = [Person(n, name, name, f"{n}@test") for n, name in enumerate(NAMES)]
    return DevProvider(people=people)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Give a database with a table of tokens, and a connection for each thread."""
    made = create_engine(f"sqlite:///{tmp_path}/tokens.db", pool_size=MANY)
    Base.metadata.create_all(made)
    yield made
    made.dispose()


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Run something in as many threads, which begin together."""
    barrier = Barrier(MANY)

    def one(number: int) -> Any:
        barrier.wait(30)
        return work(number)

    with ThreadPoolExecutor(MANY) as pool:
        return list(pool.map(one, range(MANY)))


def while_held(provider: DevProvider, endpoint: str, work: Callable[[int], Any]) -> Any:
    """Run something so that all threads wait for an endpoint at the same time."""
    provider.fault(endpoint, faults.Hang(), times=MANY)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(at_once, work)
        asyncio.run(asyncio.wait_for(provider.held(MANY), 60))
        assert provider.release() == MANY
        return running.result(60)


def log_everybody_in(
    room: Room, visitors: list[FlaskVisitor]
) -> tuple[list[dict[str, str]], list[int]]:
    """Log everybody in, all at once; return what was asked, and the answers' status."""
    provider = room.provider
    begun = at_once(lambda n: visitors[n].open("/login/dev").location)
    callbacks = at_once(
        lambda n: asyncio.run(provider.approve(begun[n], person=NAMES[n]))
    )
    pages = while_held(provider, "token", lambda n: visitors[n].open(callbacks[n]))
    return [query(url) for url in begun], [page.status for page in pages]


def use(room: Room, visitors: list[FlaskVisitor], endpoint: str) -> list[str]:
    """Return who each visitor is, all calls in flight together."""
    found = while_held(room.provider, endpoint, lambda n: visitors[n].open("/me").text)
    return list(found)


@pytest.mark.parametrize("where", ["session", "table"])
def test_interleaved(provider, engine, where):
    """DESIGN 5.1: interleaved logins, calls and refreshes keep to their visitors."""
    room = Room("flask", provider)
    sessions: list[Any] = []
    if where == "table":
        room.blueprint.storage = SQLAlchemyStorage(
            OAuth, engine, user_id=lambda: flask.session["user"]
        )

    @room.app.before_request
    def note() -> None:
        sessions.append(room.blueprint.session._get_current_object())

    visitors = [FlaskVisitor(room.app) for _ in NAMES]
    at_once(lambda n: visitors[n].open(f"/be/{n}"))
    asked, status = log_everybody_in(room, visitors)
    assert status == [302] * MANY
    assert len({a["state"] for a in asked}) == MANY
    assert len({a["code_challenge"] for a in asked}) == MANY
    assert use(room, visitors, "user") == NAMES
    room.now += 3700
    provider.expire_access_tokens()
    assert use(room, visitors, "token") == NAMES  # each refreshes its own
    assert use(room, visitors, "user") == NAMES
    assert provider.count("token") == 2 * MANY and provider.reuse_detected == []
    assert len(provider.tokens) == MANY
    # One for each request: to be in, /login, the callback, and /me three times.
    assert len({id(session) for session in sessions}) == 6 * MANY
    if where == "table":
        assert rows(engine, provider) == {str(n): name for n, name in enumerate(NAMES)}


def rows(engine: Engine, provider: DevProvider) -> dict[str | None, str]:
    """Return whose token each account has; there is one for each of them."""
    people = {token.access_token: token.person.login for token in provider.tokens}
    with Session(engine) as session:
        found = session.execute(select(OAuth.user_id, OAuth.token)).all()
    assert len({user_id for user_id, _ in found}) == len(found)
    return {user_id: people[token["access_token"]] for user_id, token in found}


def test_nobody_among_users(provider, engine):
    """S7: those who are nobody change the row of nobody, whoever logs in meanwhile."""
    room = Room("flask", provider)
    room.blueprint.storage = SQLAlchemyStorage(
        OAuth, engine, user_id=lambda: flask.session.get("user"), user_required=False
    )
    visitors = [FlaskVisitor(room.app) for _ in NAMES]
    users = range(0, MANY, 2)
    for number in users:
        visitors[number].open(f"/be/{number}")
    _, status = log_everybody_in(room, visitors)
    assert status == [302] * MANY
    found = rows(engine, provider)
    nobody = found.pop(None)
    assert found == {str(n): NAMES[n] for n in users}
    assert nobody in {NAMES[n] for n in range(1, MANY, 2)}
    seen = use(room, visitors, "user")
    assert seen == [NAMES[n] if n in users else nobody for n in range(MANY)]
