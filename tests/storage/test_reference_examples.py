"""What Flask-Dance's two documents on storages show, done here with coroutines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from databases import DictCache
from quart import Quart
from quart_auth import AuthUser, QuartAuth, current_user, login_user, logout_user
from sqlalchemy import ForeignKey, func, select
from sqlalchemy.ext.asyncio import (
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from support import Visitor, make_app

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.backend import BaseBackend
from quart_dance.consumer.backend import MemoryStorage as MemoryBackend
from quart_dance.consumer.backend.sqla import OAuthConsumerMixin as BackendMixin
from quart_dance.consumer.backend.sqla import SQLAlchemyBackend
from quart_dance.consumer.backend.sqla import SQLAlchemyStorage as StorageOfBackend
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.consumer.storage.cache import MARKER_TTL
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.testing import DevProvider


class Base(DeclarativeBase):
    """The tables of these tests."""


class SharedOAuth(OAuthConsumerMixin, Base):
    """One token for each provider."""


class User(Base):
    """Somebody with an account."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)


class OAuth(OAuthConsumerMixin, Base):
    """One token for each provider and user."""

    user_id: Mapped[int | None] = mapped_column(ForeignKey(User.id))
    user: Mapped[User | None] = relationship()


@pytest.fixture
async def sessions(tmp_path) -> AsyncIterator[async_sessionmaker[AsyncSession]]:
    """Give sessions of a new database with two users in it."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    made = async_sessionmaker(engine)
    async with made.begin() as session:
        session.add_all([User(id=1), User(id=2)])
    yield made
    await engine.dispose()


def auth_app(provider: DevProvider) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application whose users log in with Quart-Auth."""
    app, blueprint = make_app(provider)
    QuartAuth(app)

    @app.get("/in/<user_id>")
    async def log_in(user_id: str) -> str:
        login_user(AuthUser(user_id))
        return ""

    @app.get("/out")
    async def log_out() -> str:
        logout_user()
        return ""

    return app, blueprint


async def me(visitor: Visitor) -> str:
    """Return whom the provider takes a visitor for."""
    return str(await (await visitor.get("/me")).get_data(as_text=True))


async def count(sessions: Any, model: type[Any]) -> int:
    """Return how many rows a table has."""
    async with sessions() as session:
        return int(await session.scalar(select(func.count()).select_from(model)))


async def test_session(dev_provider):
    """The default keeps the token in the visitor's session, and loses it with that."""
    app, blueprint = make_app(dev_provider)
    assert isinstance(blueprint.storage, SessionStorage)
    visitor = Visitor(app)
    await visitor.login(dev_provider)
    assert await me(visitor) == "alice"
    assert await me(Visitor(app)) == "nobody"
    visitor.client.delete_cookie("app.test", "session")
    assert await me(visitor) == "nobody"


async def test_sqlalchemy_without_users(dev_provider, sessions):
    """A model made of the mixin alone keeps one token for all."""
    app, blueprint = make_app(dev_provider)
    blueprint.storage = SQLAlchemyStorage(SharedOAuth, sessions)
    assert SharedOAuth.__tablename__ == "flask_dance_sharedoauth"
    await Visitor(app).login(dev_provider)
    assert await me(Visitor(app)) == "alice"
    await Visitor(app).login(dev_provider, "bob")
    assert await me(Visitor(app)) == "bob"
    assert await count(sessions, SharedOAuth) == 1


async def walk_as_users(app: Quart, provider: DevProvider, sessions: Any) -> None:
    """Log two users in, each with a token of their own, and out again."""
    first, second = Visitor(app), Visitor(app)
    await first.get("/in/1")
    await second.get("/in/2")
    assert (await first.login(provider, "alice")).status_code == 302
    assert await me(second) == "nobody"
    assert (await second.login(provider, "bob")).status_code == 302
    assert [await me(first), await me(second)] == ["alice", "bob"]
    assert await me(Visitor(app)) == "nobody"
    await first.get("/out")
    assert await me(first) == "nobody"
    await first.get("/in/1")
    assert await me(first) == "alice"
    async with sessions() as session:
        found = await session.execute(
            select(OAuth.provider, OAuth.user_id).order_by(OAuth.user_id)
        )
        assert found.all() == [("dev", 1), ("dev", 2)]


