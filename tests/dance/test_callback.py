"""What may come to the callback, and when a code becomes a token."""

from __future__ import annotations

import pytest
from browsing import Browser, Hosts, edited, failures, params
from support import make_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.errors import (
    AccessDenied,
    InvalidCallback,
    StateMismatch,
    TokenRequestError,
)
from quart_dance.testing import DevProvider

CALLBACK = "https://app.test/login/dev/authorized"


async def refused(
    browser: Browser, blueprint: OAuth2ConsumerBlueprint, url: str, error: type
) -> str:
    """Open a callback that must fail with an error of ours, and return the page."""
    with failures(blueprint) as heard:
        response = await browser.get(url)
    assert response.status_code == 400
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert [type(exception) for exception in heard[1:]] == [error]
    assert heard[1].blueprint is blueprint
    assert (await browser.get("/me")).status_code == 401
    return response.text


async def test_no_session(dev_provider):
    """C1: a callback in a browser that began nothing is a page, not a redirect."""
    app, blueprint = make_app(dev_provider)
    url = f"{CALLBACK}?code=some-code&state=some-state"
    page = await refused(Browser(app), blueprint, url, StateMismatch)
    assert '<a href="/login/dev">' in page
    assert dev_provider.count("token") == 0


async def test_blocked_cookies(dev_provider):
    """C1: a browser that keeps no cookies ends on the page and does not loop."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    url = await browser.start()
    browser.client.cookies.clear()
    page = await refused(
        browser, blueprint, await dev_provider.approve(url), StateMismatch
    )
    assert "Are cookies blocked?" in page
    assert dev_provider.count("token") == 0


async def test_attackers_code_and_state(dev_provider):
    """C2: an attacker's whole callback is nothing in the victim's browser."""
    app, blueprint = make_app(dev_provider)
    attacker, victim = Browser(app), Browser(app)
    await victim.start()
    callback = await dev_provider.approve(await attacker.start(), person="bob")
    await refused(victim, blueprint, callback, StateMismatch)
    assert dev_provider.count("token") == 0
    assert len(victim.attempts) == 1


@pytest.mark.parametrize(
    "tamper",
    [
        lambda url, state: edited(url, without="state"),
        lambda url, state: edited(url, ("state", ""), without="state"),
        lambda url, state: edited(url, ("state", "wrong"), without="state"),
        lambda url, state: edited(url, ("state", state + "x"), without="state"),
        lambda url, state: edited(url, ("state", state[:-1]), without="state"),
        lambda url, state: edited(url, ("state", state.swapcase()), without="state"),
        lambda url, state: edited(url, ("state", f" {state}"), without="state"),
        lambda url, state: edited(url, ("state", f"{state}\0"), without="state"),
        lambda url, state: edited(url, ("state", "zustand-✓é"), without="state"),
        lambda url, state: edited(url, without="state") + "&state=%F0%90%80",
        lambda url, state: edited(url, ("State", state), without="state"),
        lambda url, state: edited(url, ("state[]", state), without="state"),
    ],
)
async def test_wrong_state(dev_provider, tamper):
    """C3, C23: a state that is not exactly ours, whatever it is made of, is refused."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    url = tamper(callback, query(callback)["state"])
    await refused(browser, blueprint, url, StateMismatch)
    assert dev_provider.count("token") == 0
    # That answer spoiled nothing: the visitor's own still comes in.
    assert (await browser.get(callback)).status_code == 302
    assert (await browser.get("/me")).text == "alice"


@pytest.mark.parametrize(
    "more",
    [
        [("state", "BAD")],
        [("code", "another")],
        [("code", "")],
        [("error", "access_denied")],
        [("error", "")],
        [("iss", "https://a.test"), ("iss", "https://b.test")],
        [("error_description", "a"), ("error_description", "b")],
    ],
)
@pytest.mark.parametrize("before", [True, False])
async def test_repeated_and_contradicting(dev_provider, more, before):
    """C4, C17: what repeats or contradicts itself asks for no token, and is used up."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    own = [] if before else params(callback)
    rest = params(callback) if before else []
    url = edited(CALLBACK, *own, *more, *rest)
    await refused(browser, blueprint, url, InvalidCallback)
    assert browser.attempts == []
    await refused(browser, blueprint, callback, StateMismatch)
    assert dev_provider.count("token") == 0


@pytest.mark.parametrize(
    ("without", "more"),
    [
        ("code", []),
        ("code", [("code", "")]),
        ("code", [("access_token", "a-token"), ("token_type", "bearer")]),
        ("code", [("id_token", "a.b.c"), ("expires_in", "3600")]),
        ("code", [("response", "a.b.c")]),
        ("code", [("Code", "some-code")]),
    ],
)
async def test_no_code(dev_provider, without, more):
    """C17, C18: without a code there is no token, least of all one from the query."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    url = edited(callback, *more, without=without)
    await refused(browser, blueprint, url, InvalidCallback)
    assert browser.attempts == []
    assert dev_provider.count("token") == 0


