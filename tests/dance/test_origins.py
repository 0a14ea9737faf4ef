"""Who gets to see a token: base_url's origin, those that are allowed, nobody else."""

from __future__ import annotations

import httpx2
import pytest
from browsing import Browser, Clock, Hosts, world
from support import make_app

from quart_dance.consumer.runtime import runtime
from quart_dance.errors import ConfigurationError, ForeignOriginError
from quart_dance.testing import DevProvider
from quart_dance.testing.faults import Altered


@pytest.mark.parametrize(
    "url",
    [
        "https://other.test/",
        "//other.test",
        "//other.test/api/user",
        "///other.test/api/user",
        "http://provider.test/api/user",
        "https://provider.test:8443/api/user",
        "https://provider.test@other.test/",
        "https://provider.test:443@other.test/",
        "https://user@provider.test/api/user",
        "https://user:password@provider.test/api/user",
        "https://provider.test\\@other.test/",
        "https://other.test\\@provider.test/",
        "https://other.test/@provider.test",
        "https://other.test#@provider.test",
        "https://other.test?@provider.test",
        "https://provider.test./api/user",
        "https://provider.test.other.test/",
        "https://sub.provider.test/",
        "https://otherprovider.test/",
        "https://provider.tést/",
        "https://prоvider.test/",
        "https:other.test",
        "https:///other.test",
        "https:\\\\other.test",
        "ftp://provider.test/",
        "file:///etc/passwd",
        "data:text/plain,x",
        "javascript:alert(1)",
        "https://127.0.0.1/",
        "https://[::1]/",
    ],
)
async def test_foreign(dev_provider, url):
    """R6: a URL of another origin is refused before anything is sent."""
    app, blueprint, network = world(dev_provider)
    async with app.app_context():
        with pytest.raises(ForeignOriginError) as caught:
            await blueprint.session.get(url)
        token = await blueprint.session.access_token
    assert network.requests == []
    assert caught.value.blueprint is blueprint
    assert token not in str(caught.value)


@pytest.mark.parametrize("withhold_token", [False, True])
@pytest.mark.parametrize(
    ("url", "params"),
    [
        ("https://[::1", None),
        ("https://a:b/", None),
        ("https://a\r\n.test/", None),
        ("/users/\ud800", None),
        ("/users", {"name": "\ud800"}),
        ("/users", {"name": "a" * 70_000}),
    ],
)
async def test_no_url_at_all(dev_provider, url, params, withhold_token):
    """R6: neither is anything sent to what cannot be read."""
    app, blueprint, network = world(dev_provider)
    async with app.app_context():
        with pytest.raises(ForeignOriginError, match="not a URL") as caught:
            await blueprint.session.get(
                url, params=params, withhold_token=withhold_token
            )
    assert caught.value.blueprint is blueprint
    assert caught.value.__context__ is None  # the library's errors hold the URL
    assert network.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "https://provider.test/api/user",
        "https://provider.test:443/api/user",
        "HTTPS://PROVIDER.test/api/user",
        "https://provider.test/api/user?to=https://other.test#x",
    ],
)
async def test_own_origin(dev_provider, url):
    """R6: an absolute URL of base_url's own origin gets the token."""
    app, blueprint, network = world(dev_provider)
    async with app.app_context():
        assert (await blueprint.session.get(url)).json()["login"] == "alice"
    [request] = network.requests
    assert request.url.host == "provider.test"


@pytest.mark.parametrize(
    ("base_url", "url", "expected"),
    [
        ("/api/", "user", "/api/user"),
        ("/api/", "/user", "/api/user"),
        ("/api", "user", "/api/user"),
        ("/api", "/user", "/api/user"),
        ("/api", "/user/repos?page=2&q=/x", "/api/user/repos?page=2&q=/x"),
        ("/api/", "", "/api/"),
        ("/api", "?page=2", "/api/?page=2"),
        ("/api/", "user#part", "/api/user"),
        ("/api/", "/a:b", "/api/a:b"),
        ("/api/", "/a/https://other.test/", "/api/a/https://other.test/"),
        ("/api/", "a%2Fb", "/api/a%2Fb"),
        ("/api/", "ü x", "/api/%C3%BC%20x"),
        ("", "/user", "/user"),
        ("", "user", "/user"),
        ("/v1/users/", "me/", "/v1/users/me/"),
    ],
)
async def test_base_url(dev_provider, base_url, url, expected):
    """DESIGN 5.8: "/user" and "user" both land under the base path."""
    base = f"https://provider.test{base_url}"
    app, blueprint, network = world(dev_provider, base_url=base)
    async with app.app_context():
        await blueprint.session.get(url)
    [(seen, with_token, _)] = network.seen
    assert seen == f"https://provider.test{expected}"
    assert with_token


