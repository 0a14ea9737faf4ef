"""The examples with storages run, offline, from the first visit to the log-out."""

from __future__ import annotations

import runpy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import text as sql
from sqlalchemy.ext.asyncio import create_async_engine
from support import Visitor

from quart_dance.consumer.runtime import runtime
from quart_dance.testing import ALICE, BOB, DevProvider, Person, faults

EXAMPLES = Path(__file__).parent.parent / "examples"
#: Has the address that Alice has at the other provider.
MALLORY = Person(7, "mallory", "Mallory", "alice@example.com")


class Network(httpx2.AsyncBaseTransport):
    """Brings each request to the provider whose host it names."""

    def __init__(self, **providers: DevProvider) -> None:
        self.hosts = {f"{name}.test": p.transport() for name, p in providers.items()}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await self.hosts[request.url.host].handle_async_request(request)


class ManyUsers:
    """The example many_users with its two providers, and what its pages say."""

    def __init__(self, folder: Path) -> None:
        self.north = DevProvider(url="https://north.test")
        self.south = DevProvider(url="https://south.test", people=[ALICE, BOB, MALLORY])
        self.names = runpy.run_path(str(EXAMPLES / "many_users.py"))
        options = {"north": self.north.options(), "south": self.south.options()}
        url = f"sqlite+aiosqlite:///{folder}/app.db"
        self.url = url
        self.app = self.names["create_app"](url, options)
        network = Network(north=self.north, south=self.south)
        runtime(self.app).transport = network

    async def login(self, visitor: Visitor, name: str, person: str) -> Any:
        """Log in with a provider and return the response."""
        provider = getattr(self, name)
        return await visitor.login(provider, person, f"/login/{name}")

    async def page(self, visitor: Visitor) -> list[str]:
        """Return what the first page says: who one is, here and at the providers."""
        text = await (await visitor.get("/")).get_data(as_text=True)
        said = " ".join(text.replace("<", " <").split())
        hello = said.partition("<h1>Hello, ")[2].partition(" <")[0]
        return [
            hello,
            *(
                who.partition(" <")[0]
                if (who := rest.partition("you are ")[2])
                else "-"
                for rest in said.split("<li>")[1:]
            ),
        ]


@pytest.fixture
async def many(tmp_path) -> AsyncIterator[ManyUsers]:
    """Give the example, being served."""
    example = ManyUsers(tmp_path)
    async with example.app.test_app():
        yield example


async def text(response: Any) -> str:
    """Return what a response says."""
    return str(await response.get_data(as_text=True))


async def test_sign_up_and_log_in(many):
    """A first login makes an account; the next one, in another browser, finds it."""
    visitor, other = Visitor(many.app), Visitor(many.app)
    assert await many.page(visitor) == ["stranger", "-", "-"]
    response = await many.login(visitor, "north", "alice")
    assert (response.status_code, response.location) == (302, "/")
    assert await many.page(visitor) == ["alice", "alice", "-"]
    await many.login(other, "north", "bob")
    assert await many.page(other) == ["bob", "bob", "-"]
    assert (await visitor.get("/logout", method="POST")).status_code == 302
    assert await many.page(visitor) == ["stranger", "-", "-"]
    await many.login(visitor, "north", "alice")
    assert await many.page(visitor) == ["alice", "alice", "-"]


async def test_second_provider(many):
    """Who is logged in can connect a second provider, and then enter with either."""
    visitor, other = Visitor(many.app), Visitor(many.app)
    await many.login(visitor, "north", "alice")
    assert (await many.login(visitor, "south", "bob")).status_code == 302
    assert await many.page(visitor) == ["alice", "alice", "bob"]
    await many.login(other, "south", "bob")
    assert await many.page(other) == ["alice", "alice", "bob"]


async def test_never_by_email(many):
    """The same address at another provider opens nobody's account."""
    await many.login(Visitor(many.app), "north", "alice")
    visitor = Visitor(many.app)
    await many.login(visitor, "south", "mallory")
    assert await many.page(visitor) == ["mallory", "-", "mallory"]


@pytest.mark.parametrize(
    ("name", "person", "why"),
    [
        ("south", "bob", "That account belongs to another user here."),
        ("north", "bob", "You have connected another account there."),
    ],
)
async def test_refused(many, name, person, why):
    """What belongs to another user, or would be a second one, is not connected."""
    visitor, other = Visitor(many.app), Visitor(many.app)
    await many.login(other, "south", "bob")
    await many.login(visitor, "north", "alice")
    response = await many.login(visitor, name, person)
    assert response.status_code == 409
    assert await text(response) == f"{why} Nothing has changed."
    assert await many.page(visitor) == ["alice", "alice", "-"]
    assert await many.page(other) == ["bob", "-", "bob"]


