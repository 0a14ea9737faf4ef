"""A failed login: who hears of it, what the visitor sees, what is logged."""

from __future__ import annotations

import logging
from secrets import token_urlsafe

import pytest
from browsing import TOKEN, Browser, edited, failures
from quart import Response
from support import make_app, query

from quart_dance.consumer import oauth_authorized, oauth_error, oauth_login_failed
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.errors import (
    AccessDenied,
    InvalidCallback,
    StateMismatch,
    StorageError,
    TokenRequestError,
    TokenTooLargeError,
    UserRequiredError,
)
from quart_dance.testing import faults

CALLBACK = "https://app.test/login/dev/authorized"
NASTY = '<script>alert("1")</script>\'\r\nFAKE LOG LINE\x00\x1b[31m\u2028\u202e'


class Broken(BaseStorage):
    """Holds an older token and cannot keep a new one."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def get(self, blueprint):
        return dict(TOKEN)

    async def set(self, blueprint, token):
        raise self.error

    async def delete(self, blueprint):
        raise self.error


async def fail(provider, browser, how):
    """Let a login fail in one of three ways and return the response."""
    url = await browser.start()
    if how == "state":
        return await browser.get(f"{CALLBACK}?code=a&state=b")
    if how == "denied":
        return await browser.get(await provider.deny(url))
    provider.fault("token", faults.SERVER_ERROR)
    return await browser.get(await provider.approve(url))


@pytest.mark.parametrize(
    ("how", "status", "error", "exception"),
    [
        ("state", 400, "state_mismatch", StateMismatch),
        ("denied", 400, "access_denied", AccessDenied),
        ("token", 502, "server_error", TokenRequestError),
    ],
)
async def test_signals_and_status(dev_provider, how, status, error, exception):
    """DESIGN 5.3: each receiver hears once, in Flask-Dance's words and in ours."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(TOKEN))
    with failures(blueprint) as heard:
        response = await fail(dev_provider, Browser(app), how)
    assert response.status_code == status
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "Location" not in response.headers
    [(code, description, uri), raised] = heard
    assert (code, uri, type(raised)) == (error, None, exception)
    assert isinstance(description, str)
    assert raised.blueprint is blueprint
    async with app.app_context():
        assert await blueprint.token == TOKEN


@pytest.mark.parametrize("signal", [oauth_error, oauth_login_failed])
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("how", ["denied", "token"])
async def test_response_of_a_receiver(dev_provider, signal, asynchronous, how):
    """L4: a receiver's response is sent, and still ends the attempt, uncached."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)

    def answer(sender, **data):
        return Response("ours", 418, {"X-Ours": "yes", "Set-Cookie": "a=b"})

    async def answer_later(sender, **data):
        return answer(sender)

    with signal.connected_to(answer_later if asynchronous else answer, blueprint):
        response = await fail(dev_provider, browser, how)
    assert (response.status_code, response.text) == (418, "ours")
    assert response.headers["X-Ours"] == "yes"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert list(browser.jar) == ["a"]


@pytest.mark.parametrize("value", [None, False, "text", ("text", 200), 0])
async def test_other_results_of_a_receiver(dev_provider, value):
    """DESIGN 5.3: what a receiver of a failure returns counts only if a response."""
    app, blueprint = make_app(dev_provider)

    def answer(sender, **data):
        return value

    with oauth_error.connected_to(answer, blueprint):
        response = await fail(dev_provider, Browser(app), "denied")
    assert response.status_code == 400
    assert "<h1>The login failed</h1>" in response.text


async def test_response_after_success(dev_provider):
    """L4: a response of oauth_authorized ends the attempt too; nothing is stored."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)

    def answer(sender, token):
        return Response("ours", 200)

    with oauth_authorized.connected_to(answer, blueprint):
        response = await browser.login(dev_provider)
    assert response.text == "ours"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert browser.jar == {}


async def test_a_receivers_own_headers(dev_provider):
    """L4: a receiver that says how its response may be cached is not overruled."""
    app, blueprint = make_app(dev_provider)

    def answer(sender, **data):
        return Response("ours", headers={"Cache-Control": "private, no-store"})

    with oauth_error.connected_to(answer, blueprint):
        response = await fail(dev_provider, Browser(app), "denied")
    assert response.headers.get_list("Cache-Control") == ["private, no-store"]


