"""Behind a reverse proxy that ends TLS and serves the application under a path."""

from __future__ import annotations

import pytest
from browsing import Accounts, Browser, edited, let_people_in
from hypercorn.middleware import ProxyFixMiddleware
from support import make_app, query

from quart_dance.testing import DevProvider


class Proxy:
    """A reverse proxy: the application is at another host, by plain http.

    Like any proxy it adds to what the visitor sent of these headers, at their end.
    """

    def __init__(self, app, modern=False):
        self.app, self.modern = app, modern

    async def __call__(self, scope, receive, send):
        headers = dict(scope["headers"])
        host, scheme = headers[b"host"].decode(), scope["scheme"]
        if self.modern:
            own = {"forwarded": f"for=192.0.2.7;host={host};proto={scheme}"}
        else:
            own = {
                "x-forwarded-for": "192.0.2.7",
                "x-forwarded-host": host,
                "x-forwarded-proto": scheme,
            }
        for name, value in own.items():
            before = headers.get(name.encode())
            parts = [before.decode(), value] if before else [value]
            headers[name.encode()] = ", ".join(parts).encode()
        headers[b"host"] = b"10.0.0.7:8000"
        scope = {**scope, "scheme": "http", "headers": list(headers.items())}
        await self.app(scope, receive, send)


def behind_a_proxy(provider, mode="legacy", root_path="/app", **options):
    """Return the application, and a visitor's browser on the far side of the proxy."""
    origin = options.pop("origin", "https://shop.test")
    app, blueprint = make_app(provider, **options)
    fixed = ProxyFixMiddleware(app, mode=mode, trusted_hops=1)
    browser = Browser(Proxy(fixed, mode == "modern"), origin, root_path)
    return app, blueprint, browser


@pytest.mark.parametrize("mode", ["legacy", "modern"])
@pytest.mark.parametrize(
    ("origin", "root_path"),
    [
        ("https://shop.test", "/app"),
        ("https://shop.test:8443", "/app"),
        ("https://shop.test", "/a/b"),
        ("https://shop.test", ""),
    ],
)
async def test_redirect_uri(mode, origin, root_path):
    """R3: the redirect_uri is what the visitor sees, the same in both requests."""
    uri = f"{origin}{root_path}/login/dev/authorized"
    provider = DevProvider(redirect_uris=[uri])
    _, _, browser = behind_a_proxy(provider, mode, root_path, origin=origin)
    url = await browser.start(f"{root_path}/login/dev")
    assert query(url)["redirect_uri"] == uri
    [cookie] = browser.attempts
    assert (cookie.path, cookie.secure) == (f"{root_path}/login/dev", True)
    callback = await provider.approve(url)
    assert callback.startswith(f"{uri}?")
    response = await browser.get(callback)
    assert response.headers["Location"] == f"{root_path}/"
    assert provider.calls[-1].form["redirect_uri"] == uri
    assert browser.attempts == []
    assert (await browser.get(f"{root_path}/me")).text == "alice"


@pytest.mark.parametrize("mode", ["legacy", "modern"])
async def test_forged_in_front_of_the_proxy(dev_provider, mode):
    """R2, R3: what the visitor says of the host stands before what the proxy says."""
    _, _, browser = behind_a_proxy(dev_provider, mode)
    response = await browser.get(
        "/app/login/dev",
        x_forwarded_host="evil.test",
        x_forwarded_proto="http",
        forwarded="host=evil.test;proto=http",
    )
    asked = query(response.headers["Location"])
    assert asked["redirect_uri"] == "https://shop.test/app/login/dev/authorized"


async def test_proxy_that_is_not_known(dev_provider):
    """R3, R4: without the middleware a login is refused rather than sent astray."""
    app, _ = make_app(dev_provider)
    browser = Browser(Proxy(app), "https://shop.test")
    response = await browser.get("/login/dev")
    assert response.status_code == 500
    assert browser.jar == {}


