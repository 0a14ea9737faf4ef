"""The redirect_uri, the provider's URLs, and what must be set up for a login."""

from __future__ import annotations

import re

import pytest
from browsing import Browser, Hosts
from quart import Quart, got_request_exception
from support import make_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.contrib.github import make_github_blueprint
from quart_dance.errors import ConfigurationError
from quart_dance.testing import DevProvider

CALLBACK = "https://app.test/login/dev/authorized"
FORWARDED = {
    "x_forwarded_host": "evil.test",
    "x_forwarded_proto": "http",
    "x_forwarded_port": "81",
    "x_forwarded_prefix": "/evil",
    "x_original_host": "evil.test",
    "forwarded": "host=evil.test;proto=http",
}


async def misconfigured(app: Quart, url: str, expected: str) -> None:
    """Open a page that must say what is not set up, to developers only."""
    browser = Browser(app, "/".join(url.split("/")[:3]))
    raised = []

    def receiver(sender, exception):
        raised.append(exception)

    with got_request_exception.connected_to(receiver, app):
        response = await browser.get(url)
    assert response.status_code == 500
    assert "Location" not in response.headers and browser.jar == {}
    [error] = raised
    assert type(error) is ConfigurationError
    assert re.search(expected, str(error))
    assert str(error) not in response.text


@pytest.mark.parametrize("options", [{}, {"redirect_uri": CALLBACK}])
async def test_forwarded_by_anybody(dev_provider, options):
    """R2: without a trusted proxy nobody's word about the host counts."""
    app, _ = make_app(dev_provider, **options)
    response = await Browser(app).get("/login/dev", **FORWARDED)
    assert query(response.headers["Location"])["redirect_uri"] == CALLBACK


async def test_host_header_with_redirect_uri(dev_provider):
    """R2, R4: with redirect_uri= the Host header changes nothing."""
    app, _ = make_app(dev_provider, redirect_uri=CALLBACK)
    response = await Browser(app).get("/login/dev", host="evil.test")
    assert query(response.headers["Location"])["redirect_uri"] == CALLBACK


async def test_host_header_without_anything():
    """R2: a redirect_uri of another host is one that the provider does not know."""
    provider = DevProvider(redirect_uris=[CALLBACK])
    app, _ = make_app(provider)
    response = await Browser(app).get("/login/dev", host="evil.test")
    with pytest.raises(ValueError, match="sends nobody back"):
        await provider.approve(response.headers["Location"])
    await provider.approve(await Browser(app).start())


@pytest.mark.filterwarnings("ignore:Current server name")
@pytest.mark.parametrize("host", ["evil.test", "app.test.evil.test", "evil.app.test"])
async def test_host_header_with_server_name(dev_provider, host):
    """R2: with SERVER_NAME another Host gets no login at all, or the right one."""
    app, _ = make_app(dev_provider)
    app.config["SERVER_NAME"] = "app.test"
    response = await Browser(app).get("/login/dev", host=host)
    assert response.status_code == 404
    assert (await Browser(app).login(dev_provider)).status_code == 302
    assert dev_provider.calls[-1].form["redirect_uri"] == CALLBACK


@pytest.mark.parametrize("host", ["app.test@evil.test", "evil.test\\@app.test"])
async def test_host_header_with_a_user(dev_provider, host):
    """R2, R9: a host that hides another one is sent to no provider."""
    app, _ = make_app(dev_provider)
    response = await Browser(app).get("/login/dev", host=host)
    assert response.status_code >= 400