async def test_withdrawn(many):
    """Who withdraws the consent logs in again, and is the same user as before."""
    visitor = Visitor(many.app)
    await many.login(visitor, "north", "alice")
    await many.login(visitor, "south", "bob")
    many.north.revoke_tokens()
    response = await visitor.get("/")
    assert response.location == "/login/north?next=/"
    assert await many.page(visitor) == ["alice", "-", "bob"]
    stranger = Visitor(many.app)
    await many.login(stranger, "north", "alice")
    assert await many.page(stranger) == ["alice", "alice", "bob"]


async def test_one_token_for_each(many):
    """Two logins and a refresh leave one row, with the newest token."""
    visitor = Visitor(many.app)
    for _ in range(2):
        await many.login(visitor, "north", "alice")
    many.north.expire_access_tokens()
    assert await many.page(visitor) == ["alice", "alice", "-"]
    storage = many.app.blueprints["north"].storage
    async with storage.session() as session:
        rows = (await session.execute(many.names["OAuth"].__table__.select())).all()
    ((provider, user_id, token),) = [(r.provider, r.user_id, r.token) for r in rows]
    assert (provider, user_id) == ("north", 1)
    assert token["access_token"] == many.north.tokens[-1].access_token


@pytest.fixture
async def custom(tmp_path, dev_provider) -> AsyncIterator[Any]:
    """Give the example custom_storage, and a way to restart it."""
    names = runpy.run_path(str(EXAMPLES / "custom_storage.py"))
    apps: list[Any] = []

    def start(kind: str = "UserTableStorage") -> Any:
        storage = names[kind](tmp_path / "tokens.db")
        app = names["create_app"](storage, dev_provider.options())
        app.secret_key = "the secret key of the tests"
        dev_provider.install(app)
        apps.append(app)
        return app

    yield start
    for app in apps:
        async with app.app_context():
            await app.blueprints["dev"].aclose()


async def test_custom_storage(custom, dev_provider):
    """Each user has a token; it survives a restart, is refreshed, and deleted."""
    first = custom()
    people = {name: Visitor(first) for name in ("alice", "bob")}
    for name, visitor in people.items():
        assert (await visitor.get("/")).location == "/login/dev?next=/"
        await visitor.login(dev_provider, name)
        assert f"</title>{name}<" in await text(await visitor.get("/"))
    again = custom()
    for name, visitor in people.items():
        visitor.client.app = again
        dev_provider.expire_access_tokens(name)
        assert f"</title>{name}<" in await text(await visitor.get("/"))
    assert dev_provider.count("token") == 4
    assert (await people["alice"].get("/logout", method="POST")).status_code == 302
    assert (await people["alice"].get("/")).location == "/login/dev?next=/"
    assert "bob" in await text(await people["bob"].get("/"))


async def test_custom_storage_in_the_background(custom, dev_provider):
    """A job names the account; a dead refresh token ends the login."""
    app = custom()
    visitor = Visitor(app)
    await visitor.login(dev_provider, "bob")
    session = app.blueprints["dev"].session_for(user_id=BOB.id, app=app)
    assert (await session.get("user")).json()["login"] == "bob"
    dev_provider.expire_access_tokens()
    dev_provider.fault("token", faults.DEAD_REFRESH_TOKEN)
    assert (await visitor.get("/")).location == "/login/dev?next=/"
    assert await session.token is None


async def test_custom_storage_without_accounts(custom, dev_provider):
    """Three coroutines alone keep one token for all."""
    app = custom("TableStorage")
    await Visitor(app).login(dev_provider, "bob")
    assert "bob" in await text(await Visitor(app).get("/"))


async def test_an_account_that_is_gone(many):
    """C22: a cookie of a deleted account connects nobody with the next one."""
    bob, alice = Visitor(many.app), Visitor(many.app)
    await many.login(bob, "north", "bob")
    engine = create_async_engine(many.url)
    async with engine.begin() as connection:
        for table in ("flask_dance_oauth", "login", "user"):
            await connection.execute(sql(f"DELETE FROM {table}"))
    await engine.dispose()
    assert (await many.login(bob, "north", "bob")).status_code == 409
    await many.login(alice, "south", "alice")
    assert (await many.page(alice))[0] == "alice"
    fresh = Visitor(many.app)
    await many.login(fresh, "north", "bob")
    assert (await many.page(fresh))[0] == "bob"
