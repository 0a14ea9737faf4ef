"""The documentation of the ways between Flask and Quart: its blocks run."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import blocks
import pytest
from flask import session
from rooms import FlaskVisitor
from sqlalchemy import create_engine
from support import Visitor

read = blocks.read
LOGIN = "/login/github"


@pytest.fixture(autouse=True)
def folder(monkeypatch, tmp_path):
    """Let the blocks write into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)


def carry(visitor: FlaskVisitor, other: Visitor) -> None:
    """Give a browser of one framework's the cookies of one of the other's."""
    for cookie in visitor.client._cookies.values():  # type: ignore[union-attr]
        other.client.set_cookie("app.test", cookie.key, cookie.value, path=cookie.path)


async def test_block_to_quart_quart(read, dev_provider):
    """Who is logged in at Flask is logged in at Quart, and either one refreshes."""
    old, new = read("flask", "users"), read("to_quart", "quart")
    assert old.app.secret_key == new.app.secret_key
    before, after = FlaskVisitor(old.app), Visitor(new.app)

    def log_in() -> None:
        with old.app.app_context():
            old.db.create_all()
        assert before.login(dev_provider, "bob", LOGIN).status == 302

    await asyncio.to_thread(log_in)
    assert (await after.get("/repos")).location == f"{LOGIN}?next=/repos"
    carry(before, after)
    dev_provider.expire_access_tokens()
    response = await after.get("/repos")
    assert "bob" in await response.get_data(as_text=True)
    assert dev_provider.count("token") == 2
    dev_provider.expire_access_tokens()
    assert (await before.get("/")).text == "You are @bob"
    assert dev_provider.count("token") == 3
    assert dev_provider.reuse_detected == []
    await close(old, new)


async def test_a_login_that_moves(read, dev_provider):
    """A login that Quart begins may end at Flask, which the proxy may send it to."""
    old, new = read("flask", "users"), read("to_quart", "quart")
    with old.app.app_context():
        old.db.create_all()
    begun, ended = Visitor(new.app), FlaskVisitor(old.app)
    callback = await dev_provider.approve(await begun.start(LOGIN), person="bob")
    for name, value in begun.cookies.items():
        ended.client.set_cookie(name, value or "", domain="app.test")
    assert (await ended.get(callback)).location == "/"
    assert (await ended.get("/")).text == "You are @bob"
    await close(old, new)


async def close(old: Any, new: Any) -> None:
    """Close the connections of both applications."""
    with old.app.app_context():
        old.db.session.remove()
        old.db.engine.dispose()
    await new.engine.dispose()


def test_block_bridge_blueprint(read, dev_provider):
    """A storage with coroutines serves a blueprint of Flask's."""
    page = read("bridge", "blueprint")
    visitor = FlaskVisitor(page.app)
    assert visitor.login(dev_provider, path=LOGIN).location == "/"
    token = dev_provider.tokens[-1].access_token
    assert page.vault["github"]["access_token"] == token


def test_block_bridge_flask_dance(read):
    """Flask-Dance keeps its users' tokens in a table of ours."""
    page = read("bridge", "flask_dance")
    engine = create_engine("sqlite:///app.db")
    page.Base.metadata.create_all(engine)
    engine.dispose()
    for user_id in (1, 2):
        with page.app.test_request_context():
            session["user_id"] = user_id
            assert page.blueprint.token is None
            page.blueprint.token = {"access_token": f"of {user_id}"}
    with page.app.test_request_context():
        session["user_id"] = 1
        assert page.blueprint.token["access_token"] == "of 1"
    page.blueprint.storage.close()


def test_block_bridge_script(read):
    """A script reads and forgets tokens; there is no application around it."""
    page = read("bridge", "script")
    page.storage.set(page.blueprint, {"access_token": "x"}, user_id=42)
    assert page.storage.get(page.blueprint, user_id=42) == {"access_token": "x"}
    page.forget(42)
    assert page.storage.get(page.blueprint, user_id=42) is None
    assert page.storage.timeout == 5


async def test_block_bridge_quart(read, dev_provider, tmp_path):
    """A storage with plain methods serves an application of Quart's."""
    page = read("bridge", "quart")
    await Visitor(page.app).login(dev_provider, path=LOGIN)
    kept = json.loads((tmp_path / "github.json").read_text())
    assert kept["access_token"] == dev_provider.tokens[-1].access_token
    async with page.app.app_context():
        assert await page.blueprint.token == kept
        await page.blueprint.delete_token()
    assert not (tmp_path / "github.json").exists()
