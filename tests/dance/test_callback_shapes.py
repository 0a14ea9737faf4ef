"""Requests to the login and the callback that no provider sends."""

from __future__ import annotations

import pytest
from browsing import Browser, send_raw
from support import make_app

CALLBACK = "https://app.test/login/dev/authorized"


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/login/dev", "/login/dev/authorized"])
async def test_methods(dev_provider, method, path):
    """C19: only GET begins or ends a login, and what is refused uses nothing up."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    query = callback.partition("?")[2]
    response = await browser.client.request(method, f"{path}?{query}")
    assert response.status_code == 405
    assert "GET" in response.headers["Allow"]
    assert "Location" not in response.headers
    assert dev_provider.count("token") == 0
    assert (await browser.get(callback)).status_code == 302
    assert len(browser.attempts) == 0


async def test_form_post(dev_provider):
    """C19: a code in a form is not a callback of ours."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    form = dict(pair.split("=") for pair in callback.partition("?")[2].split("&"))
    response = await browser.client.post("/login/dev/authorized", data=form)
    assert response.status_code == 405
    assert dev_provider.count("token") == 0


@pytest.mark.parametrize(
    "query",
    [
        b"",
        b"&&&=&",
        b"code=" + b"x" * 100_000,
        b"state=" + b"x" * 100_000,
        b"x&" * 50_000,
        b"%FF%FE=%80",
        b"code=%FF&state=%C3",
        b"code=%ED%A0%80&state=%ED%A0%80",
        b"code=\xc3\xa9&state=\xc3\xa9",
        b"code=%&state=%zz",
        b"code=%00&state=%00",
        b"state=" + b"%0d%0aSet-Cookie:%20a=b",
    ],
)
@pytest.mark.parametrize("good_state", [False, True])
async def test_nonsense(dev_provider, query, good_state):
    """C19, C23: a huge or unreadable query is a 400, and never a 500."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    if good_state:
        query = callback.partition("&")[2].encode() + b"&" + query
    response = await send_raw(browser, app, CALLBACK, query)
    assert response.status_code == 400
    assert "<h1>The login failed</h1>" in response.text
    assert dev_provider.count("token") == 0


@pytest.mark.parametrize(
    "query",
    [b"next=/" + b"x" * 100_000, b"next=%FF", b"next=\xc3\xa9", b"next=%00", b"&=&"],
)
async def test_nonsense_at_the_login(dev_provider, query):
    """C19: a huge or unreadable query of the login is ignored."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    response = await send_raw(browser, app, "/login/dev", query)
    assert response.status_code == 302


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x",
        "gAAAAA",
        "=" * 10,
        "%FF",
        "\xff\xfe",
        '"quoted"',
        "a" * 4000,
        "gAAAAABé",
    ],
)
async def test_broken_cookies(dev_provider, value):
    """C19: a cookie that looks like an attempt's but is none is no obstacle."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    await browser.start()
    [attempt] = browser.attempts
    cookie = f"{attempt.name}={value}; qd_{'0' * 24}={value}".encode()
    browser.client.cookies.clear()
    assert (await send_raw(browser, app, "/login/dev", b"", cookie)).status_code == 302
    response = await send_raw(browser, app, CALLBACK, b"code=a&state=b", cookie)
    assert response.status_code == 400
    assert dev_provider.count("token") == 0
