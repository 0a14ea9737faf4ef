"""The documentation for Flask: its blocks run, and what its tables say is so."""

from __future__ import annotations

import re
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from blocks import Page, run_pytest
from rooms import FlaskVisitor

from quart_dance.flask import contrib
from quart_dance.testing import DevProvider

PAGE = Page("docs/flask.md")
IMPORT = re.compile(
    r"^\| `(\S+) import (\w+)` \| `(\S+) import (\w+)` \|$", re.MULTILINE
)
IMPORTS = IMPORT.findall(PAGE.text)
LOGIN = "/login/github"


def start(name: str, provider: DevProvider) -> SimpleNamespace:
    """Run a module of the page; its application then talks to the provider."""
    names = PAGE.run(name)
    names["app"].config["GITHUB_OAUTH_CLIENT_ID"] = "dev-client-id"
    names["app"].config["GITHUB_OAUTH_CLIENT_SECRET"] = "dev-client-secret"
    provider.install(names["app"])
    return SimpleNamespace(**names)


def test_block_flask_quickstart(dev_provider):
    """A visitor is sent to GitHub, comes back, and the application knows their name."""
    visitor = FlaskVisitor(start("quickstart", dev_provider).app)
    assert visitor.open("/").location == LOGIN
    assert visitor.login(dev_provider, path=LOGIN).location == "/"
    assert visitor.open("/").text == "You are @alice"


def test_block_flask_users(dev_provider, monkeypatch, tmp_path):
    """Each user signs up with GitHub, and has a token of their own in the table."""
    monkeypatch.chdir(tmp_path)
    names = start("users", dev_provider)
    with names.app.app_context():
        names.db.create_all()
    visitors = {person: FlaskVisitor(names.app) for person in ("alice", "bob")}
    for person, visitor in visitors.items():
        assert visitor.login(dev_provider, person, LOGIN).status == 302
    for person, visitor in visitors.items():
        assert visitor.open("/").text == f"You are @{person}"
    with names.app.app_context():
        rows = names.db.session.scalars(names.db.select(names.OAuth)).all()
        assert sorted(row.user.login for row in rows) == ["alice", "bob"]
        names.db.session.remove()
        names.db.engine.dispose()


def test_block_flask_testing(tmp_path):
    """The page's own tests pass against the page's own application."""
    app = f"# app.py\n{PAGE.blocks['quickstart'][0]}"
    done = run_pytest(tmp_path, app, *PAGE.blocks["testing"])
    assert " 4 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0


def test_block_flask_contract(tmp_path):
    """A storage with plain functions passes the contract of storages."""
    done = run_pytest(tmp_path, *PAGE.blocks["contract"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def named(root: str, path: str, name: str) -> Any:
    """Return what an import brings."""
    return getattr(import_module(f"{root}.{path}"), name)


@pytest.mark.parametrize(("old", "old_name", "new", "name"), IMPORTS)
def test_imports(old, old_name, new, name):
    """Each line of the table names something in Flask-Dance, and its like here."""
    theirs = named("flask_dance", old, old_name)
    ours = named("quart_dance.flask", new, name)
    assert old_name == name
    if isinstance(theirs, type):
        assert isinstance(ours, type)


def test_imports_are_complete():
    """Every public name of Flask-Dance that we have has a line, and every preset."""
    listed = {(new, name) for _, _, new, name in IMPORTS}
    for path in ("consumer", "consumer.storage", "consumer.requests"):
        theirs = import_module(f"flask_dance.{path}")
        ours = import_module(f"quart_dance.flask.{path}")
        both = [n for n in vars(theirs) if n in getattr(ours, "__all__", ())]
        assert {(path, name) for name in both} <= listed
    assert {("contrib", name) for name in contrib.__all__} <= listed


def table(heading: str) -> list[list[str]]:
    """Return the rows of the table under a heading."""
    text = PAGE.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [line.strip("| ").split(" | ") for line in lines]


def test_tables_are_whole():
    """No cell of the tables of differences is missing."""
    assert {len(row) for row in table("What differs")} == {3}
    assert {len(row) for row in table("What only requests has")} == {2}
