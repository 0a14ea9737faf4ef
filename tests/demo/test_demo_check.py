"""The check, and the two ports that it walks between."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing

import pytest
from ports import free_port, occupied

from quart_dance.demo.check import check
from quart_dance.demo.serve import Demo, PortError, create_demo, listen, port_of
from quart_dance.testing.faults import (
    DEAD_REFRESH_TOKEN,
    SERVER_ERROR,
    Altered,
    Answer,
)

STEPS = [
    "index page: nobody is logged in",
    "private page: sends to the login, which will lead back",
    "login: sends to the provider, with state and PKCE",
    "provider: asks who is there, and for consent",
    "provider: consent given, sends back with a code",
    "callback: one token request, then the private page",
    "index page: profile and repositories from the API",
    "another browser: nobody is logged in there",
    "access token expired: one refresh, the page as before",
    "callback opened again: refused",
    "callback with a forged state: refused",
    "consent denied: a page says so, the old login stays",
    "log-out sent by another site: refused",
    "log out: the provider has revoked the token",
    "index page: nobody is logged in any more",
]


async def walk(demo: Demo, fault: str = "") -> tuple[bool, list[str]]:
    """Serve and check; return the outcome and the lines."""
    lines: list[str] = []
    async with demo.serving():
        return await check(demo, lines.append, fault=fault), lines


async def test_all_is_well(capfd: pytest.CaptureFixture[str]) -> None:
    """C2, C3, C5, C15, F5: every step of the dance has its line, and all are ok."""
    ok, lines = await walk(create_demo(0, 0))
    assert ok
    assert len(lines) == 16
    for title, line in zip(STEPS, lines, strict=False):
        assert re.fullmatch(rf"ok +\d+ ms  {re.escape(title)}", line), line
    assert re.fullmatch(r"All 15 steps are ok, \d+ ms in all\.", lines[-1])
    assert capfd.readouterr() == ("", "")


# What can be wrong: each spoils a demo before it is served.


def no_token(demo: Demo) -> None:
    demo.provider.fault("token", SERVER_ERROR)


def two_people(demo: Demo) -> None:
    demo.provider.fault("authorize", Answer.html("<title>Out of order</title>", 503))


def no_user(demo: Demo) -> None:
    demo.provider.fault("user", SERVER_ERROR, times=2)


def other_user(demo: Demo) -> None:
    demo.provider.fault("user", Altered({"name": "Mallory"}))


def no_refresh(demo: Demo) -> None:
    demo.provider.policy.issue_refresh_token = False


def dead_refresh(demo: Demo) -> None:
    demo.provider.fault("token", Altered({}))
    demo.provider.fault("token", DEAD_REFRESH_TOKEN)


def no_revocation(demo: Demo) -> None:
    demo.provider.fault("revoke", SERVER_ERROR)


def fake_revocation(demo: Demo) -> None:
    demo.provider.fault("revoke", Answer(200))


def no_secret_key(demo: Demo) -> None:
    demo.app.secret_key = None


@pytest.mark.parametrize(
    ("spoil", "step", "expected", "seen"),
    [
        (no_secret_key, 3, "a redirect to http://127.0.0.1:*", "500, 500 Internal*"),
        (two_people, 4, "200", "503, Out of order"),
        (no_token, 6, "a redirect to http://127.0.0.1:*", "502, The login failed"),
        (no_user, 6, "200", "500, 500 Internal Server Error"),
        (other_user, 6, "'Alice Liddell' on the page", "200, The private page"),
        (no_refresh, 9, "200", "302 to /login/dev"),
        (dead_refresh, 9, "200", "302 to /login/dev"),
        (no_revocation, 14, "a redirect to *", "502, DevProvider does not answer"),
        (fake_revocation, 14, "no token alive at the provider", "1"),
    ],
)
async def test_something_is_wrong(
    spoil: Callable[[Demo], None], step: int, expected: str, seen: str
) -> None:
    """A step that fails says what it expected and what it saw, and is the last."""
    demo = create_demo(0, 0)
    spoil(demo)
    ok, lines = await walk(demo)
    assert not ok
    assert all(line.startswith("ok ") for line in lines[: step - 1])
    failed, *details = lines[step - 1 :]
    assert re.fullmatch(rf"FAILED +\d+ ms  {re.escape(STEPS[step - 1])}", failed)
    assert _matches(f"expected: {expected}", details[0].strip())
    assert _matches(f"seen:     {seen}", details[1].strip())
    assert lines[-1] == f"Step {step} of 15 failed; the check stops there."


def _matches(pattern: str, text: str) -> bool:
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text))


async def test_what_was_logged() -> None:
    """A failed step repeats what the library has logged meanwhile, secrets apart."""
    demo = create_demo(0, 0)
    demo.provider.fault("token", SERVER_ERROR)
    _, lines = await walk(demo)
    assert lines[-2].strip() == (
        "logged:   Login with 'DevProvider' failed: server_error: the provider "
        "answered with status 500"
    )


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ("wrong-state", "400, The login failed"),
        ("no-code", "400, The login failed"),
        ("two-codes", "400, The login failed"),
        ("token-html", "502, The login failed"),
    ],
)
async def test_fault(fault: str, seen: str) -> None:
    """T1, C3, C4, C17: a fault chosen on the consent page reaches the callback."""
    ok, lines = await walk(create_demo(0, 0), fault)
    assert not ok
    assert lines[5].startswith("FAILED")
    assert lines[7].strip() == f"seen:     {seen}"


async def test_silent_server() -> None:
    """A server that is gone is a failed step, not a traceback."""
    demo = create_demo(0, 0)
    demo.app_socket.close()
    demo.provider_socket.close()
    lines: list[str] = []
    assert not await check(demo, lines.append)
    assert lines[0].startswith("FAILED")
    assert lines[2].strip().startswith("seen:     ConnectError: ")


def test_next_free_port() -> None:
    """A port that somebody listens on is left to them; the next free one is taken."""
    with closing(listen(0)) as first, closing(listen(port_of(first))) as second:
        assert port_of(second) > port_of(first)


def test_two_at_once() -> None:
    """Provider and application may ask for one port; they get two."""
    port = free_port()
    demo = create_demo(port, port)
    with demo.app_socket, demo.provider_socket:
        assert demo.provider_port > demo.port >= port
        assert demo.provider.url == f"http://127.0.0.1:{demo.provider_port}"


def test_no_port_at_all() -> None:
    """Where no port is free, that is what the error says, and none is kept."""
    port = free_port()
    with occupied(65535):
        with pytest.raises(PortError, match="from 65535 to 65535 is taken"):
            create_demo(port, 65535)
    with closing(listen(port)) as sock:
        assert port_of(sock) == port


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_redirect_uris(host: str) -> None:
    """The provider sends people back to its application, by either name, only."""
    demo = create_demo(0, 0)
    with demo.app_socket, demo.provider_socket:
        client = demo.app.test_client()
        origin = f"{host}:{demo.port}"
        login = await client.get("/login/dev", headers={"Host": origin})
        url = login.headers["Location"]
        callback = await demo.provider.approve(url)
        assert callback.startswith(f"http://{origin}/login/dev/authorized?code=")
        with pytest.raises(ValueError, match="answers 400"):
            await demo.provider.approve(url.replace(f"{demo.port}", "8000"))
