"""The examples with Flask run, as processes, offline, from login to log-out."""

from __future__ import annotations

import asyncio
import runpy
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from ports import free_port
from serving import ROOT, Browser, running, served

from quart_dance.testing import faults

EXAMPLES = ROOT / "examples"
#: How the frameworks' own servers end when they are told to: Flask's does nothing
#: more, and Quart's says 3 from 0.23 on.
ENDS = {"flask": [-signal.SIGTERM], "quart": [0, 3]}


def test_flask_app(tmp_path):
    """Two people log in, each is who they are, one logs out."""
    script = str(EXAMPLES / "flask_app.py")
    with running(
        script, "{port}", str(free_port()), folder=tmp_path, ends=ENDS["flask"]
    ) as server:
        people = {name: Browser(server.url) for name in ("alice", "bob")}
        for name, browser in people.items():
            assert browser.get("/").headers["Location"] == "/login/dev"
            assert browser.login(name).headers["Location"] == "/"
        for name, browser in people.items():
            assert f"</title>{name}<" in browser.get("/").text
        assert people["alice"].post("/logout").headers["Location"] == "/"
        assert people["alice"].get("/").headers["Location"] == "/login/dev"
        assert "</title>bob<" in people["bob"].get("/").text


def test_flask_app_and_a_provider_that_fails(tmp_path, dev_provider):
    """A login that does not say whose it is leaves the earlier one's token alone."""
    create_app = runpy.run_path(str(EXAMPLES / "flask_app.py"))["create_app"]
    app = create_app(tmp_path, dev_provider.options())
    dev_provider.install(app)
    browser = app.test_client()

    def login(person: str) -> int:
        url = browser.get("/login/dev", base_url="https://app.test").location
        callback = asyncio.run(dev_provider.approve(url, person=person))
        return browser.get(callback).status_code

    assert login("alice") == 302
    dev_provider.fault("user", faults.SERVER_ERROR)
    assert login("bob") == 502
    assert "</title>alice<" in browser.get("/", base_url="https://app.test").text


class OneTable:
    """The two applications of one_table, and a provider of this process."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.provider = stack.enter_context(served())
        database = folder / "app.db"
        create = runpy.run_path(str(EXAMPLES / "one_table"))["create_tables"]
        create(database)
        env = {"DATABASE": str(database), "PROVIDER": self.provider.url}
        env |= {"SECRET_KEY": "the secret key of the tests"}
        self.urls = {}
        for name, ends in ENDS.items():
            script = str(EXAMPLES / "one_table" / f"{name}_app.py")
            home = folder / name
            home.mkdir()
            running_ = running(script, folder=home, env=env, ends=ends)
            self.urls[name] = stack.enter_context(running_).url

    def visitor(self) -> dict[str, Browser]:
        """Return one browser, as it is seen by each application."""
        browsers = {name: Browser(url) for name, url in self.urls.items()}
        browsers["flask"].cookies = browsers["quart"].cookies
        return browsers


@pytest.fixture
def one_table(tmp_path) -> Iterator[OneTable]:
    """Give the example one_table, being served."""
    with ExitStack() as stack:
        yield OneTable(tmp_path, stack)


def names(browsers: dict[str, Browser], times: int = 1) -> list[str]:
    """Ask each application who the visitor is, many times at once."""
    asked = [*browsers.values()] * times
    with ThreadPoolExecutor(len(asked)) as pool:
        pages = list(pool.map(lambda browser: browser.get("/").text, asked))
    return [page.partition("<h1>")[2].partition("</h1>")[0] for page in pages]


@pytest.mark.parametrize(("first", "other"), [("flask", "quart"), ("quart", "flask")])
def test_one_table(one_table, first, other):
    """Logged in at either one is logged in at both; logged out likewise.

    A token that expires is refreshed once, however many ask at both.
    """
    provider, visitor = one_table.provider, one_table.visitor()
    bob = one_table.visitor()
    assert names(visitor) == ["Flask: nobody", "Quart: nobody"]
    assert visitor[first].login("alice").status_code == 302
    assert names(visitor) == ["Flask: alice", "Quart: alice"]
    assert bob[other].login("bob").status_code == 302
    assert names(bob) == ["Flask: bob", "Quart: bob"]
    before = provider.count("token")
    provider.expire_access_tokens("alice")
    provider.fault("token", faults.Slow(0.2))
    assert set(names(visitor, times=5)) == {"Flask: alice", "Quart: alice"}
    assert provider.count("token") == before + 1
    assert provider.reuse_detected == []
    assert "nobody" in visitor[other].post("/logout").text
    assert names(visitor) == ["Flask: nobody", "Quart: nobody"]
    assert names(bob) == ["Flask: bob", "Quart: bob"]


def test_one_table_by_one_command(tmp_path):
    """One command runs all three, and ends all three."""
    ports = [str(free_port()), str(free_port())]
    example = str(EXAMPLES / "one_table")
    with running(example, ports[0], ports[1], "{port}", folder=tmp_path) as server:
        browsers = {
            name: Browser(f"http://127.0.0.1:{port}")
            for name, port in zip(("flask", "quart"), ports, strict=True)
        }
        browsers["quart"].cookies = browsers["flask"].cookies
        for port in ports:
            server.wait(int(port))
        assert browsers["quart"].login("bob").status_code == 302
        assert names(browsers) == ["Flask: bob", "Quart: bob"]
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(port)))
