"""What may be seen of a login: not in logs, not in pages, not in headers."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from network import on_a_port
from quart import Quart, Response
from scheduler import Clock
from support import Visitor, make_app, query

from quart_dance.consumer import (
    OAuth2ConsumerBlueprint,
    oauth_authorized,
    oauth_login_failed,
)
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import LoginError
from quart_dance.testing import DevProvider, faults


@pytest.fixture
def everything(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Let every logger say all that it has to say."""
    caplog.set_level(logging.DEBUG)
    for name in ("quart_dance", "httpx2", "httpcore2", "authlib", "asyncio", "quart"):
        caplog.set_level(logging.DEBUG, name)
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and logger.level:
            caplog.set_level(logging.DEBUG, name)
    return caplog


def told(record: logging.LogRecord) -> str:
    """Return all that a log record holds, with what any handler could make of it."""
    parts = [record.getMessage(), *map(repr, vars(record).values())]
    if record.exc_info and record.exc_info[1]:
        parts.extend(traceback.format_exception(record.exc_info[1]))
    return "\n".join(parts)


def chatty_app(provider: DevProvider) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application that logs through every logger that it has."""
    app, blueprint = make_app(provider, storage=MemoryStorage())

    @app.get("/all")
    async def everywhere() -> Any:
        app.logger.info("GET /all")
        await blueprint.session.get("cookie")
        await blueprint.session.get("cookie", params={"page": "2"})
        async with blueprint.session.stream("GET", "stream") as response:
            async with httpx2.AsyncClient(transport=runtime(app).transport) as own:
                await own.get(f"{provider.url}/api/user?within=a-stream")
            return await response.aread()

    @app.get("/revoke")
    async def revoke() -> str:
        await blueprint.revoke_token()
        return ""

    return app, blueprint


async def walk(
    app: Quart, provider: DevProvider, clock: Clock
) -> tuple[set[str], list[str]]:
    """Do all that can be done; return the secrets, and what visitors were shown."""
    visitor, secrets, shown = Visitor(app), {"dev-client-secret"}, []

    async def open_page(url: str, status: int) -> None:
        response = await visitor.get(url)
        assert response.status_code == status
        shown.append(await response.get_data(as_text=True))
        secrets.update(filter(None, visitor.cookies.values()))

    async def login(status: int, fault: Any = None, decide: Any = provider.approve):
        url = await visitor.start()
        secrets.update(filter(None, visitor.cookies.values()))
        callback = await decide(url)
        found = query(callback)
        secrets.update(found[key] for key in ("state", "code") if key in found)
        if fault:
            words = f"{found['code']} of dev-client-secret is wrong"
            answer = {"error": "invalid_request", "error_description": words}
            told_all = faults.Answer.json(answer, 400)
            provider.fault("token", told_all if fault == "echo" else fault)
        await open_page(callback, status)
        await open_page(callback, 400)

    await login(302)
    await open_page("/all", 200)
    clock.now += 3600
    provider.fault("token", faults.SERVER_ERROR)
    await open_page("/me", 502)
    await open_page("/me", 200)
    await login(400, decide=provider.deny)
    await login(502, "echo")
    await login(502, faults.HTML_PAGE)
    await login(502, faults.Altered({"token_type": "mac"}))
    await open_page("/revoke", 200)
    await login(302)
    clock.now += 3600
    provider.revoke_tokens()
    await open_page("/me", 302)
    await open_page("/login/dev/authorized?error=a&code=b&state=c", 400)
    for call in provider.calls:
        for key in ("code", "code_verifier", "refresh_token", "token"):
            secrets.update(call.form.getlist(key))
        given = call.headers.get("Authorization", "")
        secrets.update(given.split(" ")[1:])
        secrets.update(filter(None, [call.headers.get("Cookie", "")[13:]]))
    return secrets, shown


def assert_silent(secrets: Iterable[str], texts: Iterable[str]) -> None:
    for text in texts:
        for secret in secrets:
            assert secret not in text
            assert quote(secret, safe="") not in text


async def test_logs_in_process(everything):
    """L1, C13: no logger says a secret, whatever happens; nor does any page."""
    clock = Clock()
    provider = DevProvider(clock=clock)
    app, _ = chatty_app(provider)
    runtime(app).clock = clock
    secrets, shown = await walk(app, provider, clock)
    attempts = {secret for secret in secrets if secret.startswith("gAAAA")}
    assert len(attempts) >= 5
    assert len(secrets) >= 25
    assert {"quart_dance.consumer.http", "quart_dance.consumer.dance", "support"} <= {
        record.name for record in everything.records
    }
    assert_silent(secrets, map(told, everything.records))
    assert_silent(secrets, shown)


async def test_logs_over_a_port(everything):
    """L1: nor over a real connection; and the application's own client still logs."""
    clock = Clock()
    async with on_a_port(clock=clock) as port:
        app, _ = chatty_app(port.provider)
        runtime(app).clock, runtime(app).transport = clock, None
        secrets, shown = await walk(app, port.provider, clock)
        await runtime(app).aclose()
        texts = [told(record) for record in everything.records]
        async with httpx2.AsyncClient() as own:
            await own.get(f"{port.provider.url}/api/user?of=its-own")
    assert_silent(secrets, texts + shown)
    own_lines = [t for t in texts if "within=a-stream" in t]
    assert any("HTTP Request" in line for line in own_lines)
    names = [r.name for r in everything.records[len(texts) :]]
    assert {"httpx2", "httpcore2.connection", "httpcore2.http11"} <= set(names)
    assert "of=its-own" in everything.text


async def test_headers(dev_provider):
    """L4: nothing of a login is cached, and no page is told where we came from."""
    app, blueprint = make_app(dev_provider)
    visitor = Visitor(app)
    login = await visitor.get("/login/dev")
    success = await visitor.login(dev_provider)
    failure = await visitor.get("/login/dev/authorized?state=wrong")

    async def refuse(sender: Any, token: Any) -> Response:
        return Response("from a receiver", 403)

    async def explain(sender: Any, exception: Any) -> Response:
        assert isinstance(exception, LoginError)
        return Response("from another", 418)

    with oauth_authorized.connected_to(refuse, blueprint):
        refused = await visitor.login(dev_provider)
    with oauth_login_failed.connected_to(explain, blueprint):
        explained = await visitor.get("/login/dev/authorized?state=wrong")
    pages = [login, success, failure, refused, explained]
    assert [page.status_code for page in pages] == [302, 302, 400, 403, 418]
    for page in pages:
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
    assert success.location == "/"
