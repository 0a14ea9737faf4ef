"""The documentation: its tables are complete, and its Python blocks run."""

from __future__ import annotations

import re
import runpy
import subprocess
from pathlib import Path

import blocks
import pytest
from blocks import ROOT, Page, run_pytest
from support import Visitor, query

from quart_dance import errors
from quart_dance.consumer import signals
from quart_dance.consumer.consumer import Consumer
from quart_dance.consumer.options import BlueprintOptions, OAuth2Options

read = blocks.read
PAGES = sorted(path.name for path in (ROOT / "docs").glob("*.md"))
TABLES = runpy.run_path(str(ROOT / "docs" / "tables.py"))


def rows(name: str) -> dict[str, list[str]]:
    """Return the rows of a table, by what stands in the first column."""
    lines = TABLES["all_tables"]()[name].splitlines()[2:]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return {
        row[0].rpartition("~quart_dance.errors.")[2].strip("`"): row for row in cells
    }


def is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def test_options_are_complete():
    """Every option that a constructor takes is in one of the tables, described."""
    own, quart = rows("options"), rows("blueprint_options")
    assert sorted(own) == Consumer.option_names()
    taken = set(OAuth2Options.__annotations__) | set(BlueprintOptions.__annotations__)
    assert set(own) | set(quart) == taken | {"client_id", "client_secret"}
    assert not set(own) & set(quart)
    assert all(len(row) == 3 and "…" not in row[2] for row in own.values())
    assert all(len(row) == 3 and "…" not in row[2] for row in quart.values())
    assert own["use_pkce"][1:] == [
        "`bool`",
        "Whether to use PKCE (RFC 7636). Default: `True`.",
    ]


def test_errors_are_complete():
    """Every error is in the table, with its status, and in the tree."""
    public = [name for name, value in vars(errors).items() if is_error(value)]
    found = rows("errors")
    assert list(found) == public
    assert found["AccessDenied"][2] == "400"
    tree = TABLES["all_tables"]()["error_tree"]
    assert [name for name in public if name not in tree] == []


def test_signals_are_complete():
    """Every signal is in the table, with what its receivers get."""
    found = rows("signals")
    assert list(found) == [name for name in vars(signals) if name.startswith("oauth_")]
    assert found["oauth_login_failed"][1] == "`(blueprint, exception=)`"


@pytest.mark.parametrize(
    ("table", "first"),
    [
        ("limits", "Seconds that a login may take."),
        ("limits", "Seconds that a cache may take; after that the database answers."),
        ("presets", "quart_dance.contrib.github"),
        ("presets", "quart_dance.contrib.google"),
        ("faults", "SERVER_ERROR"),
        ("fault_choices", "wrong-state"),
    ],
)
def test_other_tables(table, first):
    """The other tables have rows, none of them with an empty cell."""
    found = rows(table)
    assert first in found
    assert all(cell.strip("` ") for row in found.values() for cell in row)


def test_every_table_is_shown():
    """Every table that is made is on a page, and every page's table is made."""
    text = "".join(Page(f"docs/{name}").text for name in PAGES)
    made = TABLES["all_tables"]()
    assert [name for name in made if f"{{{{ {name} }}}}" not in text] == []
    assert text.count("{{ ") == len(made)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_tested(page):
    """Every Python block has a comment that names it, and a test of that name."""
    found = Page(f"docs/{page}")
    assert found.unmarked == []
    files = (path.read_text("utf-8") for path in Path(__file__).parent.rglob("*.py"))
    tests = re.findall(r"^(?:async )?def (test_block_\w+)", "\n".join(files), re.M)
    assert [n for n in found.names if f"test_block_{page[:-3]}_{n}" not in tests] == []


async def test_block_quickstart_guarded(read, dev_provider):
    """Who has no token is sent to the login and returns to where they were going."""
    visitor = Visitor(read("quickstart", "guarded").app)
    begin = (await visitor.get("/repos")).location
    response = await visitor.login(dev_provider, path=begin)
    assert response.location == "/repos"
    repos = await (await visitor.get("/repos")).get_json()
    assert repos == ["alice/hello-world", "alice/dotfiles"]
    response = await Visitor(visitor.client.app).get("/repos", method="HEAD")
    assert response.status_code == 401


async def test_block_login_proxy(read):
    """R3: what the proxy says counts for the redirect URI."""
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com"}
    client = read("login", "proxy").app.test_client()
    response = await client.get("/login/github", headers=headers)
    uri = "https://app.example.com/login/github/authorized"
    assert query(response.location)["redirect_uri"] == uri


async def test_block_configuration_from_config(read, dev_provider):
    """A blueprint of one's own reads the app config under keys of one's own."""
    module = read("configuration", "from_config")
    visitor = Visitor(module.app)
    response = await visitor.login(dev_provider, path="/login/example")
    assert response.location == "/"
    assert dev_provider.count("token") == 1


async def test_block_errors_handler(read):
    """The application's own handler wins."""
    response = await Visitor(read("errors", "handler").app).get("/")
    assert response.status_code == 401
    assert await response.get_data(as_text=True) == "Please log in with github."


async def test_block_signals_signup(read, dev_provider):
    """The receiver logs the visitor in before the token is stored."""
    module = read("signals", "signup")
    visitor = Visitor(module.app)
    await visitor.login(dev_provider, person="bob", path="/login/github")
    async with visitor.client.session_transaction() as session:
        assert session["user_id"] == 2
        assert session["github_oauth_token"]["token_type"] == "Bearer"


def test_block_testing_fixture(tmp_path):
    """The page's own tests pass."""
    done = run_page("fixture", tmp_path)
    assert " 3 passed" in done.stdout, done.stdout + done.stderr


def test_block_testing_contract(tmp_path):
    """The contract is run, and the storage of the page passes it."""
    done = run_page("contract", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_block_testing_shared(tmp_path):
    """Processes open the storage of the page, and it keeps its promises."""
    done = run_page("shared", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def run_page(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Write the files of a module of the testing page, and run them."""
    return run_pytest(folder, *Page("docs/testing.md").blocks[name])
