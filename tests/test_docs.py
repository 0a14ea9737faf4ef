"""The documentation: its tables are complete, and its Python blocks run."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from blocks import ROOT, Page
from quart import Quart
from quart_auth import AuthUser, QuartAuth, login_user
from support import Visitor, query

from quart_dance import errors
from quart_dance.consumer import signals
from quart_dance.consumer.options import BlueprintOptions, Consumer, OAuth2Options
from quart_dance.consumer.storage import NOBODY
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.errors import UserRequiredError
from quart_dance.testing.contract import AccountsContract, StorageContract

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


@pytest.fixture
def read(dev_provider) -> Callable[[str, str], SimpleNamespace]:
    """Run a module of a page; its application then talks to the provider."""

    def run(page: str, name: str) -> SimpleNamespace:
        module = SimpleNamespace(**Page(f"docs/{page}.md").run(name))
        if app := getattr(module, "app", None):
            app.config["GITHUB_OAUTH_CLIENT_ID"] = "dev-client-id"
            app.config["GITHUB_OAUTH_CLIENT_SECRET"] = "dev-client-secret"
            dev_provider.install(app)
        return module

    return run


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


def with_storage(read: Any, name: str) -> tuple[SimpleNamespace, SimpleNamespace]:
    """Return the application of one page with a storage of another."""
    module, page = read("signals", "signup"), read("storages", name)
    storage = page.VaultStorage if name == "shared" else page.UserStorage
    module.blueprint.storage = storage

    @module.app.get("/me")
    async def me() -> Any:
        return (await module.blueprint.session.get("/user")).json()["login"]

    return module, page


async def test_block_storages_shared(read, dev_provider):
    """Three coroutines keep one token for everybody."""
    module, page = with_storage(read, "shared")
    await Visitor(module.app).login(dev_provider, path="/login/github")
    assert list(page.vault) == ["github"]
    response = await Visitor(module.app).get("/me")
    assert await response.get_data(as_text=True) == "alice"


async def test_block_storages_accounts(read, dev_provider):
    """A storage with accounts keeps tokens apart, and a job can name one."""
    module, page = with_storage(read, "accounts")
    for person in ("alice", "bob"):
        visitor = Visitor(module.app)
        await visitor.login(dev_provider, person=person, path="/login/github")
        response = await visitor.get("/me")
        assert await response.get_data(as_text=True) == person
    assert list(page.tokens) == [("github", "1"), ("github", "2")]
    github = module.blueprint.session_for(user_id=2, app=module.app)
    assert (await github.get("/user")).json()["login"] == "bob"


class TestVaultStorage(StorageContract):
    """The page's storage of one token keeps what a storage promises."""

    @pytest.fixture
    def storage(self):
        return Page("docs/storages.md").run("shared")["VaultStorage"]()


class TestUserStorage(AccountsContract):
    """The page's storage of users' tokens does so, too."""

    @pytest.fixture
    def storage(self):
        return Page("docs/storages.md").run("accounts")["UserStorage"]()


async def tables(storage: Any, metadata: Any) -> None:
    """Make the tables of a page, in the database of its storage."""
    engine = storage.session.kw["bind"]
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)


@pytest.fixture
def in_folder(monkeypatch, tmp_path):
    """Work in a folder of the test's own: the pages name their files there."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_block_storages_shared_table(read, dev_provider, in_folder):
    """Without users all visitors share the token in the table."""
    module, page = read("signals", "signup"), read("storages", "shared_table")
    module.blueprint.storage = page.storage
    await tables(page.storage, page.Base.metadata)
    await Visitor(module.app).login(dev_provider, path="/login/github")
    github = module.blueprint.session_for(user_id=NOBODY, app=module.app)
    assert (await github.get("/user")).json()["login"] == "alice"
    await page.engine.dispose()


async def test_block_storages_user_table(read, in_folder):
    """Each user has a token of their own in the table."""
    await tokens_of_users(read("storages", "user_table"))


async def test_block_storages_cached_table(read, in_folder):
    """With a cache in front it is the same."""
    page = read("storages", "cached_table")
    assert page.storage.cache is not None
    await tokens_of_users(page)


async def tokens_of_users(page: SimpleNamespace) -> None:
    """See that each user has a token, by id and when logged in, and nobody has one."""
    assert isinstance(page.storage, SQLAlchemyStorage)
    await tables(page.storage, page.Base.metadata)
    async with page.async_session.begin() as session:
        session.add_all([page.User(id=1), page.User(id=2)])
    one = SimpleNamespace(name="github")
    await page.storage.set(one, {"access_token": "alice's"}, user_id="1")
    await page.storage.set(one, {"access_token": "bob's"}, user_id=2)
    for user_id, token in ((1, "alice's"), ("2", "bob's")):
        got = await page.storage.get(one, user_id=user_id)
        assert got == {"access_token": token}
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    QuartAuth(app)
    async with app.test_request_context("/"):
        with pytest.raises(UserRequiredError):
            await page.storage.get(one)
        login_user(AuthUser("2"))
        assert await page.storage.get(one) == {"access_token": "bob's"}
    await page.engine.dispose()


async def test_block_storages_files(read, dev_provider, in_folder):
    """Each user's token is a file, and a job can name one."""
    module, page = read("signals", "signup"), read("storages", "files")
    module.blueprint.storage = page.storage
    for person in ("alice", "bob"):
        await Visitor(module.app).login(dev_provider, person, "/login/github")
    github = module.blueprint.session_for(user_id=2, app=module.app)
    assert (await github.get("/user")).json()["login"] == "bob"
    files = sorted(path.name for path in in_folder.glob("tokens/github/*.json"))
    assert files == ["1.json", "2.json"]


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
    done = run_pytest("fixture", tmp_path)
    assert " 3 passed" in done.stdout, done.stdout + done.stderr


def test_block_testing_contract(tmp_path):
    """The contract is run, and the storage of the page passes it."""
    done = run_pytest("contract", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_block_testing_shared(tmp_path):
    """Processes open the storage of the page, and it keeps its promises."""
    done = run_pytest("shared", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def run_pytest(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Write the files of a module of the testing page, and run them."""
    for code in Page("docs/testing.md").blocks[name]:
        file = code.partition("\n")[0].removeprefix("# ")
        (folder / file).write_text(code, "utf-8")
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir=."],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
