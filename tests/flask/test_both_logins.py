"""Logins, and what visitors and strangers send, under Quart and under Flask."""

from __future__ import annotations

import asyncio
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote

import pytest
from accounts import accounts
from rooms import Page, Room, both, now
from support import query

CALLBACK = "https://app.test/login/dev/authorized"
HTML, JSON = {"Accept": "text/html"}, {"Accept": "application/json"}


def attempt_cookies(page: Page) -> list[Any]:
    """Return the cookies of login attempts that an answer sets."""
    found = []
    for header in page.headers.getlist("Set-Cookie"):
        cookies = SimpleCookie(header)
        found += [morsel for name, morsel in cookies.items() if name.startswith("qd_")]
    return found


@both
async def test_login(dev_provider, kind):
    """C11 C13: the URL carries a state and a challenge; a sealed cookie the rest."""
    room = Room(kind, dev_provider, scope=["profile", "email"])
    page = await room.visitor().get("/login/dev")
    asked = query(page.location or "")
    assert page.status == 302 and asked["scope"] == "profile email"
    assert asked["redirect_uri"] == CALLBACK
    assert (asked["response_type"], asked["code_challenge_method"]) == ("code", "S256")
    [cookie] = attempt_cookies(page)
    assert cookie["httponly"] and cookie["secure"] and cookie["samesite"] == "Lax"
    assert (cookie["path"], cookie["max-age"]) == ("/login/dev", "600")
    assert asked["state"] not in cookie.key + cookie.value
    assert page.headers["Cache-Control"] == "no-store"
    assert page.headers["Referrer-Policy"] == "no-referrer"


@both
async def test_two_tabs(dev_provider, kind):
    """C6: two logins in one browser, one begun within the other, both succeed."""
    room = Room(kind, dev_provider)
    visitor = room.visitor()
    first, second = [await room.start(visitor) for _ in range(2)]
    assert len(visitor.attempts) == 2
    for begun, person in ((first, "alice"), (second, "bob")):
        page = await visitor.get(await dev_provider.approve(begun, person=person))
        assert page.status == 302
        assert (await visitor.get("/me")).text == person
    assert visitor.attempts == []


@both
async def test_many_attempts(dev_provider, kind):
    """C7 C11: a hundred logins leave five cookies; each has secrets of its own."""
    room = Room(kind, dev_provider)
    visitor = room.visitor()
    asked = [query(await room.start(visitor)) for _ in range(100)]
    assert len(visitor.attempts) == 5
    assert len({found["state"] for found in asked}) == 100
    assert len({found["code_challenge"] for found in asked}) == 100
    page = await visitor.get("/be/ada")
    assert len(page.headers.get("Set-Cookie", "")) < 600


@both
async def test_interleaved_logins(dev_provider, kind):
    """C11: twenty visitors log in at once, and each becomes who they are."""
    room = Room(kind, dev_provider)
    visitors = [room.visitor() for _ in range(20)]
    begun = await asyncio.gather(*(room.start(visitor) for visitor in visitors))
    people = ["alice", "bob"] * 10
    for number in reversed(range(20)):
        url = await dev_provider.approve(begun[number], person=people[number])
        assert (await visitors[number].get(url)).status == 302
    pages = await asyncio.gather(*(visitor.get("/me") for visitor in visitors))
    assert [page.text for page in pages] == people


@both
@pytest.mark.parametrize("method", ["HEAD", "POST"])
@pytest.mark.parametrize("path", ["/login/dev", "/login/dev/authorized"])
async def test_methods(dev_provider, kind, method, path):
    """C19: a login and its callback are opened with GET, and nothing else."""
    visitor = Room(kind, dev_provider).visitor()
    page = await visitor.get(path, method=method)
    assert page.status == 405 and visitor.attempts == []


@both
async def test_cross_site(dev_provider, kind):
    """C20: a foreign page cannot connect the account of who is logged in."""
    room = Room(kind, dev_provider, storage=accounts(kind))
    foreign = {"Sec-Fetch-Site": "cross-site"}
    visitor = room.visitor()
    assert (await visitor.get("/login/dev", foreign)).status == 302  # a stranger
    await visitor.get("/be/ada")
    page = await visitor.get("/login/dev?next=/here", foreign)
    assert page.status == 200 and 'href="/login/dev?next=/here"' in page.text
    assert (await visitor.get("/login/dev?next=/here")).status == 302


@both
@pytest.mark.parametrize(
    "wanted",
    [
        "//evil.test",
        "///evil.test",
        "/\\evil.test",
        "https:evil.test",
        "https://evil.test/",
        "http:///evil.test",
        "\t//evil.test",
        "/\r\nSet-Cookie: a=b",
        "javascript:alert(1)",
        "https://app.test@evil.test",
        "evil.c\u2100.app",
        "",
    ],
)
async def test_hostile_next(dev_provider, kind, wanted):
    """R1: `next` leads to a path of this application, or it is not followed."""
    room = Room(kind, dev_provider)
    path = f"/login/dev?next={quote(wanted, safe='')}"
    page = await room.login(room.visitor(), path=path)
    assert (page.status, page.location) == (302, "/")


