"""The README's Python blocks do what the README says, one test for each of them."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from blocks import ROOT, Page, run_pytest
from quart_auth import AuthUser, login_user
from support import Visitor, make_app, query

from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.testing import faults

README = Page("README.md")
LOGIN = "/login/github"
PROXY = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example.com"}
FIXED = "https://app.example.com/login/github/authorized"


@pytest.fixture
def read(monkeypatch, tmp_path, dev_provider):
    """Run a module of the README; its application then talks to the provider."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET_KEY", "the secret key of the tests")
    monkeypatch.setenv("GITHUB_OAUTH_CLIENT_ID", "dev-client-id")
    monkeypatch.setenv("GITHUB_OAUTH_CLIENT_SECRET", "dev-client-secret")

    def run(name: str) -> SimpleNamespace:
        names = README.run(name)
        dev_provider.install(names["app"])
        names["app"].testing = True
        return SimpleNamespace(**names)

    return run


CONTRACT = """
import pytest
from quart_dance.testing.contract import {contract}


class TestStorage({contract}):
    @pytest.fixture
    def storage(self):
        tokens.clear()
        return {storage}()
"""


async def text(visitor: Visitor, path: str = "/", **kwargs: Any) -> str:
    """Return what a page says."""
    return await (await visitor.get(path, **kwargs)).get_data(as_text=True)


def test_every_block_is_tested():
    """Every block has a comment that names it, and a test of that name."""
    assert README.unmarked == []
    assert sorted(README.names) == sorted(
        name.removeprefix("test_block_")
        for name in globals()
        if name.startswith("test_block_")
    )


async def test_block_quickstart(read, dev_provider):
    """A visitor is sent to GitHub, comes back, and the application knows their name."""
    visitor = Visitor(read("quickstart").app)
    assert (await visitor.get("/")).location == LOGIN
    response = await visitor.login(dev_provider, path=LOGIN)
    assert (response.status_code, response.location) == (302, "/")
    assert await text(visitor) == "You are @alice"


async def test_block_guarded(read, dev_provider):
    """Who has no token is sent to the login and comes back to where they were going."""
    visitor = Visitor(read("guarded").app)
    response = await visitor.get("/repos")
    assert response.location == "/login/github?next=/repos"
    response = await visitor.login(dev_provider, path=response.location)
    assert response.location == "/repos"
    repos = await (await visitor.get("/repos")).get_json()
    assert repos == ["alice/hello-world", "alice/dotfiles"]
    headers = {"Accept": "application/json"}
    response = await Visitor(visitor.client.app).get("/repos", headers)
    assert response.status_code == 401
    assert (await response.get_json())["error"] == "not_authorized"


async def test_block_generic(read, dev_provider):
    """A provider without a preset; an expired token is refreshed when it is used."""
    app = read("generic").app
    visitor = Visitor(app)
    begin = (await visitor.get("/")).location
    await visitor.login(dev_provider, person="bob", path=begin)
    assert (await (await visitor.get("/")).get_json())["login"] == "bob"
    now = runtime(app).clock
    runtime(app).clock = lambda: now() + 3600
    assert (await (await visitor.get("/")).get_json())["login"] == "bob"
    grants = [c.form["grant_type"] for c in dev_provider.calls if c.endpoint == "token"]
    assert grants == ["authorization_code", "refresh_token"]


async def test_block_forgotten(read):
    """A forgotten await lets nobody in, and says what to write."""
    response = await Visitor(read("forgotten").app).get("/broken")
    assert response.status_code == 500
    traceback = await response.get_data(as_text=True)
    assert "TypeError" in traceback
    assert "write `await github.authorized`" in traceback


async def test_block_signup(read, dev_provider):
    """The receiver asks the API who it is; the token is then stored for them."""
    module = read("signup")
    visitor = Visitor(module.app)
    await visitor.login(dev_provider, person="bob", path=LOGIN)
    assert module.users == {2: "bob"}
    assert await text(visitor) == "You are @bob"


async def test_block_storage(read, dev_provider):
    """A storage of three coroutines keeps one token for everybody."""
    module = read("storage")
    await Visitor(module.app).login(dev_provider, path=LOGIN)
    assert list(module.vault) == ["github"]
    assert await text(Visitor(module.app)) == "You are @alice"
    async with module.app.app_context():
        await module.blueprint.delete_token()
    assert module.vault == {}


