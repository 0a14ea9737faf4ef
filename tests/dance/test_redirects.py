"""Where a visitor is sent: on with `next` after a login, and to the provider before."""

from __future__ import annotations

import re
from urllib.parse import quote, quote_from_bytes, urlencode

import pytest
from browsing import Browser, params
from support import make_app, query

from quart_dance.consumer import oauth_before_login
from quart_dance.errors import ConfigurationError

#: What the URL Standard strips: C0 controls and spaces around, line ends inside.
AROUND = "".join(map(chr, range(0x21)))


def leads_away(location: str) -> bool:
    """Judge a Location as browsers do (URL Standard, section 4.4), and not mildly."""
    url = re.sub(r"[\t\n\r]", "", location.strip(AROUND)).replace("\\", "/")
    return not re.match(r"/([^/]|$)", url) or not location.isascii()


async def after_login(provider, next_argument: str, **options) -> str:
    """Return the Location after a login with a raw `next` argument."""
    app, _ = make_app(provider, **options)
    response = await Browser(app).login(
        provider, path=f"/login/dev?next={next_argument}"
    )
    assert response.status_code == 302
    assert "evil" not in "".join(response.headers.get_list("Set-Cookie"))
    return response.headers["Location"]


EVIL = [
    "//evil.test",
    "///evil.test",
    "////evil.test",
    "/\\evil.test",
    "\\/evil.test",
    "\\\\evil.test",
    "/\\/evil.test",
    "https:evil.test",
    "https://evil.test",
    "https:/evil.test",
    "http:///evil.test",
    "HTTPS://EVIL.TEST",
    "\t//evil.test",
    "/\t/evil.test",
    "/\n/evil.test",
    "/\r/evil.test",
    " //evil.test",
    "\x00//evil.test",
    "\x1f/evil.test",
    "/\x00/evil.test",
    "/ok\r\nSet-Cookie: evil=1",
    "/%0d%0aSet-Cookie:evil=1",
    "/%0D%0ALocation:%20//evil.test",
    "/%09/evil.test",
    "/%5Cevil.test",
    "/%5c%5cevil.test",
    "javascript:alert(1)",
    "JavaScript:alert(1)//",
    "java\nscript:alert(1)",
    "data:text/html,evil",
    "http://app.test@evil.test",
    "//app.test@evil.test",
    "https://app.test:evil@evil.test/",
    "http://app.test.evil.test",
    "https://evil.c℀.app.test",
    "//evil.c℀.app.test",
    "//[::1]/",
    "http:\\\\evil.test",
    "evil.test",
    "./evil",
    "?evil",
    "#evil",
    "",
    " ",
    "https://app.test/even-our-own-origin",
]


@pytest.mark.parametrize("value", EVIL)
async def test_next_elsewhere(dev_provider, value):
    """R1: what a browser could read as another origin or as a script is ignored."""
    location = await after_login(dev_provider, quote(value, safe=""))
    assert location == "/"
    assert not leads_away(location)


@pytest.mark.parametrize(
    "value",
    [
        "//evil.test",
        "/\\evil.test",
        "https:evil.test",
        "/%5Cevil.test",
        "/%2F/evil.test",
    ],
)
@pytest.mark.parametrize("double", [False, True])
async def test_next_as_it_stands(dev_provider, value, double):
    """R1: neither unquoted nor quoted twice does it lead away."""
    raw = quote(quote(value, safe=""), safe="") if double else value
    location = await after_login(dev_provider, raw)
    assert not leads_away(location)
    assert not leads_away(re.sub("%25", "%", location))


