"""``quart dance sqla upgrade``, called in process and as a process."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys

import pytest
from blocks import Page
from click.testing import CliRunner
from old_tables import DATABASES, OLD, add, connected, opened, run, tokens, url_of
from ports import free_port
from sqlalchemy import text
from sqlalchemy.engine import make_url

from quart_dance.cli import main

TOLD = r"""Older tokens to remove: 2
  'github', (?:nobody|user 1): 1
  'github', (?:nobody|user 1): 1
To do:
(?:  ALTER TABLE [^\n]*;
)*  DELETE FROM [^\n]*;
  CREATE UNIQUE INDEX [^\n]*;
  CREATE UNIQUE INDEX [^\n]*;
  CREATE TABLE flask_dance_oauth_lease [^\n]*;
Nothing has been changed. To do it, add --apply.
"""
NOTHING_CHANGED = TOLD.splitlines(keepends=True)[-1]
NOTHING = "There is nothing to do.\n"


def fill(url):
    """Make a database with duplicates."""

    async def work():
        async with opened(url) as engine:
            await add(engine, (1, "secret 1", 1), (1, "secret 2", 2))
            await add(engine, (None, "secret 3", 1), (None, "secret 4", 2))

    asyncio.run(work())


def execute(url, *statements):
    """Run statements, each in a transaction of its own."""

    async def work():
        async with connected(url) as engine:
            for statement in statements:
                await run(engine, lambda c, s=statement: c.execute(text(s)))

    asyncio.run(work())


def left(url):
    """Return the rows that are there."""

    async def work():
        async with connected(url) as engine:
            return await tokens(engine)

    return asyncio.run(work())


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    """Give the URL of a database with duplicates."""
    url = url_of(request.param, request, tmp_path)
    fill(url)
    return url


@pytest.fixture
def file(tmp_path):
    """Give such a database as a file."""
    fill(f"sqlite+aiosqlite:///{tmp_path}/tokens.db")
    return tmp_path / "tokens.db"


def invoke(url, *options):
    """Call the command in this process; return its exit code and what it says."""
    given = ["sqla", "upgrade", "--url", str(url), *options]
    result = CliRunner().invoke(main, given, catch_exceptions=False)
    assert "secret" not in result.output
    return result.exit_code, result.output


def refused(url, *options):
    """Return the one line that the command ends with."""
    code, said = invoke(url, *options)
    assert code == 1
    assert re.fullmatch(r"Error: [^\n]+\.\n", said), said
    return said


def test_telling_and_doing(url):
    """It tells first and changes nothing; with --apply it does what it has told."""
    before = left(url)
    code, told = invoke(url)
    assert code == 3
    assert re.fullmatch(TOLD, told), told
    assert left(url) == before
    code, done = invoke(url, "--apply")
    assert code == 0
    assert left(url) == [("github", 1, "secret 2"), ("github", None, "secret 4")]
    changed = told.replace("to remove", "removed").replace("To do:", "Done:")
    assert done == changed.replace(NOTHING_CHANGED, "")
    for options in ([], ["--apply"]):
        assert invoke(url, *options) == (0, NOTHING)


def test_a_driver_that_is_not_async(file):
    """The URL of the Flask application itself does, too."""
    assert invoke(f"sqlite:///{file}", "--apply")[0] == 0
    assert len(left(f"sqlite+aiosqlite:///{file}")) == 2


@pytest.mark.parametrize("options", [["--user-column", "owner"], ["--shared"]])
def test_another_table(file, options):
    """The table, and what in it tells users apart, may be said."""
    url = f"sqlite+aiosqlite:///{file}"
    columns = "id INTEGER PRIMARY KEY, provider VARCHAR(50), token JSON, owner INTEGER"
    row = "INSERT INTO odd (provider, token, owner) VALUES ('github', '{}', %d)"
    execute(url, f"CREATE TABLE odd ({columns})", row % 1, row % 2)
    assert "one of these columns: owner" in refused(url, "--table", "odd")
    code, told = invoke(url, "--table", "odd", *options)
    assert code == 3
    assert ("Older tokens to remove: 1" in told) == ("--shared" in options)


def test_a_table_in_a_schema(postgresql_url):
    """So may the schema."""
    fill(postgresql_url)
    move = f"ALTER TABLE {OLD.name} SET SCHEMA elsewhere"
    execute(postgresql_url, "CREATE SCHEMA elsewhere", move)
    assert "there is no table" in refused(postgresql_url)
    assert invoke(postgresql_url, "--schema", "elsewhere", "--apply")[0] == 0
    assert invoke(postgresql_url, "--schema", "elsewhere") == (0, NOTHING)


def test_names_that_a_terminal_would_obey(file):
    """What is in the table is shown, and not done."""
    add = "INSERT INTO flask_dance_oauth (provider, created_at, token)"
    row = f"{add} SELECT 'a' || char(27) || '[2J', created_at, token FROM ({{}})"
    table = f"SELECT * FROM {OLD.name} LIMIT 2"
    execute(f"sqlite+aiosqlite:///{file}", row.format(table))
    told = invoke(f"sqlite:///{file}")[1]
    assert r"  'a\x1b[2J', nobody: 1" in told and "\x1b" not in told


def as_process(*command, **env):
    """Run a command as a process, with no other one's variables of ours."""
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("module", [["quart", "dance"], ["quart_dance"]])
def test_as_a_process(url, module):
    """Under both names it takes the URL from the environment, and leaves nothing open.

    So a password is in no list of processes.
    """
    command = ["-m", *module, "sqla", "upgrade"]
    done = as_process(*command, QUART_DANCE_DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (3, "")
    assert re.fullmatch(TOLD, done.stdout)
    done = as_process(*command, "--apply", QUART_DANCE_DATABASE_URL=url)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(left(url)) == 2


def test_without_sqlalchemy():
    """Where the extra is not installed, one line says which ones there are."""
    code = "import sys; sys.modules['sqlalchemy'] = None; import quart_dance.cli as cli"
    code += "; sys.argv[0] = 'quart-dance'; cli.main()"
    done = as_process("-c", code, "sqla", "upgrade", "--url", "sqlite:///x.db")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: sqlalchemy is not installed. Install the extra of your database: "
        "quart_dance[postgresql], quart_dance[mariadb], or quart_dance[sqla] for "
        "SQLite.\n"
    )
    done = as_process("-c", code, "--help")
    assert done.returncode == 0 and "sqla " in done.stdout