@pytest.mark.parametrize(
    ("server_name", "prefer_secure", "origin", "expected"),
    [
        ("app.test", False, "https://app.test", CALLBACK),
        ("app.test", True, "http://app.test", CALLBACK),
        (None, True, "http://app.test", CALLBACK),
        (
            "app.test:8443",
            False,
            "https://app.test:8443",
            "https://app.test:8443/login/dev/authorized",
        ),
        (
            "localhost:5000",
            False,
            "http://localhost:5000",
            "http://localhost:5000/login/dev/authorized",
        ),
    ],
)
async def test_configured_host(
    dev_provider, server_name, prefer_secure, origin, expected
):
    """R2: SERVER_NAME and PREFER_SECURE_URLS say where the callback is."""
    app, _ = make_app(dev_provider)
    app.config["SERVER_NAME"] = server_name
    app.config["PREFER_SECURE_URLS"] = prefer_secure
    url = await Browser(app, origin).start()
    assert query(url)["redirect_uri"] == expected


async def test_explicit_redirect_uri(dev_provider):
    """R4: redirect_uri= wins over SERVER_NAME and the request, in both requests."""
    uri = "https://front.test/somewhere/login/dev/authorized?tenant=1"
    app, _ = make_app(dev_provider, redirect_uri=uri)
    app.config["SERVER_NAME"] = "app.test"
    browser = Browser(app)
    url = await browser.start()
    assert query(url)["redirect_uri"] == uri
    # Login and callback have no path in common but the root.
    assert [cookie.path for cookie in browser.attempts] == ["/"]
    callback = await dev_provider.approve(url)
    assert callback.startswith(f"{uri}&")
    code_and_state = callback.partition("&")[2]
    await browser.get(f"/login/dev/authorized?{code_and_state}")
    assert dev_provider.calls[-1].form["redirect_uri"] == uri
    assert browser.attempts == []
    assert (await browser.get("/me")).text == "alice"


@pytest.mark.parametrize(
    ("options", "origin"),
    [
        ({}, "http://app.test"),
        ({}, "http://192.0.2.1:5000"),
        ({}, "http://localhost.evil.test"),
        ({"redirect_uri": "http://app.test/cb"}, "https://app.test"),
        ({"redirect_uri": "ftp://app.test/cb"}, "https://app.test"),
        ({"redirect_uri": "/login/dev/authorized"}, "https://app.test"),
        ({"redirect_uri": "https://a@b.test/cb"}, "https://app.test"),
    ],
)
async def test_insecure_redirect_uri(dev_provider, options, origin):
    """R4: a callback by plain http is refused, and the error names the way out."""
    app, _ = make_app(dev_provider, **options)
    expected = "ProxyFixMiddleware.*redirect_uri=.*allow_insecure_redirect=True"
    await misconfigured(app, f"{origin}/login/dev", expected)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:5000",
        "http://127.0.0.1:5000",
        "http://127.8.9.1",
        "http://[::1]:5000",
        "http://app.localhost",
    ],
)
async def test_loopback(dev_provider, origin):
    """R4: on loopback http will do."""
    app, _ = make_app(dev_provider)
    url = await Browser(app, origin).start()
    assert query(url)["redirect_uri"] == f"{origin}/login/dev/authorized"


async def test_allowed_insecure_redirect(dev_provider):
    """R4: plain http elsewhere only for those who ask for it."""
    app, _ = make_app(dev_provider, allow_insecure_redirect=True)
    response = await Browser(app, "http://app.test").get("/login/dev")
    asked = query(response.headers["Location"])
    assert asked["redirect_uri"] == "http://app.test/login/dev/authorized"
    assert "Secure" not in response.headers["Set-Cookie"]


URLS = "base_url authorization_url token_url auto_refresh_url".split()
BAD_URLS = [
    "http://provider.test/x",
    "http://10.0.0.1/x",
    "http://localhost.evil.test/x",
    "https://provider.test@evil.test/x",
    "https://user:password@provider.test/x",
    "https://provider.test\\@evil.test/x",
    "ftp://provider.test/x",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "https://provider.test:port/x",
    "https://provider.test:99999/x",
]


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_provider_urls(dev_provider, name, url):
    """R9: a provider's URL is https without a user name, or the blueprint fails."""
    with pytest.raises(ConfigurationError, match=f"{name} of 'dev' must be an https"):
        make_app(dev_provider, **{name: url})