async def test_server_name(dev_provider):
    """R3: SERVER_NAME goes together with the path of the proxy."""
    app, _, browser = behind_a_proxy(dev_provider)
    app.config["SERVER_NAME"] = "shop.test"
    url = await browser.start("/app/login/dev")
    expected = "https://shop.test/app/login/dev/authorized"
    assert query(url)["redirect_uri"] == expected
    await browser.get(await dev_provider.approve(url))
    assert (await browser.get("/app/me")).text == "alice"


async def test_path_that_only_the_proxy_knows(dev_provider):
    """R3, R4: redirect_uri= helps where the proxy strips its path without a word."""
    uri = "https://shop.test/app/login/dev/authorized"
    app, _ = make_app(dev_provider, redirect_uri=uri, redirect_url="/app/")
    fixed = ProxyFixMiddleware(app)

    async def stripping(scope, receive, send):
        path = scope["path"].removeprefix("/app")
        await fixed({**scope, "path": path}, receive, send)

    browser = Browser(Proxy(stripping), "https://shop.test")
    url = await browser.start("/app/login/dev")
    assert query(url)["redirect_uri"] == uri
    response = await browser.get(await dev_provider.approve(url))
    assert response.headers["Location"] == "/app/"
    assert browser.attempts == []
    assert (await browser.get("/app/me")).text == "alice"


@pytest.mark.parametrize(
    ("value", "location"),
    [
        ("/app/private?x=1", "/app/private?x=1"),
        ("/elsewhere", "/elsewhere"),
        ("//evil.test", "/app/"),
    ],
)
async def test_next(dev_provider, value, location):
    """R1, R3: `next` is a path as the visitor sees it, the prefix included."""
    _, _, browser = behind_a_proxy(dev_provider)
    path = edited("/app/login/dev", ("next", value))
    response = await browser.login(dev_provider, path=path)
    assert response.headers["Location"] == location


async def test_authorization_required(dev_provider):
    """R3: a view that needs a token is come back to under the prefix."""
    app, blueprint, browser = behind_a_proxy(dev_provider)

    @app.get("/private/<name>")
    @blueprint.session.authorization_required
    async def private(name):
        return f"private {name}"

    response = await browser.get("/app/private/caf%C3%A9?x=1")
    assert response.status_code == 302
    location = response.headers["Location"]
    assert location.startswith("/app/login/dev?next=")
    response = await browser.login(dev_provider, path=location)
    assert response.headers["Location"] == "/app/private/caf%C3%A9?x=1"
    response = await browser.get(response.headers["Location"])
    assert response.text == "private café"


async def test_redirect_to(dev_provider):
    """R3: an endpoint to go to after the login is built with the prefix."""
    _, _, browser = behind_a_proxy(dev_provider, redirect_to="me")
    response = await browser.login(dev_provider, path="/app/login/dev")
    assert response.headers["Location"] == "/app/me"


async def test_links_on_our_pages(dev_provider):
    """C20, R3: the links of our own pages have the prefix too."""
    app, _, browser = behind_a_proxy(dev_provider, storage=Accounts())
    let_people_in(app)
    page = await browser.get("/app/login/dev/authorized")
    assert '<a href="/app/login/dev">' in page.text
    await browser.get("/app/be/ann")
    page = await browser.get("/app/login/dev?next=/app/x", sec_fetch_site="cross-site")
    assert '<a href="/app/login/dev?next=/app/x">' in page.text


async def test_two_tenants_of_one_host(dev_provider):
    """R3, S15: applications under two paths of one host do not meet."""
    app, _ = make_app(dev_provider)
    fixed = ProxyFixMiddleware(app)

    async def tenants(scope, receive, send):
        root_path = "/" + scope["path"].split("/")[1]
        await fixed({**scope, "root_path": root_path}, receive, send)

    browser = Browser(Proxy(tenants), "https://shop.test")
    urls = [await browser.start(f"/{name}/login/dev") for name in ("one", "two")]
    paths = sorted(cookie.path for cookie in browser.attempts)
    assert paths == ["/one/login/dev", "/two/login/dev"]
    callback = await dev_provider.approve(urls[0])
    lost = await browser.get(callback.replace("/one/", "/two/"))
    assert lost.status_code == 400
    assert (await browser.get(callback)).headers["Location"] == "/one/"