@both
@pytest.mark.parametrize("wanted", ["/ok?x=1", "/ok?x=1#y", "/a/b"])
async def test_next(dev_provider, kind, wanted):
    """R1: a path of this application is where the visitor ends up."""
    room = Room(kind, dev_provider)
    path = f"/login/dev?next={quote(wanted, safe='')}"
    assert (await room.login(room.visitor(), path=path)).location == wanted


@both
@pytest.mark.parametrize("path", ["/login/dev", "/login/dev/authorized?state=a"])
@pytest.mark.parametrize("host", ["", "a b", "localhost:", "localhost:99999", "a@b"])
async def test_no_host(dev_provider, kind, host, path, caplog):
    """R2: a Host header that names no host is a bad request, and nothing is logged."""
    room = Room(kind, dev_provider)
    page = await room.visitor().get(path, {"Host": host})
    assert page.status == 400 and "Host header" in page.text
    assert caplog.records == []


@both
async def test_no_host_needed(dev_provider, kind):
    """R4: with redirect_uri= the Host header does not matter."""
    room = Room(kind, dev_provider, redirect_uri=CALLBACK)
    page = await room.visitor().get("/login/dev", {"Host": "a b"})
    assert query(page.location or "")["redirect_uri"] == CALLBACK


@both
@pytest.mark.filterwarnings("ignore:Current server name")  # Quart's, of the Host
async def test_host_header(dev_provider, kind):
    """R2: with SERVER_NAME no Host header changes the redirect URI."""
    room = Room(kind, dev_provider)
    room.app.config["SERVER_NAME"] = "app.test"
    room.app.config["PREFERRED_URL_SCHEME"] = "https"
    evil = type(room.visitor())(room.app, "evil.test")
    page = await evil.get("/login/dev", {"X-Forwarded-Host": "evil.test"})
    assert "evil" not in (page.location or "")
    begun = await room.start(room.visitor())
    assert query(begun)["redirect_uri"] == CALLBACK


@both
@pytest.mark.parametrize("allowed", [False, True])
async def test_insecure_callback(dev_provider, kind, allowed):
    """R4: a callback over plain http is for loopback, or for who asks for it."""
    uri = "http://app.test/login/dev/authorized"
    options = {"redirect_uri": uri, "allow_insecure_redirect": allowed}
    page = await Room(kind, dev_provider, **options).visitor().get("/login/dev")
    assert page.status == (302 if allowed else 500)
    if allowed:
        assert query(page.location or "")["redirect_uri"] == uri


@both
@pytest.mark.parametrize(
    "sent",
    [
        "state=%ff%fe&code=%ff",
        "state=t%C3%B6k%E2%9C%93&code=c",
        "state=%00&code=%0d%0aSet-Cookie:a=b",
        "%",
        "&&&===&&",
        "access_token=abc&token_type=bearer&state=s",
        f"state=s&code={'a' * 100_000}",
        f"state={'a' * 100_000}&code=c",
    ],
    ids="bytes unicode controls percent nothing implicit long-code long-state".split(),
)
async def test_hostile_callback(dev_provider, kind, sent):
    """C18 C19 C23: whatever the callback is given, it is a clean refusal."""
    room = Room(kind, dev_provider)
    visitor = room.visitor()
    await room.start(visitor)
    page = await visitor.get(f"{CALLBACK}?{sent}")
    assert page.status in (400, 414, 431)
    assert dev_provider.count("token") == 0
    assert (await visitor.get("/me")).text == "nobody"


@both
async def test_hostile_error(dev_provider, kind):
    """C16: what the provider says of an error is shown as text, and on one line."""
    room = Room(kind, dev_provider, use_pkce=False)
    visitor = room.visitor()
    state = query(await room.start(visitor))["state"]
    said = quote("<script>alert('1')</script>\r\nSet-Cookie: a=b" + "x" * 10_000)
    url = f"{CALLBACK}?state={state}&error=server_error&error_description={said}"
    with room.failures() as heard:
        page = await visitor.get(url)
    [(code, description, _), _] = heard
    assert code == "server_error" and "\n" not in description
    assert len(description) < 1000
    assert "<script>" not in page.text and not page.headers.get("a")


@both
@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [("GET", HTML, 302), ("POST", HTML, 401), ("GET", JSON, 401)],
)
async def test_page_without_a_token(dev_provider, kind, method, headers, status):
    """A view that needs a token sends a GET to the login, and refuses the rest."""
    room = Room(kind, dev_provider)

    async def closed() -> Any:
        return (await now(room.blueprint.session.get("user"))).json()

    room.page("/closed", closed, method)
    page = await room.visitor().get("/closed?a=1", headers, method)
    assert page.status == status
    if status == 302:
        assert page.location == "/login/dev?next=/closed?a%3D1"
    elif headers is JSON:
        assert '"error":"not_authorized"' in page.text.replace(" ", "")
    else:
        assert 'href="/login/dev"' in page.text
