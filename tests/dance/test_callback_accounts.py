"""Whose token it becomes: logins of people who have an account at the application."""

from __future__ import annotations

import re
from html import unescape

import pytest
from browsing import TOKEN, Accounts, Browser, failures, let_people_in, send_raw
from quart import session
from support import make_app

from quart_dance.consumer import oauth_authorized
from quart_dance.errors import AccountChanged, StorageError, UserRequiredError


def app_with_accounts(provider, tokens=None):
    """Return an application with users of its own, its blueprint and its tokens."""
    storage = Accounts(tokens)
    app, blueprint = make_app(provider, storage=storage)
    let_people_in(app)
    return app, blueprint, storage.tokens


@pytest.mark.parametrize(
    ("before", "after"),
    [("/be/ann", "/be/ben"), ("/be/ann", "/leave"), ("/leave", "/be/ben")],
)
async def test_account_switch(dev_provider, before, after):
    """C22: a login that somebody else comes back from is stored for nobody."""
    app, blueprint, tokens = app_with_accounts(dev_provider, {"ben": TOKEN})
    browser = Browser(app)
    await browser.get(before)
    callback = await dev_provider.approve(await browser.start())
    await browser.get(after)
    with failures(blueprint) as heard:
        response = await browser.get(callback)
    assert response.status_code == 400
    assert [heard[0][0], type(heard[1])] == ["account_changed", AccountChanged]
    assert browser.attempts == []
    assert dev_provider.count("token") == 0
    assert tokens == {"ben": TOKEN}


async def test_back_again(dev_provider):
    """C22: an account that is the same again at the callback is the same."""
    app, _, tokens = app_with_accounts(dev_provider)
    browser = Browser(app)
    await browser.get("/be/ann")
    callback = await dev_provider.approve(await browser.start())
    await browser.get("/leave")
    await browser.get("/be/ann")
    assert (await browser.get(callback)).status_code == 302
    assert list(tokens) == ["ann"]


async def test_each_their_own(dev_provider):
    """C22: two people who log in at the same time get their own tokens each."""
    app, _, tokens = app_with_accounts(dev_provider)
    people = {"ann": "alice", "ben": "bob"}
    browsers = {user: Browser(app) for user in people}
    callbacks = {}
    for user, browser in browsers.items():
        await browser.get(f"/be/{user}")
        url = await browser.start()
        callbacks[user] = await dev_provider.approve(url, person=people[user])
    for user, browser in browsers.items():
        assert (await browser.get(callbacks[user])).status_code == 302
    for user, browser in browsers.items():
        assert (await browser.get("/me")).text == people[user]
    assert sorted(tokens) == ["ann", "ben"]


async def test_nobody(dev_provider):
    """C22: where tokens are users', a login of nobody's is told, and stored nowhere."""
    app, blueprint, tokens = app_with_accounts(dev_provider)
    browser = Browser(app)
    with failures(blueprint) as heard:
        response = await browser.login(dev_provider)
    assert response.status_code == 500
    assert [heard[0][0], type(heard[1])] == ["user_required", UserRequiredError]
    assert tokens == {}


async def test_receiver_logs_somebody_in(dev_provider):
    """C22: a receiver may log in whom the token belongs to; then it is theirs."""
    app, blueprint, tokens = app_with_accounts(dev_provider)
    browser = Browser(app)

    async def signed_in(sender, token):
        profile = (await sender.session.get("/user")).json()
        session["user"] = profile["login"]

    with oauth_authorized.connected_to(signed_in, blueprint):
        response = await browser.login(dev_provider, "bob")
    assert response.status_code == 302
    assert list(tokens) == ["bob"]
    assert (await browser.get("/me")).text == "bob"


async def test_receiver_logs_somebody_else_in(dev_provider):
    """C22: the token is stored for the account that is logged in in the end."""
    app, blueprint, tokens = app_with_accounts(dev_provider, {"ann": TOKEN})
    browser = Browser(app)
    await browser.get("/be/ann")

    def signed_in(sender, token):
        session["user"] = "ben"

    with oauth_authorized.connected_to(signed_in, blueprint):
        await browser.login(dev_provider)
    assert tokens["ann"] == TOKEN
    assert sorted(tokens) == ["ann", "ben"]


@pytest.mark.parametrize("path", ["/login/dev", "/login/dev?next=/a%26b%3Fc=%22d%22"])
async def test_login_from_another_site(dev_provider, path):
    """C20: another site cannot connect a visitor's account without their click."""
    app, _, tokens = app_with_accounts(dev_provider)
    browser = Browser(app)
    await browser.get("/be/ann")
    page = await browser.get(path, sec_fetch_site="cross-site")
    assert page.status_code == 200
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in page.headers["Content-Security-Policy"]
    assert "Set-Cookie" not in page.headers
    assert "<script" not in page.text and "http-equiv" not in page.text
    [link] = re.findall(r'<a href="([^"]*)">Go on</a>', page.text)
    assert unescape(link).rstrip("?") == path
    response = await browser.get(unescape(link), sec_fetch_site="same-origin")
    callback = await dev_provider.approve(response.headers["Location"])
    # The provider is another site too, and its redirect needs no further click.
    response = await browser.get(callback, sec_fetch_site="cross-site")
    expected = "/a&b?c=%22d%22" if "next" in path else "/"
    assert response.headers["Location"] == expected
    assert list(tokens) == ["ann"]


@pytest.mark.parametrize("site", ["same-origin", "same-site", "none", ""])
async def test_login_from_here(dev_provider, site):
    """C20: the application's own links, bookmarks and old browsers need no click."""
    app, _, _ = app_with_accounts(dev_provider)
    browser = Browser(app)
    await browser.get("/be/ann")
    headers = {"sec_fetch_site": site} if site else {}
    assert (await browser.get("/login/dev", **headers)).status_code == 302


async def test_login_of_nobody_from_another_site(dev_provider):
    """C20: while nobody is logged in there is nothing that could be connected."""
    app, _, _ = app_with_accounts(dev_provider)
    response = await Browser(app).get("/login/dev", sec_fetch_site="cross-site")
    assert response.status_code == 302


async def test_strange_query_from_another_site(dev_provider):
    """C20: what stands in the query stays text on the page that asks."""
    app, _, _ = app_with_accounts(dev_provider)
    browser = Browser(app)
    await browser.get("/be/ann")
    query = b"next=/x\"><script>alert(1)</script>&a='&b=<&amp;quot;"
    page = await send_raw(
        browser, app, "/login/dev", query, sec_fetch_site="cross-site"
    )
    assert page.status_code == 200
    assert "<script" not in page.text
    [link] = re.findall(r'<a href="([^"]*)">', page.text)
    assert unescape(link) == f"/login/dev?{query.decode()}"


class Broken(Accounts):
    """Does not know at the callback who is logged in, having known at the login."""

    async def account(self, blueprint, **who):
        if self.tokens.get("down"):
            raise OSError("no route to the database")
        return None


async def test_account_unknown(dev_provider):
    """S8: a storage that cannot say whose login it is fails it; no code is spent."""
    storage = Broken({})
    app, blueprint = make_app(dev_provider, storage=storage)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    storage.tokens["down"] = TOKEN
    with failures(blueprint) as heard:
        response = await browser.get(callback)
    assert response.status_code == 500
    assert "The login failed" in response.text
    assert [heard[0][0], type(heard[1])] == ["storage_error", StorageError]
    assert "no route to the database" in str(heard[1])
    assert browser.attempts == []
    assert dev_provider.count("token") == 0
