"""The request to the token endpoint: its deadline, its size, and its discretion."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc

import httpx2
import pytest
from failures import failed_login, failures_of, make_stage
from support import Body, Transport, Visitor, query

from quart_dance.consumer.runtime import runtime
from quart_dance.testing import DevProvider
from quart_dance.testing.faults import Answer, Hang


async def failure_at(transport, app, blueprint, provider: DevProvider):
    """Go through a login whose token request meets a transport; return the error."""
    runtime(app).transport = transport
    visitor = Visitor(app)
    callback = await provider.approve(await visitor.start())
    with failures_of(blueprint) as failures:
        response = await visitor.get(callback)
    [error] = failures
    assert response.status_code == 502
    assert len(transport.requests) == 1
    assert error.__cause__ is None and error.__context__ is None
    assert query(callback)["code"] not in failures.said
    assert "grant_type" not in failures.said
    return error


@pytest.mark.parametrize("fault", [Hang(), Hang(after=True)])
async def test_a_deadline_ends_the_wait(dev_provider, fault):
    """T9 T14: a provider that does not answer is asked once, and not for ever."""
    app, blueprint = make_stage(dev_provider)
    runtime(app).deadline = 0.05
    dev_provider.fault("token", fault)
    async with asyncio.timeout(30):  # else the test itself would hang
        error = await failed_login(Visitor(app), dev_provider, blueprint)
    assert (error.error, error.status_code) == ("timeout", None)
    assert error.__cause__ is None and error.__context__ is None


def test_the_deadline_is_ten_seconds(dev_provider):
    """T9: unless somebody sets it."""
    app, _ = make_stage(dev_provider)
    assert runtime(app).deadline == 10.0


async def test_an_endless_answer_is_dropped(dev_provider):
    """T8 T9: after a million bytes nothing more is read, and the answer is closed."""
    app, blueprint = make_stage(dev_provider)
    body = Body(*[b"x" * 400_000] * 100)
    transport = Transport(lambda _: httpx2.Response(200, stream=body))
    error = await failure_at(transport, app, blueprint, dev_provider)
    assert error.error == "invalid_response"
    assert body.sent == 3
    assert body.closed


async def test_a_gzip_bomb_takes_no_memory(dev_provider):
    """T8: it is refused before it has been unpacked."""
    bomb = gzip.compress(bytes(50_000_000))
    app, blueprint = make_stage(dev_provider)
    dev_provider.fault("token", Answer(200, bomb, {"Content-Encoding": "gzip"}))
    tracemalloc.start()
    try:
        error = await failed_login(Visitor(app), dev_provider, blueprint)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.error == "invalid_response"
    assert peak < 20_000_000


class Parrot(httpx2.AsyncBaseTransport):
    """A token endpoint that repeats all that it was sent in its error."""

    def __init__(self, provider: DevProvider, status: int) -> None:
        self.inner = provider.transport()
        self.status = status

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        await self.inner.handle_async_request(request)
        sent = dict(httpx2.QueryParams(request.content.decode()))
        authorization = request.headers.get("authorization", "none")
        said = " ".join([sent["code"], sent["code_verifier"], request.content.decode()])
        answer = {
            "error": sent["code"][:64],
            "error_description": f"{authorization.rpartition(' ')[2]} {said}",
        }
        stream = httpx2.ByteStream(json.dumps(answer).encode())
        return httpx2.Response(self.status, stream=stream)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_a_provider_that_repeats_our_secrets(dev_provider, status, method):
    """L2 T2: what we sent is masked in what the provider says of it."""
    app, blueprint = make_stage(dev_provider, token_endpoint_auth_method=method)
    runtime(app).transport = Parrot(dev_provider, status)
    error = await failed_login(Visitor(app), dev_provider, blueprint)
    if status < 500:
        assert error.error == "***"
        assert "***" in error.description


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (httpx2.ConnectError, "unreachable"),
        (httpx2.ReadError, "unreachable"),
        (httpx2.RemoteProtocolError, "unreachable"),
        (httpx2.LocalProtocolError, "unreachable"),
        (httpx2.ProxyError, "unreachable"),
        (httpx2.ConnectTimeout, "timeout"),
        (httpx2.ReadTimeout, "timeout"),
        (httpx2.PoolTimeout, "timeout"),
    ],
)
async def test_errors_of_the_network_hold_no_request(dev_provider, kind, code):
    """L3 T9 T14: the HTTP library's error is neither cause nor context of ours."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise kind(request.content.decode(), request=request)

    app, blueprint = make_stage(dev_provider)
    error = await failure_at(Transport(fail), app, blueprint, dev_provider)
    assert error.error == code


async def test_an_answer_of_a_mock_transport(dev_provider):
    """An application's own tests may answer with httpx2.Response(json=…)."""
    app, blueprint = make_stage(dev_provider)
    token = {"access_token": "mocked", "token_type": "bearer"}
    runtime(app).transport = httpx2.MockTransport(
        lambda request: httpx2.Response(200, json=token)
    )
    visitor = Visitor(app)
    response = await visitor.get(await dev_provider.approve(await visitor.start()))
    assert response.status_code == 302
