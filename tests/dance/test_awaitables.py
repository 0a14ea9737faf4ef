"""A forgotten await raises, and says what to write."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from quart import render_template_string
from support import Transport, make_client_app

from quart_dance.consumer.storage import MemoryStorage

TOKEN = {"access_token": "at-1", "token_type": "bearer"}


def _for(value: Any) -> None:
    for _ in value:
        pass


FORGOTTEN: dict[str, Callable[[Any], Any]] = {
    "if": lambda value: 1 if value else 2,
    "not": lambda value: not value,
    "and": lambda value: value and 1,
    "bool": bool,
    "len": len,
    "[]": lambda value: value["access_token"],
    "in": lambda value: "x" in value,
    "for": _for,
    "dict": dict,
    "**": lambda value: dict(**value),
    "attribute": lambda value: value.get,
    "f-string": lambda value: f"{value}",
    "format": "{}".format,
    "==": lambda value: value == True,  # noqa: E712
    "!=": lambda value: value != TOKEN,
    "<": lambda value: value < 1,
    ">=": lambda value: value >= 1,
}


@pytest.mark.parametrize("use", FORGOTTEN.values(), ids=FORGOTTEN)
@pytest.mark.parametrize("name", ["authorized", "token", "access_token"])
async def test_a_session_says_what_to_write(
    name: str, use: Callable[[Any], Any]
) -> None:
    """S16: what must be awaited is never taken for its value, whatever one does."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        with pytest.raises(TypeError) as caught:
            use(getattr(blueprint.session, name))
    assert f"write `await dev.{name}`" in str(caught.value)


@pytest.mark.parametrize("use", FORGOTTEN.values(), ids=FORGOTTEN)
async def test_a_blueprint_says_what_to_write(use: Callable[[Any], Any]) -> None:
    """Likewise `blueprint.token`, of which Flask-Dance's users write items."""
    _, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    with pytest.raises(TypeError, match="write `await blueprint.token`"):
        use(blueprint.token)


def test_assigning_and_deleting_name_the_method() -> None:
    """Plain assignment to `blueprint.token`, and its `del`, name the method."""
    _, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    with pytest.raises(TypeError) as caught:
        blueprint.token = TOKEN  # type: ignore[assignment]
    assert str(caught.value) == "write `await blueprint.set_token(token)`"
    with pytest.raises(TypeError) as caught:
        del blueprint.token
    assert str(caught.value) == "write `await blueprint.delete_token()`"


async def test_await_works_with_and_without_a_call() -> None:
    """`await github.authorized` is the value, and so is `await github.authorized()`."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        session = blueprint.session
        assert await session.authorized is True
        assert await session.authorized() is True
        assert await session.token == TOKEN
        assert await session.token() == TOKEN
        assert await session.access_token == "at-1"
        assert await blueprint.token == TOKEN
        assert await blueprint.token() == TOKEN


async def test_without_a_token() -> None:
    """Without a token there is False and None, and no error."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage())
    async with app.app_context():
        assert await blueprint.session.authorized is False
        assert await blueprint.session.token is None
        assert await blueprint.session.access_token is None
        assert await blueprint.token is None


async def test_the_usual_tools_take_it() -> None:
    """`gather`, `wait_for`, `isawaitable`, a dict's key: what awaitables are put to."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        session = blueprint.session
        same = session.authorized
        found = await asyncio.gather(
            session.authorized, session.token, blueprint.token, same, same
        )
        assert found == [True, TOKEN, TOKEN, True, True]
        assert await asyncio.wait_for(session.authorized, 5) is True
        assert inspect.isawaitable(session.authorized)
        assert {same: 1}[same] == 1


async def test_awaiting_twice_asks_anew() -> None:
    """It may be awaited again, and then tells what is true by then."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage())
    async with app.app_context():
        authorized = blueprint.session.authorized
        assert await authorized is False
        await blueprint.set_token(TOKEN)
        assert await authorized is True


async def test_dropping_it_is_silent() -> None:
    """One that nobody awaits leaves no "never awaited" warning behind."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            value: Any = blueprint.session.authorized
            del value
            value = blueprint.token
            del value
    assert seen == []


async def test_protocols_are_probed_in_vain() -> None:
    """Whoever looks for a special method finds that it is not there."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        for name in ("__html__", "__aiter__", "__aenter__", "__index__"):
            assert not hasattr(blueprint.session.authorized, name)


async def test_the_repr_shows_no_token_and_says_what_to_write() -> None:
    """L2: the repr and str of what was not awaited hold no secret."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage(TOKEN))
    async with app.app_context():
        assert repr(blueprint.session.token) == "<write `await dev.token`>"
        assert str(blueprint.session.token) == "<write `await dev.token`>"


@pytest.mark.parametrize(
    ("storage", "shown"), [(MemoryStorage(TOKEN), "in"), (MemoryStorage(), "out")]
)
async def test_a_template_awaits_by_itself(storage: Any, shown: str) -> None:
    """Quart's templates await what they look up, so there the plain name is right."""
    app, blueprint = make_client_app(Transport(), storage=storage)
    page = "{% if dev.authorized %}in{% else %}out{% endif %}"
    async with app.app_context():
        assert await render_template_string(page, dev=blueprint.session) == shown
