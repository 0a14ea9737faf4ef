"""Storages: what `BaseStorage` gives, and the two that need nothing."""

from __future__ import annotations

import asyncio
import functools
from types import SimpleNamespace
from typing import Any

import pytest
from support import Transport, Visitor, make_app, make_client_app

from quart_dance.consumer.storage import (
    NOBODY,
    BaseStorage,
    MemoryStorage,
    NullStorage,
)
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "at-1", "token_type": "bearer"}
OTHER = {"access_token": "at-2", "token_type": "bearer"}
BLUEPRINT = SimpleNamespace(name="dev")


class DictStorage(BaseStorage):
    """Three coroutines, as the documentation asks for; keeps what it is given."""

    def __init__(self) -> None:
        self.tokens: dict[str, Any] = {}

    async def get(self, blueprint: Any) -> Any:
        return self.tokens.get(blueprint.name)

    async def set(self, blueprint: Any, token: Any) -> None:
        self.tokens[blueprint.name] = token

    async def delete(self, blueprint: Any) -> None:
        self.tokens.pop(blueprint.name, None)


async def test_a_storage_of_three_coroutines(dev_provider: DevProvider) -> None:
    """A custom storage needs `get`, `set` and `delete`, and no more."""
    storage = DictStorage()
    app, blueprint = make_app(dev_provider, storage=storage)
    visitor = Visitor(app)
    assert (await visitor.get("/me")).status_code == 401
    await visitor.login(dev_provider)
    assert storage.tokens["dev"]["access_token"] == dev_provider.tokens[0].access_token
    assert await (await visitor.get("/me")).get_data() == b"alice"
    dev_provider.expire_access_tokens()
    assert await (await visitor.get("/me")).get_data() == b"alice"
    assert storage.tokens["dev"]["access_token"] == dev_provider.tokens[-1].access_token
    async with app.app_context():
        await blueprint.revoke_token()
    assert storage.tokens == {}
    assert dev_provider.tokens == []


class Meddling(DictStorage):
    """Changes the dicts that it is given, as a careless storage might."""

    async def set(self, blueprint: Any, token: Any) -> None:
        await super().set(blueprint, dict(token))
        token.clear()


async def test_a_storage_that_meddles(dev_provider: DevProvider) -> None:
    """What a storage does to the dict that it gets reaches nobody else."""
    app, blueprint = make_app(dev_provider, storage=Meddling())
    visitor = Visitor(app)
    await visitor.login(dev_provider)
    dev_provider.expire_access_tokens()
    assert await (await visitor.get("/me")).get_data() == b"alice"
    mine = dict(TOKEN)
    async with app.app_context():
        await blueprint.set_token(mine)
        assert mine == TOKEN
        assert await blueprint.token == TOKEN


async def test_what_is_read_cannot_reach_inside() -> None:
    """What is done to a token that was read does not reach the storage."""
    storage = DictStorage()
    storage.tokens["dev"] = {**TOKEN, "x": {"y": 1}}
    app, blueprint = make_client_app(Transport(), storage=storage)
    async with app.app_context():
        for token in (await blueprint.token, await blueprint.session.token):
            assert token is not None
            token["x"]["y"] = 2
            token["access_token"] = "spoilt"
    assert storage.tokens["dev"] == {**TOKEN, "x": {"y": 1}}


def plain(self: Any, *args: Any) -> None:
    return None


async def coroutine(self: Any, *args: Any) -> None:
    return None


@pytest.mark.parametrize("name", ["get", "set", "delete"])
def test_a_sync_method_is_refused(name: str) -> None:
    """A plain `get`, `set` or `delete` fails when the class is made."""
    methods: dict[str, Any] = dict.fromkeys(["get", "set", "delete"], coroutine)
    with pytest.raises(TypeError) as caught:
        type("MyStorage", (BaseStorage,), {**methods, name: plain})
    assert str(caught.value).startswith(
        f"MyStorage.{name} must be a coroutine function: write `async def {name}("
    )


def test_a_decorated_coroutine_is_not_refused() -> None:
    """A decorator that uses functools.wraps hides nothing."""

    def decorate(method: Any) -> Any:
        @functools.wraps(method)
        def call(*args: Any) -> Any:
            return method(*args)

        return call

    methods = dict.fromkeys(["get", "set", "delete"], decorate(coroutine))
    type("MyStorage", (BaseStorage,), methods)


def test_a_method_that_is_missing() -> None:
    """A storage without one of the three cannot be made."""
    incomplete: Any = type("MyStorage", (BaseStorage,), {"get": coroutine})
    with pytest.raises(TypeError, match="abstract"):
        incomplete()


async def test_the_defaults() -> None:
    """The defaults are those of a storage of one shared token."""
    storage = DictStorage()
    assert await storage.account(BLUEPRINT) is None
    assert await storage.account(BLUEPRINT, user_id=NOBODY) is None
    for who in ({"user": "alice"}, {"user_id": 0}, {"user_id": ""}):
        with pytest.raises(TypeError, match="DictStorage keeps no tokens for users"):
            await storage.account(BLUEPRINT, **who)
    assert storage.can_save() is True


