"""Who meets whom: visitors within one context, refreshes, logouts, new logins.

Where a test must know that a request waits, it parks itself: it goes on when nothing
else can (see `scheduler`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from quart import websocket
from scheduler import Scheduler, texts, timed_app
from support import Visitor, make_app

from quart_dance.consumer import oauth_authorized, oauth_revoked
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.testing import DevProvider
from quart_dance.testing.faults import Hang


async def test_a_token_that_arrives_within_a_shared_context():
    """S15: served within a context, a login's token is that visitor's, nobody's else.

    Quart 0.22 then gives all requests one `g`.
    """
    provider = DevProvider()
    app, blueprint = make_app(provider)
    inside, go_on, arrived = asyncio.Event(), asyncio.Event(), []

    @oauth_authorized.connect_via(blueprint)
    async def note(sender: Any, token: Any) -> None:
        if not inside.is_set():
            inside.set()
            await go_on.wait()
        session = blueprint.session
        arrived.append([(await session.get("user")).json()["login"], token])
        assert await session.token == token

    async with app.app_context():
        alice, bob = Visitor(app), Visitor(app)
        login = asyncio.create_task(alice.login(provider, "alice"))
        await inside.wait()
        assert await texts(Visitor(app).get("/me"), bob.get("/me")) == ["nobody"] * 2
        assert (await bob.login(provider, "bob")).status_code == 302
        assert await texts(bob.get("/me")) == ["bob"]
        go_on.set()
        assert (await login).status_code == 302
        assert await texts(alice.get("/me"), bob.get("/me")) == ["alice", "bob"]
    assert [login for login, _ in arrived] == ["bob", "alice"]
    assert arrived[0][1] != arrived[1][1]


async def test_cookies_within_a_shared_context():
    """S15: served within a context, no visitor sends another's provider cookies."""
    provider = DevProvider()
    app, blueprint = make_app(provider)

    @app.get("/cookies")
    async def cookies() -> Any:
        before = (await blueprint.session.get("cookie")).json()["cookies"]
        after = (await blueprint.session.get("cookie")).json()["cookies"]
        return [sorted(before), sorted(after)]

    @app.websocket("/ws")
    async def ws() -> None:
        answer = await blueprint.session.get("cookie")
        await websocket.send_json(answer.json()["cookies"])

    async with app.app_context():
        for person in ("alice", "bob"):
            visitor = Visitor(app)
            await visitor.login(provider, person)
            for _ in range(2):
                response = await visitor.get("/cookies")
                assert await response.get_json() == [[], ["dev_provider"]]
                async with visitor.client.websocket("/ws", scheme="wss") as socket:
                    assert await socket.receive_json() == {}


def test_a_refresh_that_hangs_holds_off_nobody_else():
    """F5: in sessions each visitor has a token of their own: no refresh waits."""
    schedule = Scheduler(0)
    app, _, provider, clock = timed_app()
    alice, bob = Visitor(app), Visitor(app)

    async def main() -> list[str]:
        await alice.login(provider, "alice")
        await bob.login(provider, "bob")
        clock.now += 3600
        provider.fault("token", Hang())
        hanging = asyncio.create_task(alice.get("/me"))
        await provider.held()
        other = asyncio.create_task(bob.get("/me"))
        await schedule.park()
        assert (hanging.done(), other.done()) == (False, True)
        provider.release()
        return await texts(hanging, other)

    assert schedule.run(main()) == ["alice", "bob"]
    assert provider.count("token") == 4


@pytest.mark.parametrize("rotate", [True, False])
def test_a_refresh_during_a_revocation(rotate):
    """F6: it waits, so that no token is left that nobody has revoked."""
    schedule = Scheduler(0)
    app, blueprint, provider, clock = timed_app(storage=MemoryStorage())
    provider.policy.rotate_refresh_tokens = rotate
    visitor, revoked = Visitor(app), []

    @app.get("/logout")
    async def logout() -> str:
        await blueprint.revoke_token()
        return "bye"

    @oauth_revoked.connect_via(blueprint)
    async def note(sender: Any, token: Any) -> None:
        revoked.append(token)

    async def main() -> list[Any]:
        await visitor.login(provider)
        clock.now += 3600
        provider.fault("revoke", Hang())
        leaving = asyncio.create_task(visitor.get("/logout"))
        await provider.held()
        late = asyncio.create_task(visitor.get("/me"))
        await schedule.park()
        assert provider.count("token") == 1
        provider.release()
        pages = [await leaving, await late, await visitor.get("/me")]
        return [(page.status_code, page.location) for page in pages]

    login = (302, "/login/dev?next=/me")
    assert schedule.run(main()) == [(200, None), login, (401, None)]
    assert provider.tokens == []
    assert provider.count("token") == 1
    assert len(revoked) == 1


