"""Flask under gunicorn: workers that were forked from one process, and threads."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from forking import OAuth
from serving import PATIENCE, ROOT, Browser, Server, running, served
from sqlalchemy.ext.asyncio import create_async_engine

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.testing import DevProvider, faults

GUNICORN = ["-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--chdir"]
APP = [*GUNICORN, str(ROOT / "tests" / "flask"), "served_app:app"]


@pytest.fixture
def provider() -> Iterator[DevProvider]:
    """Give a provider on a port, with rotation and reuse detection."""
    with served() as provider:
        yield provider


def expire(url: str, provider: DevProvider, user_id: int) -> None:
    """Let a user's token be expired, here and at the provider."""

    async def main() -> None:
        engine = create_async_engine(url)
        storage, owner = SQLAlchemyStorage(OAuth, engine), Owner()
        token = await storage.get(owner, user_id=user_id)
        assert token is not None
        await storage.set(owner, {**token, "expires_at": 1}, user_id=user_id)
        await engine.dispose()

    asyncio.run(main())
    provider.expire_access_tokens()


class Owner:
    """Whose tokens they are."""

    name = "dev"


def ask(browser: Browser, times: int = 20) -> list[dict[str, Any]]:
    """Ask many times at once who a browser's user is."""
    with ThreadPoolExecutor(times) as pool:
        responses = list(pool.map(browser.get, ["/me"] * times))
    return [response.json() for response in responses]


def test_workers_and_threads(provider, url, tmp_path):
    """Logins and calls reach two workers with threads, forked with a pool in use.

    Each browser is its own user, whichever worker answers; a token that expires is
    refreshed once; they end at once when they are told, and say nothing.
    """
    env = {"DATABASE_URL": url, "OPTIONS": json.dumps(provider.options())}
    workers = ["--preload", "--workers", "2", "--threads", "8"]
    with running("-W", "error", *APP, *workers, folder=tmp_path, env=env) as server:
        browsers = {"alice": Browser(server.url), "bob": Browser(server.url)}
        for number, (person, browser) in enumerate(browsers.items(), 1):
            assert browser.get("/me").headers["Location"] == "/login/dev?next=/me"
            browser.get(f"/be/{number}")
            assert browser.login(person).status_code == 302
        processes = set()
        end = time.monotonic() + PATIENCE
        while len(processes) < 2:
            assert time.monotonic() < end, "one worker answers everything"
            for person, browser in browsers.items():
                said = ask(browser)
                assert {answer["login"] for answer in said} == {person}
                processes |= {answer["process"] for answer in said}
        assert server.process.pid not in processes
        expire(url, provider, 1)
        provider.fault("token", faults.Slow(0.2))
        before = provider.count("token")
        assert {answer["login"] for answer in ask(browsers["alice"])} == {"alice"}
        assert provider.count("token") == before + 1
        assert provider.reuse_detected == []
        ended = time.monotonic()
    assert time.monotonic() - ended < 10


GEVENT = ["--worker-class", "gevent"]
WHY = "RuntimeError: gevent or eventlet has replaced threads"


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_gevent(provider, url, tmp_path):
    """Under gevent no application starts: its log says why, and what to do."""
    env = {"DATABASE_URL": url, "OPTIONS": json.dumps(provider.options())}
    server = Server(*APP, *GEVENT, folder=tmp_path, env=env)
    try:
        assert server.process.wait(PATIENCE) != 0
    finally:
        server.stop()
    assert "register_blueprint" in server.log and WHY in server.log
    assert "serve the application with threads" in server.log


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_gevent_after_the_import(provider, url, tmp_path):
    """Where threads are replaced when the application is there, no login begins."""
    env = {"DATABASE_URL": url, "OPTIONS": json.dumps(provider.options())}
    server = Server(*APP, *GEVENT, "--preload", folder=tmp_path, env=env)
    try:
        server.wait()
        begun = Browser(server.url).get("/login/dev")
        assert begun.status_code == 500, server.log
    finally:
        server.stop()
    assert WHY in server.log
