"""Whose token a flight brings: of whom it began for, whoever comes in meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from quart import session
from scheduler import timed_app
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from support import Visitor

from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import NOBODY, BaseStorage
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.testing import faults

OVER = {"expires_in": 3600, "expires_at": 1}
PERSONAL = {"access_token": "the-personal-token-of-7", "token_type": "bearer"}
#: Whose database it is.
tenant: ContextVar[str] = ContextVar("tenant")


class Base(DeclarativeBase):
    pass


class OAuth(OAuthConsumerMixin, Base):
    user_id: Mapped[int | None] = mapped_column()


class Unnamed(BaseStorage):
    """Tokens of users, in a storage that does not say how to name them."""

    def __init__(self) -> None:
        self.tokens: dict[str | None, Any] = {}

    async def account(
        self, blueprint: Any, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        user_id = session.get("user") if user_id is None else user_id
        return None if user_id in (None, NOBODY) else str(user_id)

    async def get(self, blueprint: Any, **who: Any) -> Any:
        return self.tokens.get(await self.account(blueprint, **who))

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        self.tokens[await self.account(blueprint, **who)] = dict(token)

    async def delete(self, blueprint: Any, **who: Any) -> None:
        self.tokens.pop(await self.account(blueprint, **who), None)


class Misnamed(Unnamed):
    """One that takes None for a name, which names whoever is logged in."""

    def named(self, account: str | None) -> dict[str, Any]:
        return {"user_id": account}


class Wrapped(BaseStorage):
    """A storage of an application's own that hands everything on."""

    def __init__(self, inner: BaseStorage) -> None:
        self.inner = inner

    async def get(self, blueprint: Any, **who: Any) -> Any:
        return await self.inner.get(blueprint, **who)

    async def set(self, blueprint: Any, token: Any, **who: Any) -> None:
        await self.inner.set(blueprint, token, **who)

    async def delete(self, blueprint: Any, **who: Any) -> None:
        await self.inner.delete(blueprint, **who)

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return await self.inner.account(blueprint, **who)

    def named(self, account: str | None) -> dict[str, Any]:
        return self.inner.named(account)


@asynccontextmanager
async def database(path: Path) -> AsyncIterator[AsyncEngine]:
    """Open a database with a table."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    try:
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        yield engine
    finally:
        await engine.dispose()


@asynccontextmanager
async def storage_of(kind: str, tmp_path: Path) -> AsyncIterator[BaseStorage]:
    """Give a storage whose user is the one in the session."""
    if kind != "sqla":
        yield Misnamed() if kind == "misnamed" else Unnamed()
        return
    async with database(tmp_path / "tokens.db") as engine:
        yield SQLAlchemyStorage(
            OAuth, engine, user_id=lambda: session.get("user"), user_required=False
        )


@pytest.mark.parametrize("when", ["before the provider is asked", "while it is"])
@pytest.mark.parametrize("begins", [None, 1])
@pytest.mark.parametrize("kind", ["sqla", "unnamed", "misnamed"])
async def test_a_login_while_a_refresh_is_on_its_way(kind, begins, when, tmp_path):
    """S2, S15: who logs in meanwhile is not whose token all others get.

    A page gives the API a moment, and then logs its visitor in, while another visitor
    waits for the refresh that it began: for nobody, or for somebody else.
    """
    async with storage_of(kind, tmp_path) as storage:
        app, blueprint, provider, _ = timed_app(storage=storage)
        whose = NOBODY if begins is None else begins
        login, begun = asyncio.Event(), runtime(app).here.flights

        @app.get("/enter")
        async def enter() -> str:
            session["user"] = begins
            call = asyncio.create_task(blueprint.session.get("user"))
            await login.wait()
            session["user"] = 7
            await asyncio.wait([call])
            return ""

        @app.get("/other")
        async def other() -> Any:
            session["user"] = begins
            return (await blueprint.session.get("user")).json()

        async with app.test_request_context("/"):
            shared = {**provider.issue_token("bob"), **OVER}
            await storage.set(blueprint, shared, user_id=whose)
            await storage.set(blueprint, PERSONAL, user_id=7)
            locked = storage.refresh_lock(blueprint, user_id=whose)
        provider.fault("token", faults.Hang(after=True))
        async with locked if when.startswith("before") else nullcontext():
            visits = [asyncio.create_task(Visitor(app).get("/enter"))]
            await settle()
            assert begun
            visits.append(asyncio.create_task(Visitor(app).get("/other")))
            if when.startswith("while"):
                await provider.held()
            await settle()  # the other one waits for the same refresh
            login.set()
            await settle()
        provider.clear_faults()
        provider.release()
        await asyncio.gather(*visits)
        # Who failed is told to ask again; and nobody else has, or had, what is 7's.
        page = await Visitor(app).get("/other")
        assert (page.status_code, (await page.get_json())["login"]) == (200, "bob")
        sent = {call.headers.get("authorization") for call in provider.calls}
        assert f"Bearer {PERSONAL['access_token']}" not in sent
        async with app.test_request_context("/"):
            kept = await storage.get(blueprint, user_id=whose)
            assert kept["access_token"] == provider.tokens[-1].access_token
            assert await storage.get(blueprint, user_id=7) == PERSONAL
        assert (provider.count("token"), provider.reuse_detected) == (1, [])


async def settle() -> None:
    """Let everything come to where it waits."""
    for _ in range(100):
        await asyncio.sleep(0.001)


class Routed(Session):
    """A session that leads to the database of a tenant."""

    engines: dict[str, AsyncEngine]

    def get_bind(self, *args: Any, **kwargs: Any) -> Any:
        return self.engines[tenant.get()].sync_engine


@pytest.mark.parametrize("wrap", [lambda inner: inner, Wrapped], ids=["", "wrapped"])
async def test_tenants_with_a_database_each(wrap, tmp_path):
    """S15: the same user of two databases is two accounts, whose tokens never meet."""
    async with database(tmp_path / "a.db") as one, database(tmp_path / "b.db") as two:
        Routed.engines = {"a": one, "b": two}
        makes = async_sessionmaker(sync_session_class=Routed)
        storage = wrap(SQLAlchemyStorage(OAuth, makes, user_id=1))
        app, blueprint, provider, _ = timed_app(storage=storage)

        async def call(name: str) -> Any:
            tenant.set(name)
            async with app.app_context():
                return (await blueprint.session.get("user")).json()["login"]

        for name, person in (("a", "alice"), ("b", "bob")):
            tenant.set(name)
            await storage.set(blueprint, {**provider.issue_token(person), **OVER})
        calls = [asyncio.create_task(call(name)) for name in "abab"]
        assert await asyncio.gather(*calls) == ["alice", "bob"] * 2
        assert provider.count("token") == 2