@pytest.mark.parametrize("url", ["https:///x", "https://", "/api", "https://[::1/x"])
def test_base_url_without_a_host(dev_provider, url):
    """R9: the base of all relative URLs names its host."""
    with pytest.raises(ConfigurationError, match="base_url of 'dev' must be an https"):
        make_app(dev_provider, base_url=url)


@pytest.mark.parametrize("name", ["authorization_url", "token_url"])
async def test_bad_provider_urls_in_the_config(dev_provider, name):
    """R9: the same for a URL that comes from the app config, when it is used."""
    app, blueprint = make_app(dev_provider, **{name: None})
    blueprint.from_config[name] = "THE_URL"
    app.config["THE_URL"] = "http://provider.test/x"
    await misconfigured(app, "https://app.test/login/dev", f"{name} of 'dev' must be")


async def test_loopback_provider():
    """R9: a provider on loopback may do without TLS."""
    provider = DevProvider(url="http://127.0.0.1:5001")
    app, _ = make_app(provider)
    network = runtime(app).transport = Hosts(provider)
    browser = Browser(app)
    await browser.login(provider)
    assert (await browser.get("/me")).text == "alice"
    assert [url for url, _, _ in network.seen] == [
        "http://127.0.0.1:5001/token",
        "http://127.0.0.1:5001/api/user",
    ]


async def test_relative_provider_urls(dev_provider):
    """R9: URLs of the provider may be relative to base_url."""
    app, _ = make_app(
        dev_provider,
        base_url="https://provider.test/api/",
        authorization_url="../authorize",
        token_url="/token",
    )
    browser = Browser(app)
    await browser.login(dev_provider)
    assert (await browser.get("/me")).text == "alice"


@pytest.mark.parametrize("path", ["/login/dev", "/login/dev/authorized?code=a&state=b"])
async def test_no_secret_key(dev_provider, path):
    """S16: without a secret key login and callback say so."""
    app, _ = make_app(dev_provider)
    app.secret_key = None
    await misconfigured(app, f"https://app.test{path}", "app.secret_key")


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("client_id", "'dev' has no client_id: set client_id="),
        ("client_secret", "no client_secret: set client_secret=.*'none'"),
        ("authorization_url", "no authorization_url: set authorization_url="),
        ("token_url", "no token_url: set token_url="),
    ],
)
async def test_missing_option(dev_provider, option, expected):
    """S16: a login without a needed option names it, before anybody is sent away."""
    app, _ = make_app(dev_provider, **{option: None})
    await misconfigured(app, "https://app.test/login/dev", expected)


@pytest.mark.parametrize("missing", ["CLIENT_ID", "CLIENT_SECRET"])
async def test_missing_config_key(missing):
    """S16: where the app config is asked, the error names the key."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    app.config |= {"GITHUB_OAUTH_CLIENT_ID": "a", "GITHUB_OAUTH_CLIENT_SECRET": "b"}
    app.config[f"GITHUB_OAUTH_{missing}"] = ""
    app.register_blueprint(make_github_blueprint(), url_prefix="/login")
    expected = rf"app\.config\['GITHUB_OAUTH_{missing}'\]"
    await misconfigured(app, "https://app.test/login/github", expected)


async def test_public_client():
    """S16: a public client needs no secret, and sends none."""
    provider = DevProvider(client_secret=None)
    app, _ = make_app(provider, token_endpoint_auth_method="none")
    browser = Browser(app)
    await browser.login(provider)
    assert provider.calls[-1].form["client_id"] == "dev-client-id"
    assert "Authorization" not in provider.calls[-1].headers
    assert (await browser.get("/me")).text == "alice"


def test_unknown_challenge_method(dev_provider):
    """C11: a challenge method that does not exist is refused at once."""
    with pytest.raises(ConfigurationError, match="'S256' or 'plain'"):
        OAuth2ConsumerBlueprint("dev", __name__, code_challenge_method="S512")