@pytest.mark.parametrize(
    ("stored", "old", "new", "replaced", "then"),
    [
        (TOKEN, TOKEN, OTHER, True, OTHER),
        (TOKEN, TOKEN, None, True, None),
        (OTHER, TOKEN, {"access_token": "at-3"}, False, OTHER),
        (OTHER, TOKEN, None, False, OTHER),
        (None, TOKEN, OTHER, False, None),
    ],
)
async def test_replace(
    stored: Any, old: Any, new: Any, replaced: bool, then: Any
) -> None:
    """F6: `replace` stores, or deletes, only where nothing has changed."""
    storage = DictStorage()
    if stored:
        await storage.set(BLUEPRINT, stored)
    assert await storage.replace(BLUEPRINT, old, new) is replaced
    assert await storage.get(BLUEPRINT) == then


async def test_refresh_lock() -> None:
    """F5: the lock is one for each storage, blueprint and account."""
    storage = DictStorage()
    other = SimpleNamespace(name="other")
    order: list[str] = []
    inside = {name: asyncio.Event() for name in ("first", "blueprint", "storage")}
    leave = asyncio.Event()

    async def hold(name: str, where: BaseStorage, blueprint: Any) -> None:
        async with where.refresh_lock(blueprint):
            order.append(name)
            if name in inside:
                inside[name].set()
                await leave.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(hold("first", storage, BLUEPRINT))
        await inside["first"].wait()
        tasks.create_task(hold("second", storage, BLUEPRINT))
        tasks.create_task(hold("blueprint", storage, other))
        tasks.create_task(hold("storage", DictStorage(), BLUEPRINT))
        await inside["blueprint"].wait()
        await inside["storage"].wait()
        assert "second" not in order
        leave.set()
    assert order[-1] == "second"


async def test_null_storage(dev_provider: DevProvider) -> None:
    """`NullStorage` keeps nothing, and every login succeeds."""
    app, blueprint = make_app(dev_provider, storage=NullStorage())
    visitor = Visitor(app)
    assert (await visitor.login(dev_provider)).status_code == 302
    assert (await visitor.get("/me")).status_code == 401
    async with app.app_context():
        await blueprint.set_token(TOKEN)
        await blueprint.delete_token()
        assert await blueprint.token is None


async def test_memory_storage() -> None:
    """`MemoryStorage` has one token for each blueprint, and one to begin with."""
    mine: dict[str, Any] = {**TOKEN, "x": [1]}
    storage = MemoryStorage(mine)
    mine["x"].append(2)
    other = SimpleNamespace(name="other")
    assert await storage.get(BLUEPRINT) == {**TOKEN, "x": [1]}
    await storage.set(BLUEPRINT, OTHER)
    assert await storage.get(BLUEPRINT) == OTHER
    assert await storage.get(other) == {**TOKEN, "x": [1]}
    await storage.delete(BLUEPRINT)
    await storage.delete(BLUEPRINT)
    assert await storage.get(BLUEPRINT) is None
    assert await MemoryStorage().get(BLUEPRINT) is None
    assert "at-1" not in repr(storage) + repr(vars(storage))


async def test_the_storage_can_be_replaced_at_any_time() -> None:
    """`blueprint.storage` takes a class or an instance; `del` brings the default."""
    app, blueprint = make_client_app(Transport())
    assert isinstance(blueprint.storage, SessionStorage)
    assert blueprint.storage.key == "{bp.name}_oauth_token"
    blueprint.storage = MemoryStorage
    assert isinstance(blueprint.storage, MemoryStorage)
    storage = DictStorage()
    blueprint.storage = storage
    assert blueprint.storage is storage
    async with app.app_context():
        session = blueprint.session
        assert await session.authorized is False
        blueprint.storage = MemoryStorage(TOKEN)
        assert await session.authorized is True
    del blueprint.storage
    assert isinstance(blueprint.storage, SessionStorage)
    del blueprint.storage


@pytest.mark.parametrize(
    "value", [{}, "memory", object(), dict, 7, DictStorage.get], ids=repr
)
def test_nonsense_is_no_storage(value: Any) -> None:
    """S16: what is no storage is refused when it is assigned, or given."""
    _, blueprint = make_client_app(Transport(), storage=MemoryStorage())
    before = blueprint.storage
    with pytest.raises(TypeError, match="a subclass of BaseStorage"):
        blueprint.storage = value
    assert blueprint.storage is before
    with pytest.raises(TypeError):
        make_client_app(Transport(), storage=value)


@pytest.mark.parametrize("value", ["at-1", [], {}, {"access_token": None}, 7])
async def test_a_broken_token_in_the_storage(value: Any) -> None:
    """S16: what is stored and no token is an error, and never "authorized"."""
    storage = DictStorage()
    storage.tokens["dev"] = value
    app, blueprint = make_client_app(Transport(), storage=storage)
    async with app.app_context():
        with pytest.raises(Exception, match="the token stored for 'dev' is broken"):
            await blueprint.session.authorized
