"""DevProvider goes wrong on demand, and in no other way."""

from __future__ import annotations

import asyncio
import threading

import pytest
from by_hand import (
    CALLBACK,
    authorization_url,
    call,
    client_of,
    code_form,
    exchange,
    new_code,
    new_token,
    params_of,
    refresh_form,
)

from quart_dance.testing import faults
from quart_dance.testing.faults import Altered, Answer, Hang, Slow


@pytest.mark.parametrize(
    ("fault", "status", "content_type", "body"),
    [
        (faults.SERVER_ERROR, 500, "application/json", b"Internal Server Error"),
        (faults.BAD_GATEWAY, 502, "text/html; charset=utf-8", b"<h1>502"),
        (faults.HTML_PAGE, 200, "text/html; charset=utf-8", b"<!doctype html>"),
        (faults.TOO_MANY_REQUESTS, 429, "application/json", b"Slow down"),
        (faults.NO_CONTENT, 204, None, b""),
        (faults.EMPTY, 200, "application/json", b""),
        (faults.TRUNCATED, 200, "application/json", b'{"access_token": "cut-'),
        (faults.DEAD_REFRESH_TOKEN, 400, "application/json", b'"invalid_grant"'),
        (Answer(200, b"\xff"), 200, None, b"\xff"),
        (Answer.json(float("nan")), 200, "application/json", b"NaN"),
    ],
)
async def test_canned_answers(dev_provider, fault, status, content_type, body):
    """A canned answer comes once, the provider does nothing, then all is well."""
    form = code_form(await new_code(dev_provider))
    dev_provider.fault("token", fault)
    response = await exchange(dev_provider, form)
    assert response.status_code == status
    assert response.headers.get("Content-Type") == content_type
    assert body in response.content
    assert dev_provider.tokens == []
    assert (await exchange(dev_provider, form)).status_code == 200


async def test_retry_after(dev_provider):
    """Too many requests say when to come again."""
    dev_provider.fault("user", faults.TOO_MANY_REQUESTS)
    assert (await call(dev_provider, "any")).headers["Retry-After"] == "30"


async def test_order_and_times(dev_provider):
    """Faults come in the order in which they were armed, each so many times."""
    dev_provider.fault("user", faults.SERVER_ERROR, times=2)
    dev_provider.fault("user", faults.NO_CONTENT)
    dev_provider.fault("repos", faults.EMPTY)
    seen = [(await call(dev_provider, "unknown")).status_code for _ in range(4)]
    assert seen == [500, 500, 204, 401]
    dev_provider.clear_faults()
    assert (await call(dev_provider, "unknown", "user/repos")).status_code == 401


async def test_unknown_endpoint(dev_provider):
    """A fault that could never happen is refused."""
    with pytest.raises(ValueError, match="No endpoint 'tokens'"):
        dev_provider.fault("tokens", faults.EMPTY)
    with pytest.raises(ValueError, match=r"NoCode\(\) can only happen at 'authorize'"):
        dev_provider.fault("token", faults.NoCode())


async def test_altered(dev_provider):
    """The real answer may come with other members, or without some."""
    fault = Altered({"token_type": "mac", "scope": None}, without={"refresh_token"})
    dev_provider.fault("token", fault)
    token = await new_token(dev_provider)
    assert token["token_type"] == "mac"
    assert token["scope"] is None
    assert "refresh_token" not in token
    assert (await call(dev_provider, token["access_token"])).status_code == 200


async def test_form_encoded(dev_provider):
    """The real answer may come form-encoded."""
    dev_provider.fault("token", faults.FormEncoded())
    response = await exchange(dev_provider, code_form(await new_code(dev_provider)))
    assert response.headers["Content-Type"].startswith(
        "application/x-www-form-urlencoded"
    )
    token = params_of("?" + response.text)
    assert (await call(dev_provider, token["access_token"][0])).status_code == 200


@pytest.mark.parametrize("after", [False, True])
async def test_hang(dev_provider, after):
    """A request hangs until it is released, before the provider's work or after."""
    form = code_form(await new_code(dev_provider))
    dev_provider.fault("token", Hang(after=after))
    request = asyncio.create_task(exchange(dev_provider, form))
    await dev_provider.held()
    assert len(dev_provider.tokens) == int(after)
    assert not request.done()
    assert dev_provider.release() == 1
    assert (await request).status_code == 200