async def test_fragment(dev_provider):
    """C18: a page for a callback without a query runs no script on its fragment."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    await browser.start()
    url = f"{CALLBACK}#access_token=a-token&state=any"
    page = await refused(browser, blueprint, url, StateMismatch)
    assert "<script" not in page


async def test_denied(dev_provider):
    """C15: a denial with a good state is told once and uses the attempt up."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.deny(await browser.start())
    with failures(blueprint) as heard:
        response = await browser.get(callback)
    assert response.status_code == 400
    assert [heard[0][0], type(heard[1]), len(heard)] == [
        "access_denied",
        AccessDenied,
        2,
    ]
    assert browser.attempts == []
    await refused(browser, blueprint, callback, StateMismatch)
    assert dev_provider.count("token") == 0


@pytest.mark.parametrize("state", [[], [("state", "")], [("state", "wrong")]])
async def test_denied_by_a_stranger(dev_provider, state):
    """C15: an error without our state is nobody's word, and uses nothing up."""
    app, blueprint = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    said = [("error", "access_denied"), ("error_description", "Pay here")]
    url = edited(CALLBACK, *said, *state)
    page = await refused(browser, blueprint, url, StateMismatch)
    assert "Pay here" not in page and "access_denied" not in page
    assert (await browser.get(callback)).status_code == 302
    assert dev_provider.count("token") == 1


async def test_injected_code(dev_provider):
    """C12: a stolen code in the victim's own login is refused for its verifier."""
    app, blueprint = make_app(dev_provider)
    attacker, victim = Browser(app), Browser(app)
    stolen = query(await dev_provider.approve(await attacker.start(), person="bob"))
    callback = await dev_provider.approve(await victim.start())
    url = edited(callback, ("code", stolen["code"]), without="code")
    with failures(blueprint) as heard:
        response = await victim.get(url)
    assert response.status_code == 502
    assert isinstance(heard[1], TokenRequestError)
    assert heard[1].error == "invalid_grant"
    assert (await victim.get("/me")).status_code == 401
    assert dev_provider.count("token") == 1
    assert dev_provider.tokens == []


def two_providers(**rules):
    """Return an application with two providers at hosts of their own."""
    one, two = DevProvider(url="https://one.test"), DevProvider(url="https://two.test")
    app, first = make_app(one, "one", **rules)
    second = OAuth2ConsumerBlueprint("two", __name__, **two.options(), **rules)
    app.register_blueprint(second, url_prefix="/login")
    network = runtime(app).transport = Hosts(one, two=two)
    return app, (first, second), (one, two), network


@pytest.mark.parametrize(
    "rules",
    [
        {},
        # The browser brings both providers' cookies to both callbacks.
        {"login_url": "/to/{bp.name}", "authorized_url": "/back/{bp.name}"},
    ],
)
async def test_another_blueprints_state(rules):
    """C8: a state of one provider's login is nothing at another one's callback."""
    app, (_, second), (one, _), network = two_providers(**rules)
    browser = Browser(app)
    callback = await one.approve(
        await browser.start("/login/to/one" if rules else "/login/one")
    )
    with failures(second) as heard:
        response = await browser.get(callback.replace("/one", "/two"))
    assert response.status_code == 400
    assert isinstance(heard[1], StateMismatch)
    assert network.requests == []


async def test_each_provider_its_own_endpoints():
    """C10: redirect URI and token endpoint are those of the provider of the state."""
    app, _, (one, two), network = two_providers()
    browser = Browser(app)
    urls = [await browser.start(f"/login/{name}") for name in ("one", "two")]
    assert [query(url)["redirect_uri"] for url in urls] == [
        "https://app.test/login/one/authorized",
        "https://app.test/login/two/authorized",
    ]
    for provider, url in zip((two, one), reversed(urls), strict=True):
        response = await browser.get(await provider.approve(url))
        assert response.status_code == 302
    assert [str(request.url) for request in network.requests] == [
        "https://two.test/token",
        "https://one.test/token",
    ]
    assert [provider.calls[-1].form["redirect_uri"] for provider in (one, two)] == [
        "https://app.test/login/one/authorized",
        "https://app.test/login/two/authorized",
    ]


@pytest.mark.parametrize(
    "said",
    [
        [],
        [""],
        ["https://provider.test/"],
        ["https://Provider.test"],
        ["https://evil.test"],
        ["https://provider.test", "https://provider.test"],
    ],
)
async def test_wrong_issuer(dev_provider, said):
    """C9: with `issuer=`, any other `iss`, or none, is refused before the token."""
    app, blueprint = make_app(dev_provider, issuer="https://provider.test")
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    url = edited(callback, *(("iss", issuer) for issuer in said))
    await refused(browser, blueprint, url, InvalidCallback)
    assert dev_provider.count("token") == 0
    assert browser.attempts == []


async def test_right_issuer(dev_provider):
    """C9: the issuer that was named is let in."""
    app, _ = make_app(dev_provider, issuer="https://provider.test")
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start())
    await browser.get(edited(callback, ("iss", "https://provider.test")))
    assert (await browser.get("/me")).text == "alice"


async def test_a_strangers_denial_for_an_issuer(dev_provider):
    """C9: an error must come from the issuer as well; its words are not repeated."""
    app, blueprint = make_app(dev_provider, issuer="https://provider.test")
    browser = Browser(app)
    callback = await dev_provider.deny(await browser.start())
    url = edited(callback, ("iss", "https://evil.test"))
    page = await refused(browser, blueprint, url, InvalidCallback)
    assert "denied" not in page