class Vault(BaseStorage):
    """Three coroutines, as users write them; the next `set` may be held."""

    def __init__(self) -> None:
        self.tokens: dict[str, Any] = {}
        self.gate: asyncio.Event | None = None
        self.held = asyncio.Event()

    async def get(self, blueprint: Any) -> Any:
        return self.tokens.get(blueprint.name)

    async def set(self, blueprint: Any, token: Any) -> None:
        gate, self.gate = self.gate, None
        if gate is not None:
            self.held.set()
            await gate.wait()
        self.tokens[blueprint.name] = dict(token)

    async def delete(self, blueprint: Any) -> None:
        self.tokens.pop(blueprint.name, None)


@pytest.mark.parametrize("change", ["logout", "login", "set"])
def test_a_change_while_a_replacement_is_written(change):
    """F6: between the `get` and the `set` of the default `replace` nobody comes in."""
    schedule, vault = Scheduler(0), Vault()
    app, blueprint, provider, clock = timed_app(storage=vault)
    visitor = Visitor(app)

    @app.get("/set")
    async def set_token() -> str:
        await blueprint.set_token(provider.issue_token("bob"))
        return "set"

    @app.get("/logout")
    async def logout() -> str:
        await blueprint.delete_token()
        return "bye"

    async def main() -> list[str]:
        await visitor.login(provider)
        clock.now += 3600
        gate = vault.gate = asyncio.Event()
        refresh = asyncio.create_task(visitor.get("/me"))
        await vault.held.wait()
        if change == "login":
            made = asyncio.create_task(visitor.login(provider, "bob"))
        else:
            made = asyncio.create_task(visitor.get(f"/{change}"))
        await schedule.park()
        gate.set()
        assert (await made).status_code == (302 if change == "login" else 200)
        assert await texts(refresh) == ["alice"]
        return await texts(visitor.get("/me"))

    assert schedule.run(main()) == ["nobody" if change == "logout" else "bob"]
    assert (vault.tokens == {}) == (change == "logout")


class Late(MemoryStorage):
    """Holds whoever asks next whose token it is."""

    def __init__(self, name: str | None) -> None:
        super().__init__()
        self.name = name
        self.gate: asyncio.Event | None = None
        self.held = asyncio.Event()

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        gate, self.gate = self.gate, None
        if gate is not None:
            self.held.set()
            await gate.wait()
        return self.name


@pytest.mark.parametrize("name", ["42", None])
@pytest.mark.parametrize("person", ["bob", None])
async def test_a_late_request_after_a_change(person, name):
    """F6: who still holds a refreshed token gets what is stored now, not its heir."""
    storage = Late(name)
    app, blueprint, provider, clock = timed_app(storage=storage)
    visitor = Visitor(app)

    @app.get("/logout")
    async def logout() -> str:
        await blueprint.delete_token()
        return "bye"

    await visitor.login(provider)
    clock.now += 3600
    gate = storage.gate = asyncio.Event()
    late = asyncio.create_task(visitor.get("/me"))
    await storage.held.wait()
    assert await texts(visitor.get("/me")) == ["alice"]
    assert await texts(visitor.get("/logout")) == ["bye"]
    if person:
        await visitor.login(provider, person)
    calls = provider.count("user")
    gate.set()
    response = await late
    said = await response.get_data(as_text=True)
    assert (said, response.location) == (
        ("bob", None) if person else ("", "/login/dev?next=/me")
    )
    assert provider.count("user") == calls + bool(person)
    assert await texts(visitor.get("/me")) == [person or "nobody"]
    assert provider.reuse_detected == []