@pytest.mark.parametrize("after", [False, True])
async def test_caller_leaves(dev_provider, after):
    """Whoever stops waiting for a hanging request leaves nothing behind."""
    token = await new_token(dev_provider)
    dev_provider.fault("token", Hang(after=after))
    form = refresh_form(token["refresh_token"])
    request = asyncio.create_task(exchange(dev_provider, form))
    await dev_provider.held()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert dev_provider.release() == 0
    again = await exchange(dev_provider, form)
    assert again.status_code == (400 if after else 200)


async def test_two_hang_at_once(dev_provider):
    """A test may wait until several requests hang, and release them from a thread."""
    dev_provider.fault("user", Hang(), times=2)
    both = asyncio.create_task(dev_provider.held(2))
    token = dev_provider.issue_token()["access_token"]
    first = asyncio.create_task(call(dev_provider, token))
    await dev_provider.held(1)
    assert not both.done()
    second = asyncio.create_task(call(dev_provider, token))
    await both
    thread = threading.Thread(target=dev_provider.release)
    thread.start()
    assert (await first).status_code == (await second).status_code == 200
    thread.join()


@pytest.mark.parametrize("after", [False, True])
async def test_slow(dev_provider, after):
    """A slow answer comes, or does not if the caller's patience ends before."""
    token = dev_provider.issue_token()["access_token"]
    dev_provider.fault("user", Slow(0, after=after))
    assert (await call(dev_provider, token)).status_code == 200
    dev_provider.fault("user", Slow(3600, after=after))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await call(dev_provider, token)


@pytest.mark.parametrize(
    ("fault", "codes", "states"),
    [
        (faults.WrongState(), 1, ["xyz"]),
        (faults.NoCode(), 0, []),
        (faults.TwoCodes(), 2, []),
    ],
)
async def test_callback_faults(dev_provider, fault, codes, states):
    """The visitor may come back with a wrong state, no code, or two."""
    dev_provider.fault("authorize", faults.Slow(0))
    dev_provider.fault("authorize", fault)
    params = params_of(await dev_provider.approve(authorization_url()))
    assert len(params.get("code", [])) == codes
    assert len(params["state"]) == 1
    assert (params["state"] != ["xyz"]) == bool(states)
    params = params_of(await dev_provider.approve(authorization_url()))
    assert (len(params["code"]), params["state"]) == (1, ["xyz"])


async def test_authorize_fault(dev_provider):
    """The authorization page itself may fail."""
    dev_provider.fault("authorize", faults.BAD_GATEWAY)
    with pytest.raises(ValueError, match="502 and sends nobody back"):
        await dev_provider.approve(authorization_url())


async def choose(provider, fault: str, decision: str = "allow") -> str:
    """Press a button after choosing a fault on the consent page."""
    async with client_of(provider) as client:
        page = await client.get(authorization_url())
        ticket = page.text.split('name="ticket" value="')[1].split('"')[0]
        form = {"ticket": ticket, "person": "alice", "decision": decision}
        response = await client.post(
            "https://provider.test/consent", data={**form, "fault": fault}
        )
    assert response.status_code == 303
    return response.headers["Location"]


async def test_fault_of_one_login(dev_provider):
    """A fault chosen on the page spoils this login's token request, no other."""
    spoiled = params_of(await choose(dev_provider, "token-500"))["code"][0]
    good = params_of(await choose(dev_provider, ""))["code"][0]
    assert (await exchange(dev_provider, code_form(good))).status_code == 200
    assert (await exchange(dev_provider, code_form(spoiled))).status_code == 500
    assert (await exchange(dev_provider, code_form(spoiled))).status_code == 200


async def test_callback_fault_chosen(dev_provider):
    """A fault of the way back may be chosen on the page, a made-up one is none."""
    assert "code" not in params_of(await choose(dev_provider, "no-code"))
    assert "code" in params_of(await choose(dev_provider, "nonsense"))


async def test_fault_of_a_denied_login(dev_provider):
    """A token fault chosen for a login that is denied spoils nothing."""
    callback = await choose(dev_provider, "token-500", decision="deny")
    assert callback.startswith(CALLBACK + "?error=access_denied")
    token = dev_provider.issue_token()["access_token"]
    assert (await call(dev_provider, token)).status_code == 200