async def test_next_of_any_two_characters(dev_provider):
    """R1: whatever two characters stand before a host, a login does not lead there."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    starts = ["/", "\\", "\t", "\n", "\r", " ", "\0", ":", ".", "@", "%", "／", "\xa0"]
    for value in (f"{a}{b}/evil.test" for a in starts for b in starts):
        path = f"/login/dev?{urlencode({'next': value})}"
        response = await browser.login(dev_provider, path=path)
        assert not leads_away(response.headers["Location"]), repr(value)


@pytest.mark.parametrize(
    ("value", "location"),
    [
        ("/ok?x=1#y", "/ok?x=1#y"),
        ("/", "/"),
        ("/a/b/?x=1&y=https://b.test/?z", "/a/b/?x=1&y=https://b.test/?z"),
        ("/a%20b?q=%C3%A9", "/a%20b?q=%C3%A9"),
        ("/über?q=✓", "/%C3%BCber?q=%E2%9C%93"),
        ("/a b", "/a%20b"),
        ("/~me/@x;y=1,2", "/~me/@x;y=1,2"),
        ("/100%", "/100%"),
        ("/" + "x" * 511, "/" + "x" * 511),
    ],
)
async def test_next_here(dev_provider, value, location):
    """R1: a path on our own origin is kept, with its query and fragment."""
    assert await after_login(dev_provider, quote(value, safe="")) == location


@pytest.mark.parametrize(
    "value", ["/" + "x" * 512, "/" + "ü" * 100, "/" + "x" * 60_000]
)
async def test_next_too_long(dev_provider, value):
    """R1: what is longer than 512 bytes is ignored: it travels in a cookie."""
    assert await after_login(dev_provider, quote(value, safe="")) == "/"


async def test_next_that_is_not_utf_8(dev_provider):
    """R1, C19: bytes that are no text lead nowhere else."""
    location = await after_login(dev_provider, quote_from_bytes(b"/\xff\xfe"))
    assert not leads_away(location)


@pytest.mark.parametrize(
    ("options", "location"),
    [
        ({"redirect_url": "/welcome"}, "/welcome"),
        ({"redirect_url": "https://shop.test/"}, "https://shop.test/"),
        ({"redirect_to": "me"}, "/me"),
        ({"redirect_url": "/welcome", "redirect_to": "me"}, "/welcome"),
    ],
)
async def test_fallback(dev_provider, options, location):
    """R1: without a good `next` the login leads to redirect_url or redirect_to."""
    assert await after_login(dev_provider, "", **options) == location
    assert await after_login(dev_provider, "//evil.test", **options) == location
    assert await after_login(dev_provider, "/ok", **options) == "/ok"


async def test_next_is_sealed(dev_provider):
    """R1: a `next` at the callback is nobody's wish."""
    app, _ = make_app(dev_provider)
    browser = Browser(app)
    callback = await dev_provider.approve(await browser.start("/login/dev?next=/ok"))
    response = await browser.get(f"{callback}&next=/other")
    assert response.headers["Location"] == "/ok"


@pytest.mark.parametrize(
    "more",
    [
        "client_id=evil&redirect_uri=https://evil.test&state=evil&response_type=token",
        "scope=admin&code_challenge=evil&code_challenge_method=plain&prompt=none",
        "authorization_url=https://evil.test&uri=https://evil.test",
    ],
)
async def test_query_of_the_login(dev_provider, more):
    """R5: what a visitor adds to the login's URL does not reach the provider."""
    app, _ = make_app(dev_provider)
    url = await Browser(app).start(f"/login/dev?{more}")
    assert url.startswith("https://provider.test/authorize?")
    assert "evil" not in url and "prompt" not in url and "admin" not in url
    names = [name for name, _ in params(url)]
    assert sorted(names) == sorted(set(names))


async def test_authorization_url_with_a_query(dev_provider):
    """R5: its own query and the further parameters are merged with ours."""
    app, blueprint = make_app(
        dev_provider,
        authorization_url="https://provider.test/authorize?tenant=a%26b&x=",
        authorization_url_params={"prompt": "consent", "hint": "a&b=c ü"},
    )
    told = []

    def before(sender, url):
        told.append(url)

    browser = Browser(app)
    with oauth_before_login.connected_to(before, blueprint):
        url = await browser.start()
    assert told == [url]
    assert url.count("?") == 1
    assert dict(params(url)).keys() == {
        *("tenant", "x", "prompt", "hint", "response_type", "client_id", "scope"),
        *("redirect_uri", "state", "code_challenge", "code_challenge_method"),
    }
    asked = query(url)
    assert [asked[name] for name in ("tenant", "x", "prompt", "hint")] == [
        "a&b",
        "",
        "consent",
        "a&b=c ü",
    ]
    await browser.get(await dev_provider.approve(url))
    assert (await browser.get("/me")).text == "alice"


@pytest.mark.parametrize(
    "name", ["client_id", "redirect_uri", "state", "response_type", "code_challenge"]
)
def test_reserved_parameters(dev_provider, name):
    """R5: an option that competes with the protocol's own parameters is refused."""
    with pytest.raises(ConfigurationError, match=name):
        make_app(dev_provider, authorization_url_params={name: "x"})
    with pytest.raises(ConfigurationError, match=name):
        make_app(dev_provider, authorization_url=f"https://p.test/authorize?{name}=x")


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("token_url_params", "code"),
        ("token_url_params", "redirect_uri"),
        ("token_url_params", "code_verifier"),
        ("token_url_params", "grant_type"),
        ("auto_refresh_kwargs", "refresh_token"),
    ],
)
def test_reserved_token_parameters(dev_provider, option, name):
    """R5: the same for the token endpoint."""
    with pytest.raises(ConfigurationError, match=name):
        make_app(dev_provider, **{option: {name: "x"}})