async def test_block_accounts(read, dev_provider):
    """A storage with accounts keeps each user's token for that user."""
    module = read("accounts")
    alice, bob = Visitor(module.app), Visitor(module.app)
    await alice.login(dev_provider, person="alice", path=LOGIN)
    await bob.login(dev_provider, person="bob", path=LOGIN)
    assert list(module.tokens) == [("github", "1"), ("github", "2")]
    assert await text(alice) == "You are @alice"
    assert await text(bob) == "You are @bob"
    async with module.app.app_context():
        named = module.blueprint.session_for(user=SimpleNamespace(id=2))
        assert (await named.get("/user")).json()["login"] == "bob"


async def shared_token(module: SimpleNamespace, dev_provider: Any) -> None:
    """See that what one visitor's login brings is there for the next one."""
    async with module.app.test_app():
        await Visitor(module.app).login(dev_provider, path=LOGIN)
        assert await text(Visitor(module.app)) == "You are @alice"


async def test_block_shared_table(read, dev_provider):
    """Without users all visitors share the token in the table."""
    await shared_token(read("shared_table"), dev_provider)


async def test_block_older(read, dev_provider):
    """The older names name the same storage."""
    module = read("older")
    assert module.blueprint.storage is module.blueprint.backend
    await shared_token(module, dev_provider)


async def tokens_of_users(module: SimpleNamespace, dev_provider: Any) -> None:
    """See that each user of Quart-Auth has a token, and nobody has one."""
    app, engine = module.app, module.engine

    @app.get("/in/<user_id>")
    async def log_in(user_id: str) -> Any:
        login_user(AuthUser(user_id))
        return ""

    async with engine.begin() as connection:
        await connection.run_sync(module.Base.metadata.create_all)
    async with module.async_session.begin() as session:
        session.add_all([module.User(id=1), module.User(id=2)])
    visitors = {"1": ("alice", Visitor(app)), "2": ("bob", Visitor(app))}
    async with app.test_app():
        for user_id, (person, visitor) in visitors.items():
            await visitor.get(f"/in/{user_id}")
            await visitor.login(dev_provider, person, LOGIN)
        for person, visitor in visitors.values():
            assert await text(visitor) == f"You are @{person}"
        stranger = Visitor(app)
        assert (await stranger.get("/")).location == LOGIN
        assert (await stranger.login(dev_provider, path=LOGIN)).status_code == 500
    await engine.dispose()


async def test_block_user_table(read, dev_provider):
    """Each user of Quart-Auth has a token of their own; a stranger gets an error."""
    await tokens_of_users(read("user_table"), dev_provider)


async def test_block_cached_table(read, dev_provider):
    """With a cache in front it is the same."""
    await tokens_of_users(read("cached_table"), dev_provider)


async def test_block_files(read, dev_provider, tmp_path):
    """Each user's token is a file of their own."""
    app = read("files").app
    for person in ("alice", "bob"):
        visitor = Visitor(app)
        await visitor.login(dev_provider, person, LOGIN)
        assert await text(visitor) == f"You are @{person}"
    files = (tmp_path / "tokens").rglob("*.json")
    assert sorted(f.relative_to(tmp_path).as_posix() for f in files) == [
        "tokens/github/1.json",
        "tokens/github/2.json",
    ]


@pytest.mark.parametrize(
    ("names", "contract", "storage"),
    [
        (["quickstart", "storage", "contract"], "", ""),
        (["quickstart", "signup", "accounts"], "AccountsContract", "UserStorage"),
    ],
    ids=["storage", "accounts"],
)
def test_block_contract(tmp_path, monkeypatch, names, contract, storage):
    """The README's storages keep what a storage promises."""
    monkeypatch.setenv("SECRET_KEY", "the secret key of the tests")
    monkeypatch.setenv("GITHUB_OAUTH_CLIENT_ID", "dev-client-id")
    monkeypatch.setenv("GITHUB_OAUTH_CLIENT_SECRET", "dev-client-secret")
    blocks = [README.blocks[name][0] for name in names]
    if contract:
        blocks.append(CONTRACT.format(contract=contract, storage=storage))
    (tmp_path / "test_storage.py").write_text("\n".join(blocks), "utf-8")
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