def test_documentation():
    """The page shows the help, word for word."""
    given = ["sqla", "upgrade", "--help"]
    shown = CliRunner().invoke(main, given, prog_name="quart dance").output
    assert " ".join(shown.split()) in " ".join(Page("docs/storages.md").text.split())


def test_without_a_url():
    """Without any URL it says how to give one."""
    result = CliRunner().invoke(main, ["sqla", "upgrade"])
    assert result.exit_code == 2
    assert "Missing option '--url' (env var: 'QUART_DANCE_DATABASE_URL')" in (
        result.output
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "the URL of a database is written driver://"),
        ("app.db", "the URL of a database is written driver://"),
        ("postgresql://a:the secret@host:port/x", "the URL of a database is written"),
        ("oracle://a:secret@host/x", "not in oracle"),
        ("postgresql+nodriver://a:secret@host/x", "the driver of postgresql+nodriver"),
        ("postgresql+pg8000://a:secret@host/x", "install it, or quart_dance[postg"),
        ("mysql+pyodbc://a:secret@host/x", "begin the URL with mysql+aiomysql://"),
        ("mariadb+pyodbc://a:secret@host/x", "begin the URL with mariadb+aiomysql://"),
        ("sqlite+pysqlcipher://:secret@/x", "there is no file 'x'"),
        ("sqlite:///nothing.db", "there is no file 'nothing.db': name the right one"),
        ("sqlite://", "there is no file ''"),
        ("postgresql+asyncpg://a:secret@127.0.0.1:{port}/x", "cannot be reached: "),
        ("mysql+aiomysql://a:secret@127.0.0.1:{port}/x", "cannot be reached: "),
        ("postgresql+asyncpg://a@127.0.0.1:1/x?wrong=1", "cannot be reached: Type"),
    ],
)
def test_urls_that_lead_nowhere(url, said, tmp_path, monkeypatch):
    """What is wrong with a URL is said in a line, and no file is made."""
    monkeypatch.chdir(tmp_path)
    assert said in refused(url.format(port=free_port()))
    assert list(tmp_path.iterdir()) == []


def test_no_such_database(postgresql_url, mariadb_url):
    """A database that is not there is named, and so is one that knows us not."""
    for url in (postgresql_url, mariadb_url):
        nowhere = make_url(url).set(database="quart_dance_nowhere")
        assert "nowhere" in refused(nowhere.render_as_string())
    wrong = make_url(mariadb_url).set(password="secret")
    said = refused(wrong.render_as_string(hide_password=False))
    assert "the database cannot be reached: " in said and "denied for user" in said


def test_refusals(url):
    """What stands in the way of an upgrade is said in a line, with the way out."""
    assert "there is no table tokens here" in refused(url, "--table", "tokens")
    said = refused(url, "--user-column", "owner_id", "--apply")
    assert "flask_dance_oauth has no column owner_id" in said
    assert "leave one of them out" in refused(url, "--shared", "--user-column", "note")
    assert len(left(url)) == 4


def test_a_table_that_stays_locked(postgresql_url):
    """It gives up after ten seconds: those who want to write wait behind it."""
    fill(postgresql_url)

    async def work():
        async with connected(postgresql_url) as engine, engine.connect() as writer:
            await writer.execute(text(f"DELETE FROM {OLD.name}"))
            return await asyncio.to_thread(refused, postgresql_url, "--apply")

    assert "says: canceling statement due to lock timeout" in asyncio.run(work())
    assert len(left(postgresql_url)) == 4