@pytest.mark.parametrize(
    "said",
    [
        [("error", NASTY)],
        [("error", "server_error"), ("error_description", NASTY)],
        [("error", "x" * 5_000), ("error_description", "y " * 2_500)],
        [("error", ""), ("error_description", "")],
        [("error", "\0\r\n")],
        [("error", "%(message)s {0} %s"), ("error_description", "%d")],
    ],
)
async def test_nasty_words(dev_provider, caplog, said):
    """C16: a provider's words are escaped, cut short, and one line of the log."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    state = query(await browser.start())["state"]
    url = edited(CALLBACK, *said, ("state", state))
    with caplog.at_level(logging.DEBUG), failures(blueprint) as heard:
        response = await browser.get(url)
    assert response.status_code == 400
    assert "<script" not in response.text and '"1"' not in response.text
    assert len(response.text) < 2_000
    [line] = [r.getMessage() for r in caplog.records if "failed" in r.getMessage()]
    assert line.startswith("Login with 'dev' failed: ")
    assert line.isprintable() and len(line) < 320
    error, description, _ = heard[0]
    assert error and error.isprintable() and len(error) <= 64
    assert description is None or description.isprintable() and len(description) <= 200
    assert str(heard[1]).isprintable()


async def test_escaped(dev_provider):
    """C16: the visitor reads what the provider says as text."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    state = query(await browser.start())["state"]
    said = ("error", "server_error"), ("error_description", "<b>no</b> \"x\" & 'y'")
    page = (await browser.get(edited(CALLBACK, *said, ("state", state)))).text
    assert "&lt;b&gt;no&lt;/b&gt; &#34;x&#34; &amp; &#39;y&#39;" in page


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("https://provider.test/why", "https://provider.test/why"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("//evil.test", None),
    ],
)
async def test_error_uri(dev_provider, uri, told):
    """C16: a provider's error_uri is told to receivers; nobody is led there."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    state = query(await browser.start())["state"]
    said = ("error", "access_denied"), ("error_uri", uri), ("state", state)
    with failures(blueprint) as heard:
        response = await browser.get(edited(CALLBACK, *said))
    assert heard[0] == ("access_denied", None, told)
    assert heard[1].error_uri == told
    assert "Location" not in response.headers
    assert response.text.count("href=") == 1
    assert '<a href="/login/dev">' in response.text


@pytest.mark.parametrize("how", ["denied", "token", "state"])
async def test_nothing_of_the_attempt_is_told(dev_provider, caplog, how):
    """C13: verifier, state and code are in no URL but theirs, no log and no page."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    url = await browser.start()
    callback = await dev_provider.approve(url)
    with caplog.at_level(logging.DEBUG), failures(blueprint) as heard:
        await browser.get(callback)
        response = await fail(dev_provider, browser, how)
        again = await browser.get(callback)
    [verifier] = {
        call.form["code_verifier"]
        for call in dev_provider.calls
        if call.form.get("code") == query(callback)["code"]
    }
    assert 43 <= len(verifier) <= 128
    assert verifier not in url
    # The browser of this test logs its own URLs.
    lines = [record.getMessage() for record in caplog.records]
    said = [line for line in lines if "GET https://app.test" not in line]
    told = [*said, response.text, again.text, *map(repr, heard)]
    assert len(said) >= 3
    for secret in (verifier, query(callback)["code"], query(callback)["state"]):
        assert not [text for text in told if secret in text]


@pytest.mark.parametrize(
    ("error", "exception", "code"),
    [
        (RuntimeError("database down"), StorageError, "storage_error"),
        (TokenTooLargeError("too large"), TokenTooLargeError, "storage_error"),
        (UserRequiredError("nobody"), UserRequiredError, "user_required"),
    ],
)
async def test_storing_fails(dev_provider, error, exception, code):
    """S8: a token that cannot be stored is a failed login, and the older one stays."""
    app, blueprint = make_app(dev_provider, storage=Broken(error))
    browser = Browser(app)
    with failures(blueprint) as heard:
        response = await browser.login(dev_provider)
    assert response.status_code == 500
    assert "Your login could not be kept." in response.text
    assert "database" not in response.text
    assert [heard[0][0], type(heard[1]), len(heard)] == [code, exception, 2]
    assert browser.attempts == []
    assert dev_provider.count("token") == 1
    async with app.app_context():
        assert await blueprint.token == TOKEN


async def test_too_large_for_the_cookie(dev_provider):
    """T13: a token too large for the cookie fails the login; the older one stays."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    await browser.login(dev_provider)
    before = browser.jar["session"].value
    dev_provider.fault("token", faults.Altered({"id_token": token_urlsafe(4_096)}))
    with failures(blueprint) as heard:
        response = await browser.login(dev_provider, "bob")
    assert response.status_code == 500
    assert isinstance(heard[1], TokenTooLargeError)
    assert browser.jar["session"].value == before
    assert (await browser.get("/me")).text == "alice"


@pytest.mark.parametrize(
    "fault",
    [
        faults.SERVER_ERROR,
        faults.BAD_GATEWAY,
        faults.HTML_PAGE,
        faults.TOO_MANY_REQUESTS,
        faults.EMPTY,
        faults.TRUNCATED,
        faults.DEAD_REFRESH_TOKEN,
        faults.Altered(without=["access_token"]),
    ],
)
async def test_token_endpoint_fails(dev_provider, fault):
    """T14: a provider that fails is asked once, is a 502, and costs no older token."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    await browser.login(dev_provider)
    callback = await dev_provider.approve(await browser.start(), person="bob")
    dev_provider.fault("token", fault)
    with failures(blueprint) as heard:
        response = await browser.get(callback)
    assert response.status_code == 502
    assert [type(heard[1]), len(heard)] == [TokenRequestError, 2]
    assert dev_provider.count("token") == 2
    assert browser.attempts == []
    assert (await browser.get("/me")).text == "alice"
    # Its code is not tried again either.
    assert (await browser.get(callback)).status_code == 400
    assert dev_provider.count("token") == 2


async def test_wrong_way_back(dev_provider):
    """C4: what the provider itself gets wrong on the way back is a failed login."""
    app, blueprint = make_app(dev_provider)
    for fault in (faults.TwoCodes(), faults.NoCode()):
        dev_provider.fault("authorize", fault)
        with failures(blueprint) as heard:
            response = await Browser(app).login(dev_provider)
        assert response.status_code == 400
        assert isinstance(heard[1], InvalidCallback)
        assert heard[0][0] == "invalid_callback"
