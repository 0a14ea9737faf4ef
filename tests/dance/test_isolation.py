"""Nothing of a visitor is another's: logins that overlap, on blueprints that do not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pytest
from quart import Quart, request
from scheduler import ParkedTransport, Scheduler, SteppedStorage
from support import Visitor, make_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint, oauth_authorized
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.oauth.token import Token
from quart_dance.testing import DevProvider, faults

VISITORS = 200


class HostStorage(BaseStorage):
    """One account for each host under which the application is visited."""

    def __init__(self) -> None:
        self.tokens: dict[str | None, dict[str, Any]] = {}

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return request.host

    async def get(self, blueprint: Any) -> Any:
        return self.tokens.get(request.host)

    async def set(self, blueprint: Any, token: Any) -> None:
        self.tokens[request.host] = dict(token)

    async def delete(self, blueprint: Any) -> None:
        self.tokens.pop(request.host, None)


def parked_app(
    schedule: Scheduler, provider: DevProvider, storage: BaseStorage
) -> tuple[Quart, OAuth2ConsumerBlueprint, ParkedTransport]:
    """Return an application whose every transport and storage call is parked."""
    stepped = SteppedStorage(storage, schedule.park)
    app, blueprint = make_app(provider, storage=stepped)
    transport = ParkedTransport(provider.transport(), schedule)
    runtime(app).transport = transport

    @app.get("/seen")
    async def seen() -> Any:
        first = (await blueprint.session.get("cookie")).json()["cookies"]
        second = (await blueprint.session.get("cookie")).json()["cookies"]
        user = (await blueprint.session.get("user")).json()["login"]
        token = dict(await blueprint.token or {})
        return {"cookies": [first, second], "user": user, "token": token}

    return app, blueprint, transport


async def walk(
    schedule: Scheduler, provider: DevProvider, visitor: Visitor, person: str
) -> tuple[dict[str, str], dict[str, str], Any]:
    """Log in and return both queries, and what the visitor then sees."""
    url = await visitor.start()
    await schedule.park()
    callback = await provider.approve(url, person=person)
    await schedule.park()
    assert (await visitor.get(callback)).status_code == 302
    seen = await (await visitor.get("/seen")).get_json()
    return query(url), query(callback), seen


@pytest.mark.parametrize("storage", [SessionStorage, HostStorage])
@pytest.mark.parametrize("seed", [1, 2])
def test_two_hundred_logins(storage, seed):
    """C2, C11, S15: 200 overlapping logins each end with what is their own."""
    schedule, provider = Scheduler(seed), DevProvider()
    app, _, transport = parked_app(schedule, provider, storage())

    async def everybody() -> list[Any]:
        visitors = [Visitor(app, f"v{number}.test") for number in range(VISITORS)]
        people = ["alice", "bob"] * (VISITORS // 2)
        return await asyncio.gather(
            *(
                walk(schedule, provider, *pair)
                for pair in zip(visitors, people, strict=True)
            )
        )

    walks = schedule.run(everybody())
    assert schedule.most >= VISITORS // 2
    calls = {c.form["code"]: c for c in provider.calls if c.endpoint == "token"}
    answers = {
        query(f"?{sent.content.decode()}")["code"]: json.loads(body)
        for sent, body in transport.answers
        if sent.url.path == "/token"
    }
    cookies = {token.access_token: token.cookie for token in provider.tokens}
    assert provider.count("token") == len(calls) == VISITORS
    for number, (there, back, seen) in enumerate(walks):
        form, answer = calls[back["code"]].form, answers[back["code"]]
        verifier = form["code_verifier"]
        assert re.fullmatch(r"[A-Za-z0-9\-._~]{43,128}", verifier)
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        assert (there["code_challenge_method"], challenge) == (
            "S256",
            there["code_challenge"],
        )
        uri = f"https://v{number}.test/login/dev/authorized"
        assert there["redirect_uri"] == form["redirect_uri"] == uri
        assert there["state"] == back["state"]
        for key in ("access_token", "refresh_token"):
            assert seen["token"][key] == answer[key]
        assert seen["user"] == ["alice", "bob"][number % 2]
        own = {"dev_provider": cookies[answer["access_token"]]}
        assert seen["cookies"] == [{}, own]
    for fresh in (
        {call.form["code_verifier"] for call in calls.values()},
        {there["state"] for there, _, _ in walks},
        {seen["token"]["access_token"] for _, _, seen in walks},
        {seen["cookies"][1]["dev_provider"] for _, _, seen in walks},
    ):
        assert len(fresh) == VISITORS


def deep(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Return all that a value holds, for a comparison."""
    if isinstance(value, Mapping):
        return {str(key): deep(item, above) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [deep(item, above) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, str | bytes | int | float | None):
        return value
    closed = isinstance(value, type | FunctionType | MethodType | ModuleType)
    if closed or not hasattr(value, "__dict__") or id(value) in above:
        return id(value)
    return id(value), deep(vars(value), (*above, id(value)))


async def test_blueprint_is_unchanged(dev_provider):
    """S15: login, callback, call, refresh, logout and failures leave no trace on it."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage())

    def snapshot() -> Any:
        return deep({k: v for k, v in vars(blueprint).items() if k != "_storage"})

    @app.get("/logout")
    async def logout() -> str:
        await blueprint.delete_token()
        return ""

    @app.get("/set")
    async def replace() -> str:
        await blueprint.set_token({"access_token": "another"})
        return ""

    before, visitor = snapshot(), Visitor(app)
    assert (await visitor.login(dev_provider)).status_code == 302
    assert snapshot() == before
    assert (await visitor.get("/me")).status_code == 200
    assert snapshot() == before
    dev_provider.expire_access_tokens()
    assert (await visitor.get("/me")).status_code == 200
    assert dev_provider.count("token") == 2
    assert snapshot() == before
    denied = await dev_provider.deny(await visitor.start())
    assert (await visitor.get(denied)).status_code == 400
    dev_provider.fault("token", faults.SERVER_ERROR)
    assert (await visitor.login(dev_provider)).status_code == 502
    assert (await visitor.get("/login/dev/authorized?code=1")).status_code == 400
    for path in ("/set", "/logout"):
        assert (await visitor.get(path)).status_code == 200
    assert snapshot() == before


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_blueprint_in_two_applications(seed):
    """S15: each application has its own client, provider and pool."""
    schedule = Scheduler(seed)
    options = {**DevProvider().options(), "client_id": None, "client_secret": None}
    blueprint = OAuth2ConsumerBlueprint("dev", __name__, **options)
    blueprint.from_config = {"client_id": "DEV_ID", "client_secret": "DEV_SECRET"}
    blueprint.storage = SteppedStorage(SessionStorage(), schedule.park)
    apps, providers = [], []
    for name in ("one", "two"):
        provider = DevProvider(client_id=f"{name}-id", client_secret=f"{name}-secret")
        app = Quart(name)
        app.secret_key = f"the key of {name}"
        app.config.update(DEV_ID=f"{name}-id", DEV_SECRET=f"{name}-secret")
        app.register_blueprint(blueprint, url_prefix="/login")
        runtime(app).transport = ParkedTransport(provider.transport(), schedule)
        app.add_url_rule("/me", "me", _who(blueprint))
        apps.append(app)
        providers.append(provider)

    async def everybody() -> list[Any]:
        return await asyncio.gather(
            *(
                login(Visitor(app), provider, person)
                for app, provider in zip(apps, providers, strict=True)
                for person in ["alice", "bob"] * 15
            )
        )

    async def login(visitor: Visitor, provider: DevProvider, person: str) -> Any:
        assert (await visitor.login(provider, person)).status_code == 302
        return await (await visitor.get("/me")).get_data(as_text=True)

    assert schedule.run(everybody()) == ["alice", "bob"] * 30
    assert schedule.most >= 20
    for provider, credentials in zip(
        providers, ["one-id:one-secret", "two-id:two-secret"], strict=True
    ):
        calls = [call for call in provider.calls if call.endpoint == "token"]
        expected = f"Basic {base64.b64encode(credentials.encode()).decode()}"
        assert [call.headers["Authorization"] for call in calls] == [expected] * 30
        assert {len(provider.tokens), provider.count("user")} == {30}


def _who(blueprint: OAuth2ConsumerBlueprint) -> Any:
    async def who() -> str:
        login: str = (await blueprint.session.get("user")).json()["login"]
        return login

    return who


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_two_blueprints_of_one_provider(seed):
    """C8, S15: two blueprints of one provider share no token, state or flight."""
    schedule, provider = Scheduler(seed), DevProvider()
    app, _, _ = parked_app(schedule, provider, SessionStorage())
    for name in ("home", "work"):
        blueprint = OAuth2ConsumerBlueprint(name, __name__, **provider.options())
        blueprint.storage = SteppedStorage(SessionStorage(), schedule.park)
        app.register_blueprint(blueprint, url_prefix="/login")
        app.add_url_rule(f"/at/{name}", f"at_{name}", _who(blueprint))

    async def login(visitor: Visitor) -> None:
        await asyncio.gather(visitor.start("/login/home"), visitor.start("/login/work"))
        home = await visitor.login(provider, "alice", "/login/home")
        lost = await provider.approve(await visitor.start("/login/home"))
        lost = lost.replace("/login/home/", "/login/work/")
        assert (await visitor.get(lost)).status_code == 400
        work = await visitor.login(provider, "bob", "/login/work")
        assert (home.status_code, work.status_code) == (302, 302)

    async def look(visitor: Visitor) -> list[Any]:
        pages = [await visitor.get("/at/home"), await visitor.get("/at/work")]
        return [await page.get_data(as_text=True) for page in pages]

    async def everybody() -> list[Any]:
        visitors = [Visitor(app) for _ in range(15)]
        await asyncio.gather(*map(login, visitors))
        provider.expire_access_tokens()
        return await asyncio.gather(*map(look, visitors))

    assert schedule.run(everybody()) == [["alice", "bob"]] * 15
    assert schedule.most >= 20
    # A login and a refresh of each visitor at each blueprint.
    assert provider.count("token") == 60
    assert provider.reuse_detected == []


async def test_background_task(dev_provider):
    """S15: what a login has at hand does not reach a task that it starts."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage())
    seen: list[object] = []

    async def job() -> None:
        seen.append(blueprint.current_session())
        seen.append(await blueprint.session.token)
        seen.append(dict(blueprint.session.cookies))

    @oauth_authorized.connect_via(blueprint)
    async def arrived(sender: Any, token: Token) -> bool:
        session = sender.current_session()
        await session.get("cookie")
        assert await session.token == token
        seen.append(session)
        app.add_background_task(job)
        await asyncio.gather(*app.background_tasks)
        return False

    @app.after_request
    async def look(response: Any) -> Any:
        seen.append(await blueprint.session.token)
        return response

    visitor = Visitor(app)
    url = await visitor.start()
    seen.clear()
    await visitor.get(await dev_provider.approve(url))
    own, other, token, cookies, afterwards = seen
    assert own is not other
    assert (token, cookies) == (None, {})
    assert afterwards is None  # refused by the receiver, and so forgotten