@pytest.mark.parametrize("url", ["\\\\other.test", "/\\other.test", "\\/other.test"])
async def test_backslashes(dev_provider, url):
    """R6: a path that starts strangely is a path at the provider's."""
    app, blueprint, network = world(dev_provider)
    async with app.app_context():
        await blueprint.session.get(url)
    assert [request.url.host for request in network.requests] == ["provider.test"]


async def test_no_base_url(dev_provider):
    """R6: without base_url a relative URL leads nowhere, an absolute one is foreign."""
    app, blueprint, network = world(dev_provider, base_url=None)
    async with app.app_context():
        with pytest.raises(ConfigurationError, match="no base_url"):
            await blueprint.session.get("/user")
        with pytest.raises(ForeignOriginError):
            await blueprint.session.get("https://provider.test/api/user")
    assert network.requests == []


@pytest.mark.parametrize(
    ("allowed", "url", "sent"),
    [
        (["https://files.test"], "https://files.test/x", True),
        (["https://files.test/"], "https://files.test/x", True),
        (["https://FILES.test:443"], "https://files.test/x", True),
        (["https://files.test"], "https://a.files.test/x", False),
        (["https://files.test"], "http://files.test/x", False),
        (["https://files.test"], "https://files.test:8443/x", False),
        (["https://files.test:8443"], "https://files.test:8443/x", True),
        (["https://files.test"], "https://files.test@other.test/x", False),
        (["https://files.test"], "https://me@files.test/x", False),
        (("https://a.test", "https://b.test"), "https://b.test/x", True),
        ({"https://*.files.test"}, "https://a.files.test/x", True),
        ({"https://*.files.test"}, "https://A-1.FILES.test/x", True),
        (["https://*.files.test/"], "https://a.files.test/x", True),
        (["https://*.files.test"], "https://files.test/x", False),
        (["https://*.files.test"], "https://.files.test/x", False),
        (["https://*.files.test"], "https://a.b.files.test/x", False),
        (["https://*.files.test"], "https://afiles.test/x", False),
        (["https://*.files.test"], "https://a.files.test.other.test/x", False),
        (["https://*.files.test"], "https://a.files.test./x", False),
        (["https://*.files.test"], "http://a.files.test/x", False),
        (["https://*.files.test"], "https://a.files.test:8443/x", False),
        (["https://*.files.test:8443"], "https://a.files.test:8443/x", True),
        (["https://*.files.test"], "https://localhost/x", False),
        ([], "https://files.test/x", False),
        (lambda token: ["https://files.test"], "https://files.test/x", True),
        (lambda token: [], "https://files.test/x", False),
    ],
)
async def test_allowed_origins(dev_provider, allowed, url, sent):
    """R6: `allowed_origins` are whole origins; a star is one label, never more."""
    app, blueprint, network = world(dev_provider, allowed_origins=allowed)
    async with app.app_context():
        if sent:
            await blueprint.session.get(url)
        else:
            with pytest.raises(ForeignOriginError):
                await blueprint.session.get(url)
    assert len(network.requests) == sent
    assert all(with_token for _, with_token, _ in network.seen)


async def test_origin_that_comes_with_the_token(dev_provider):
    """R6: a provider may say with the token which host its API has."""
    app, blueprint = make_app(
        dev_provider, allowed_origins=lambda token: [token["instance_url"]]
    )
    network = runtime(app).transport = Hosts(dev_provider)

    @app.get("/files")
    async def files():
        token = await blueprint.token
        url = f"{token['instance_url']}/api/user"
        return (await blueprint.session.get(url)).json()["login"]

    people = {"alice": "https://eu1.files.test", "bob": "https://us2.files.test"}
    for person, instance in people.items():
        browser = Browser(app)
        dev_provider.fault("token", Altered({"instance_url": instance}))
        await browser.login(dev_provider, person)
        assert (await browser.get("/files")).text == person
        assert network.seen[-1] == (f"{instance}/api/user", True, False)


