"""Login attempts: each in a cookie of its own, for ten minutes and one callback."""

from __future__ import annotations

import asyncio
import re

import pytest
from browsing import Browser, Clock, failures
from support import make_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.errors import StateMismatch
from quart_dance.testing import DevProvider


async def is_lost(browser: Browser, blueprint: OAuth2ConsumerBlueprint, url: str):
    """Say whether a callback fails because no attempt fits."""
    with failures(blueprint) as heard:
        response = await browser.get(url)
    return response.status_code == 400 and isinstance(heard[1], StateMismatch)


@pytest.mark.parametrize("restore", [False, True])
async def test_replay(dev_provider, restore):
    """C5: a second callback has no effect, even if the old cookie is back."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    [cookie] = browser.attempts
    assert (await browser.get(callback)).status_code == 302
    assert browser.attempts == []
    session = browser.jar["session"].value
    for _ in range(2):
        if restore:
            browser.put_back(cookie)
        assert await is_lost(browser, blueprint, callback)
        assert browser.attempts == []
    assert browser.jar["session"].value == session
    assert dev_provider.count("token") == 1
    assert (await browser.get("/me")).text == "alice"


async def test_replay_after_failure(dev_provider):
    """C5: an attempt that a denial used up is not there for a code."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    url = await browser.start()
    [cookie] = browser.attempts
    await browser.get(await dev_provider.deny(url))
    browser.put_back(cookie)
    assert await is_lost(browser, blueprint, await dev_provider.approve(url))
    assert dev_provider.count("token") == 0


async def test_callback_twice_at_once(dev_provider):
    """C5: of two callbacks at the same time one asks for a token."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    answers = await asyncio.gather(browser.get(callback), browser.get(callback))
    assert sorted(answer.status_code for answer in answers) == [302, 400]
    assert dev_provider.count("token") == 1


async def test_used_states_are_forgotten(dev_provider):
    """C5: a used state is remembered while its cookie is good, and not for ever."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    clock = runtime(app).clock = Clock()
    callback = await dev_provider.approve(await browser.start())
    [cookie] = browser.attempts
    clock.now += 600
    assert (await browser.get(callback)).status_code == 302
    for _ in range(13):
        clock.now += 100
        browser.put_back(cookie)
        assert await is_lost(browser, blueprint, callback)
    assert runtime(app).used_states.get(cookie.name[3:], clock.now) is None
    assert dev_provider.count("token") == 1


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_two_tabs(dev_provider, order):
    """C6: two logins begun in two tabs both succeed, each with its own `next`."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    urls = [await browser.start(f"/login/dev?next=/{tab}") for tab in "ab"]
    for tab, person in zip(order, ("alice", "bob"), strict=True):
        callback = await dev_provider.approve(urls[tab], person=person)
        response = await browser.get(callback)
        assert response.headers["Location"] == ("/a", "/b")[tab]
        assert (await browser.get("/me")).text == person
    assert browser.attempts == []
    assert dev_provider.count("token") == 2


async def test_parallel_logins(dev_provider):
    """C6: two parallel requests to the login both succeed."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    urls = await asyncio.gather(browser.start(), browser.start())
    assert len(browser.attempts) == 2
    callbacks = [await dev_provider.approve(url) for url in urls]
    answers = await asyncio.gather(*map(browser.get, callbacks))
    assert [answer.status_code for answer in answers] == [302, 302]
    assert browser.attempts == []


async def test_five_at_most(dev_provider):
    """C6, C7: the sixth login of a browser ends its oldest one, and no other."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    clock = runtime(app).clock = Clock()
    callbacks = []
    for _ in range(7):
        clock.now += 1
        callbacks.append(await dev_provider.approve(await browser.start()))
    assert len(browser.attempts) == 5
    assert await is_lost(browser, blueprint, callbacks[0])
    assert await is_lost(browser, blueprint, callbacks[1])
    for callback in callbacks[2:]:
        assert (await browser.get(callback)).status_code == 302
    assert browser.attempts == []


async def test_another_blueprints_attempts_do_not_count(dev_provider):
    """C6: logins elsewhere do not end those that are open here."""
    rules = {"login_url": "/to/{bp.name}", "authorized_url": "/back/{bp.name}"}
    app, _ = make_app(dev_provider, **rules)
    other = OAuth2ConsumerBlueprint(
        "other", __name__, **dev_provider.options(), **rules
    )
    app.register_blueprint(other, url_prefix="/login")
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start("/login/to/dev"))
    for _ in range(6):
        await browser.start("/login/to/other")
    assert len(browser.attempts) == 6
    assert (await browser.get(callback)).status_code == 302


async def test_a_thousand_logins(dev_provider):
    """C7, C11: 1000 logins leave no session, five cookies, and 1000 challenges."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    clock = runtime(app).clock = Clock()
    seen = []
    for _ in range(1_000):
        clock.now += 1
        seen.append(query(await browser.start()))
    assert list(browser.jar) == [cookie.name for cookie in browser.attempts]
    assert len(browser.attempts) == 5
    assert sum(len(c.name) + len(c.value or "") for c in browser.attempts) < 4_000
    assert {asked["code_challenge_method"] for asked in seen} == {"S256"}
    for name in ("state", "code_challenge"):
        assert len({asked[name] for asked in seen}) == 1_000
        assert all(re.fullmatch(r"[\w-]{43}", asked[name]) for asked in seen)