async def loaded_user(sessions: Any) -> User | None:
    """Return the user who is logged in, from the database."""
    auth_id = current_user.auth_id
    async with sessions() as session:
        return await session.get(User, int(auth_id)) if auth_id else None


@pytest.mark.parametrize("way", ["proxy", "function", "coroutine function", "id"])
async def test_sqlalchemy_with_users(dev_provider, sessions, way):
    """With users, the token is that of whom a proxy or a function names."""
    app, blueprint = auth_app(dev_provider)
    reference: dict[str, dict[str, Any]] = {
        "proxy": {"user": current_user},
        "function": {"user": lambda: current_user},
        "coroutine function": {"user": lambda: loaded_user(sessions)},
        "id": {"user_id": lambda: current_user.auth_id},
    }
    blueprint.storage = SQLAlchemyStorage(OAuth, sessions, **reference[way])
    await walk_as_users(app, dev_provider, sessions)


async def test_sqlalchemy_with_a_cache(dev_provider, sessions):
    """With a cache, a token that has been read once is read from there."""
    app, blueprint = auth_app(dev_provider)
    cache = DictCache()
    blueprint.storage = SQLAlchemyStorage(
        OAuth, sessions, user=current_user, cache=cache
    )
    await walk_as_users(app, dev_provider, sessions)
    cache.end(MARKER_TTL)
    visitor = Visitor(app)
    await visitor.get("/in/2")
    assert await me(visitor) == "bob"
    async with sessions.begin() as session:
        for row in await session.scalars(select(OAuth)):
            await session.delete(row)
    assert await me(visitor) == "bob"
    cache.values.clear()
    assert await me(visitor) == "nobody"


def make_file_storage(base: type[Any], path: Path) -> Any:
    """Write the example of a storage of one's own: a file, and three coroutines."""

    class OneFile(base):  # type: ignore[misc]
        async def get(self, blueprint: Any) -> Any:
            if await asyncio.to_thread(path.exists):
                return json.loads(await asyncio.to_thread(path.read_text))
            return None

        async def set(self, blueprint: Any, token: Any) -> None:
            await asyncio.to_thread(path.write_text, json.dumps(token))

        async def delete(self, blueprint: Any) -> None:
            await asyncio.to_thread(path.unlink, missing_ok=True)

    return OneFile()


@pytest.mark.parametrize("attribute", ["storage", "backend"])
@pytest.mark.parametrize("base", [BaseStorage, BaseBackend])
async def test_custom(dev_provider, tmp_path, base, attribute):
    """Three coroutines are a storage: logged in, used, restarted and logged out."""
    path = tmp_path / "token.json"
    for login in (True, False):
        app, blueprint = make_app(dev_provider)
        setattr(blueprint, attribute, make_file_storage(base, path))
        if login:
            assert await me(Visitor(app)) == "nobody"
            await Visitor(app).login(dev_provider)
        assert await me(Visitor(app)) == "alice"
    token = json.loads(path.read_text())
    assert token["access_token"] == dev_provider.tokens[0].access_token
    async with app.app_context():
        await blueprint.delete_token()
    assert not path.exists()
    assert await me(Visitor(app)) == "nobody"


def test_older_names():
    """The older module and its names are the new ones."""
    assert BaseBackend is BaseStorage
    assert MemoryBackend is MemoryStorage
    assert SQLAlchemyBackend is StorageOfBackend is SQLAlchemyStorage
    assert BackendMixin is OAuthConsumerMixin


async def test_backend(dev_provider, sessions):
    """`blueprint.backend` is the storage under its older name: read, set, deleted."""
    app, blueprint = auth_app(dev_provider)
    backend = SQLAlchemyBackend(OAuth, sessions, user=current_user)
    blueprint.backend = backend
    assert blueprint.backend is blueprint.storage is backend
    await walk_as_users(app, dev_provider, sessions)
    blueprint.storage = MemoryStorage
    assert isinstance(blueprint.backend, MemoryStorage)
    del blueprint.backend
    assert isinstance(blueprint.storage, SessionStorage)
