"""What the documentation promises of each storage: a test stands behind each cell."""

from __future__ import annotations

import subprocess
import sys
import time
from http.cookiejar import CookieJar
from typing import Any

import pytest
from blocks import ROOT
from promises import COLUMNS, PROMISES
from support import Visitor, make_app

from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.testing import DevProvider


@pytest.fixture(scope="module")
def ids() -> list[str]:
    """Return the ids of all tests in the files that are named."""
    named = [t for row in PROMISES.values() for _, tests in row.values() for t in tests]
    files = sorted({f"tests/{name.partition('::')[0]}" for name in named})
    found = subprocess.run(
        [sys.executable, *"-m pytest --collect-only -q -p no:cacheprovider".split()]
        + files,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout
    return [line.removeprefix("tests/") for line in found.stdout.splitlines()]


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("storage", PROMISES)
def test_a_test_stands_behind_each_cell(ids, storage, column):
    """Every promise has tests, and all that it names are there."""
    text, tests = PROMISES[storage][column]
    assert text
    assert tests
    missing = [t for t in tests if not any(found.startswith(t) for found in ids)]
    assert missing == []


def processes(provider: DevProvider) -> tuple[Visitor, Visitor]:
    """Return one browser's way into two processes of one application."""
    (one, _), (other, _) = make_app(provider), make_app(provider)
    return Visitor(one), Visitor(other)


async def test_cookie_outlives_the_application(dev_provider):
    """Another process with the same secret key reads the token in the cookie."""
    before, after = processes(dev_provider)
    await before.login(dev_provider)
    after.client.cookie_jar = before.client.cookie_jar
    response = await after.get("/me")
    assert await response.get_data(as_text=True) == "alice"


async def test_cookie_in_two_processes(dev_provider):
    """Each process refreshes the token of a cookie; the later cookie stays."""
    dev_provider.policy.rotate_refresh_tokens = False
    one, other = processes(dev_provider)
    await one.login(dev_provider)
    other.client.cookie_jar = CookieJar()
    for cookie in one.client.cookie_jar:
        other.client.cookie_jar.set_cookie(cookie)
    for visitor in (one, other):
        runtime(visitor.client.app).clock = lambda: time.time() + 3600
    dev_provider.expire_access_tokens()
    for visitor in (one, other):
        response = await visitor.get("/me")
        assert await response.get_data(as_text=True) == "alice"
    assert dev_provider.count("token") == 3
    assert one.cookies["session"] != other.cookies["session"]


async def test_memory_is_forgotten():
    """What was set in one process is not in another one, nor after a restart."""
    owner: Any = make_app(DevProvider())[1]
    before = MemoryStorage()
    await before.set(owner, {"access_token": "at"})
    assert await MemoryStorage().get(owner) is None
    assert await before.get(owner) == {"access_token": "at"}