async def test_without_pkce():
    """C11: only where PKCE is off does a login go without a challenge."""
    provider = DevProvider(require_pkce=False)
    app, _ = make_app(provider, use_pkce=False)
    browser = Browser(app)
    url = await browser.start()
    assert "code_challenge" not in query(url)
    await browser.get(await provider.approve(url))
    assert "code_verifier" not in provider.calls[-1].form
    assert (await browser.get("/me")).text == "alice"


@pytest.mark.parametrize(("seconds", "lost"), [(0, False), (600, False), (601, True)])
async def test_expiry(dev_provider, seconds, lost):
    """C6: an attempt is good for ten minutes of our clock."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    clock = runtime(app).clock = Clock()
    callback = await dev_provider.approve(await browser.start())
    clock.now += seconds
    assert await is_lost(browser, blueprint, callback) is lost
    assert dev_provider.count("token") == (0 if lost else 1)


@pytest.mark.parametrize(("fallbacks", "lost"), [(True, False), (False, True)])
async def test_changed_secret_key(dev_provider, fallbacks, lost):
    """C6: a login survives a change of the key if the old one is a fallback."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    if fallbacks:
        app.config["SECRET_KEY_FALLBACKS"] = ["older still", app.secret_key]
    app.secret_key = "the next secret key"
    assert await is_lost(browser, blueprint, callback) is lost
    assert dev_provider.count("token") == (0 if lost else 1)


async def test_new_logins_use_the_new_key(dev_provider):
    """C6: with fallbacks, what is sealed anew does not need them any more."""
    app, blueprint = make_app(dev_provider)
    app.config["SECRET_KEY_FALLBACKS"] = [app.secret_key]
    app.secret_key = "the next secret key"
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    app.config["SECRET_KEY_FALLBACKS"] = []
    assert not await is_lost(browser, blueprint, callback)


async def test_another_app(dev_provider):
    """C2, S15: what one application began is nothing to another one."""
    app, _ = make_app(dev_provider)
    other, blueprint = make_app(dev_provider)
    other.secret_key = "another secret key"
    browser, there = Browser(app), Browser(other)
    callback = await dev_provider.approve(await browser.start())
    there.put_back(*browser.attempts)
    assert await is_lost(there, blueprint, callback)
    assert dev_provider.count("token") == 0


async def test_forged_cookies(dev_provider):
    """C2: a cookie of another attempt, or a changed one, fits no state."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    [cookie] = browser.attempts
    attacker = Browser(app)
    await attacker.start()
    good, strange = cookie.value or "", attacker.attempts[0].value or ""
    other = "A" if good[50] != "A" else "B"
    for forged in (strange, good[:50] + other + good[51:], good[:-4], good[9:]):
        cookie.value = forged
        browser.put_back(cookie)
        assert await is_lost(browser, blueprint, callback)
    assert dev_provider.count("token") == 0


async def test_sealed(dev_provider):
    """C13: the cookie can be read by nobody, and its name gives no state away."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    state = query(await browser.start("/login/dev?next=/private"))["state"]
    [cookie] = browser.attempts
    assert re.fullmatch(r"qd_[0-9a-f]{24}", cookie.name)
    assert (cookie.value or "").startswith("gAAAAA")  # Fernet
    assert state not in (cookie.value or "") and state[:8] not in cookie.name


@pytest.mark.parametrize(
    ("origin", "secure"),
    [
        ("https://app.test", True),
        ("http://127.0.0.1:5000", False),
        ("http://localhost:5000", False),
        ("http://[::1]:5000", False),
    ],
)
async def test_cookie_attributes(dev_provider, origin, secure):
    """C1: the cookie is for this path alone, no script's, and Secure on https."""
    app, _ = make_app(dev_provider)
    browser = Browser(app, origin)
    response = await browser.get("/login/dev")
    callback = await dev_provider.approve(response.headers["Location"])
    assert callback.startswith(f"{origin}/login/dev/authorized?")
    header = response.headers["Set-Cookie"]
    end = await browser.client.get(callback, headers={"Cookie": header.split(";")[0]})
    [deletion] = [c for c in end.headers.get_list("Set-Cookie") if c[:3] == "qd_"]
    for one, age in ((header, "600"), (deletion, "0")):
        pair, *attributes = [part.strip() for part in one.split(";")]
        values = dict(part.partition("=")[::2] for part in attributes)
        values.pop("Expires")
        expected = {"Max-Age": age, "HttpOnly": "", "SameSite": "Lax"}
        expected |= {"Path": "/login/dev"} | ({"Secure": ""} if secure else {})
        assert values == expected
        assert bool(pair.partition("=")[2]) is (age == "600")


async def test_no_session_is_needed(dev_provider):
    """C21: to begin a login writes nothing to the session, and needs none."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    await browser.login(dev_provider, "bob")
    old = browser.jar["session"]
    url = await browser.start()
    assert browser.jar["session"].value == old.value
    browser.client.cookies.jar.clear(old.domain, old.path, old.name)
    await browser.get(await dev_provider.approve(url))
    assert browser.attempts == []
    assert (await browser.get("/me")).text == "alice"