async def test_function_of_a_copy(dev_provider):
    """R6: what a function of the token does to it stays with the function."""

    def allowed(token):
        token.clear()
        return ["https://files.test"]

    app, blueprint, network = world(dev_provider, allowed_origins=allowed)
    async with app.app_context():
        await blueprint.session.get("https://files.test/api/user")
        assert network.seen[0][1]
        assert await blueprint.session.authorized


async def test_withheld_token(dev_provider):
    """R6: without the token any URL will do."""
    app, blueprint, network = world(dev_provider)
    async with app.app_context():
        await blueprint.session.get("cookie")
        await blueprint.session.get("https://other.test/x", withhold_token=True)
    assert network.seen[1:] == [("https://other.test/x", False, False)]


async def test_never_in_a_query(dev_provider):
    """R8: a token travels in the header, never in a URL."""
    app, blueprint = make_app(dev_provider)
    network = runtime(app).transport = Hosts(dev_provider)
    clock = runtime(app).clock = Clock()
    browser = Browser(app)
    await browser.login(dev_provider)
    clock.now += 4_000
    assert (await browser.get("/me")).text == "alice"
    assert [call.endpoint for call in dev_provider.calls][-3:] == [
        "token",
        "token",
        "user",
    ]
    tokens = [token.access_token for token in dev_provider.tokens]
    for request in network.requests:
        assert "token=" not in str(request.url)
        assert not any(token in str(request.url) for token in tokens)
    assert network.requests[-1].headers["Authorization"] == f"Bearer {tokens[-1]}"


async def test_cookies_of_each_visitor(dev_provider):
    """DESIGN 5.8: what a provider sets stays with one visitor's one request."""
    app, blueprint = make_app(dev_provider)

    @app.get("/cookies")
    async def cookies():
        answers = [await blueprint.session.get("cookie") for _ in range(2)]
        return [answer.json()["cookies"] for answer in answers]

    own = {}
    for person in ("alice", "bob"):
        browser = Browser(app)
        await browser.login(dev_provider, person)
        for _ in range(2):
            first, second = (await browser.get("/cookies")).json()
            assert first == {}
            own[person] = second["dev_provider"]
        assert "dev_provider" not in browser.jar
    assert own["alice"] != own["bob"]


async def test_two_providers():
    """S15: the tokens of two blueprints go to their own hosts only."""
    one, two = DevProvider(url="https://one.test"), DevProvider(url="https://two.test")
    app, first, network = world(one)
    _, second, _ = world(two)
    async with app.app_context():
        with pytest.raises(ForeignOriginError):
            await first.session.get("https://two.test/api/user")
        with pytest.raises(ForeignOriginError):
            await second.session.get("https://one.test/api/user")
    assert network.requests == []


@pytest.mark.parametrize(
    "origins",
    [
        "https://files.test",
        ["files.test"],
        ["*.files.test"],
        ["https://*"],
        ["https://*.*.test"],
        ["http://files.test"],
        ["https://files.test/path"],
        ["https://user@files.test"],
        [""],
    ],
)
def test_origins_that_are_none(dev_provider, origins):
    """S16: what could never match, or match too much, is refused at once."""
    with pytest.raises(ConfigurationError, match="allowed_origins is a list"):
        make_app(dev_provider, allowed_origins=origins)


@pytest.mark.parametrize("url", ["../x", "/user/../../x", "a/%2e%2e/%2e%2e/x", ".."])
async def test_no_way_up(dev_provider, url):
    """R6: a path may not climb out of base_url, where other things take the token."""
    app, blueprint = make_app(dev_provider)
    async with app.app_context():
        with pytest.raises(ForeignOriginError, match="lead out of the base_url"):
            await blueprint.session.get(url, withhold_token=True)
    assert dev_provider.calls == []


async def test_cookies_of_a_host_stay_there(dev_provider):
    """S15: a cookie without a domain does not go to another host of that domain."""
    seen = []

    def answer(request):
        seen.append((request.url.host, request.headers.get("cookie")))
        return httpx2.Response(200, headers={"Set-Cookie": "visit=1"}, json={})

    app, blueprint = make_app(dev_provider)
    runtime(app).transport = httpx2.MockTransport(answer)
    async with app.app_context():
        for host in ("x.test", "a.x.test", "x.test"):
            await blueprint.session.get(f"https://{host}/", withhold_token=True)
    assert seen == [("x.test", None), ("a.x.test", None), ("x.test", "visit=1")]