async def test_block_google(read, dev_provider):
    """The visitor is sent to Google, with what a refresh token asks for."""
    visitor = Visitor(read("google").app)
    begin = (await visitor.get("/")).location
    assert begin == "/login/google?next=/"
    location = (await visitor.get(begin)).location
    assert location.startswith("https://accounts.google.com/o/oauth2/v2/auth?")
    asked = query(location)
    assert (asked["access_type"], asked["prompt"]) == ("offline", "consent")


async def test_block_background(read, dev_provider):
    """A background job names the account, with and without a context."""
    module = read("background")
    await Visitor(module.app).login(dev_provider, person="bob", path=LOGIN)
    assert await module.count_repos(2) == 2
    async with module.app.app_context():
        assert await module.count_repos("2") == 2
    await module.blueprint.aclose(module.app)


async def test_block_errors(read, dev_provider):
    """An error handler and a receiver of the application's own win over ours."""
    visitor = Visitor(read("errors").app)
    response = await visitor.get("/repos")
    assert response.status_code == 401
    assert await response.get_data(as_text=True) == "Please log in with github."
    dev_provider.fault("token", faults.SERVER_ERROR)
    response = await visitor.login(dev_provider, path=LOGIN)
    assert response.status_code == 400
    page = await response.get_data(as_text=True)
    assert page == "That did not work. Shall we try again?"


async def test_block_logout(read, dev_provider):
    """After a logout the visitor is nobody again."""
    visitor = Visitor(read("logout").app)
    await visitor.login(dev_provider, path=LOGIN)
    assert await text(visitor, "/logout", method="POST") == "Good-bye."
    assert (await visitor.get("/")).location == LOGIN


@pytest.mark.parametrize(
    ("headers", "uri"),
    [(PROXY, FIXED), ({}, "http://localhost/login/github/authorized")],
)
async def test_block_proxy(read, headers, uri):
    """R3: the proxy's word counts for the redirect URI."""
    client = read("proxy").app.test_client()
    response = await client.get(LOGIN, headers=headers)
    assert query(response.location)["redirect_uri"] == uri


async def test_block_fixed(read):
    """R2: with SERVER_NAME the request's host and scheme do not count."""
    client = read("fixed").app.test_client()
    response = await client.get(LOGIN)
    assert query(response.location)["redirect_uri"] == FIXED


async def test_block_flask(read, dev_provider):
    """Under Flask a visitor is sent to GitHub, and comes back as who they are."""
    browser = read("flask").app.test_client()
    assert browser.get("/").location == LOGIN
    callback = await dev_provider.approve(browser.get(LOGIN).location)
    assert browser.get(callback).location == "/"
    assert browser.get("/").text == "You are @alice"


def test_block_testing(tmp_path, monkeypatch):
    """The README's own tests pass against the README's own application."""
    for name in ("SECRET_KEY", "GITHUB_OAUTH_CLIENT_ID", "GITHUB_OAUTH_CLIENT_SECRET"):
        monkeypatch.setenv(name, "to be replaced")
    files = [f"# app.py\n{README.blocks['quickstart'][0]}", *README.blocks["testing"]]
    for code in files:
        name = code.partition("\n")[0].removeprefix("# ")
        (tmp_path / name).write_text(code, "utf-8")
    done = run_pytest(tmp_path)
    assert " 2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("refresh_tokens", [True, False])
async def test_session_without_refresh_tokens(dev_provider, refresh_tokens):
    """L6: SessionStorage(refresh_tokens=False) leaves the refresh token out."""
    storage = SessionStorage(refresh_tokens=refresh_tokens)
    app, blueprint = make_app(dev_provider, storage=storage)

    @app.get("/keys")
    async def keys() -> Any:
        return sorted(await blueprint.session.token or {})

    visitor = Visitor(app)
    await visitor.login(dev_provider)
    assert ("refresh_token" in await text(visitor, "/keys")) is refresh_tokens


def test_links():
    """Every file that the README links to is there."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README.text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
