"""What may be seen of a secret in a repr, in an error or in a traceback."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import httpx2
import pytest
from network import Network
from quart import Quart
from scheduler import Clock
from secrecy import CLIENT, HOUSE, assert_discreet
from support import Visitor, make_app, query

from quart_dance.consumer import (
    OAuth2ConsumerBlueprint,
    flight,
    oauth_login_failed,
)
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.errors import (
    ForeignOriginError,
    NotAuthorizedError,
    OAuthError,
    StorageError,
    TokenExpiredError,
    TokenRequestError,
    TokenTooLargeError,
)
from quart_dance.testing import DevProvider, faults

S = "Sesame0penSesame0penSesame0pen"
TOKEN = {"access_token": S, "refresh_token": f"{S}-r", "authed_user": {"token": S}}


class Sql(BaseStorage):
    """A storage whose database repeats, as databases do, what it was given."""

    def __init__(self, shape: str = "{}", token: Any = None) -> None:
        self.shape = shape
        self.token = token
        self.fails = True

    def _fail(self, *tokens: Any) -> None:
        if self.fails:
            given = " ".join(json.dumps(token) for token in tokens)
            raise RuntimeError(self.shape.format(given, cut=given[:50]))

    async def get(self, blueprint: Any) -> Any:
        return self.token

    async def set(self, blueprint: Any, token: Any) -> None:
        self._fail(token)
        self.token = dict(token)

    async def delete(self, blueprint: Any) -> None:
        self._fail(self.token)

    async def replace(self, blueprint: Any, old: Any, new: Any, **who: Any) -> bool:
        self._fail(old, new)
        return await super().replace(blueprint, old, new, **who)


async def login_error(
    provider: DevProvider,
    app: Quart,
    blueprint: OAuth2ConsumerBlueprint,
    arm: Callable[[dict[str, str]], object],
) -> tuple[Exception, list[str]]:
    """Go through a login that fails; return its error and its secrets."""
    caught: list[Exception] = []

    async def note(sender: Any, exception: Exception) -> None:
        caught.append(exception)

    visitor = Visitor(app)
    callback = await provider.approve(await visitor.start())
    found = query(callback)
    arm(found)
    with oauth_login_failed.connected_to(note, blueprint):
        assert (await visitor.get(callback)).status_code >= 400
    secrets = [found["code"], found["state"], *filter(None, visitor.cookies.values())]
    for call in provider.calls:
        secrets += call.form.getlist("code_verifier")
        secrets += call.headers.get("Authorization", "").split(" ")[1:]
    for token in provider.tokens:
        secrets += [token.access_token, token.refresh_token or token.access_token]
    return caught[0], secrets


class Dead(Network):
    """A network that says why it fails, with the request in hand."""

    error: type[httpx2.RequestError] = httpx2.ConnectError

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = (await request.aread()).decode()
        raise self.error(f"{body} {request.headers.raw}", request=request)


def echo(found: dict[str, str]) -> faults.Answer:
    words = f"the code {found['code']} of {CLIENT}"
    answer = {"error": words, "error_description": words, "access_token": S}
    return faults.Answer.json(answer, 400)


TOKEN_ANSWERS = {
    "echo": echo,
    "500": lambda _: faults.SERVER_ERROR,
    "html": lambda _: faults.HTML_PAGE,
    "mac": lambda _: faults.Answer.json({"access_token": S, "token_type": "mac"}),
    "bytes": lambda _: faults.Answer.json({"access_token": f"{S}\n"}),
    "list": lambda _: faults.Answer.json({"access_token": [S], "refresh_token": S}),
    "twice": lambda _: faults.Answer(200, f'{{"a":"{S}","a":"{S}"}}'.encode()),
}


@pytest.mark.parametrize("name", TOKEN_ANSWERS)
async def test_callback(dev_provider, name):
    """L2, L3: an error of the token endpoint, at the callback."""
    app, blueprint = make_app(dev_provider)

    def arm(found: dict[str, str]) -> None:
        dev_provider.fault("token", TOKEN_ANSWERS[name](found))

    error, secrets = await login_error(dev_provider, app, blueprint, arm)
    assert isinstance(error, TokenRequestError)
    assert_discreet(error, S, *secrets)


@pytest.mark.parametrize("kind", [httpx2.ConnectError, httpx2.ReadTimeout])
async def test_unreachable(dev_provider, kind):
    """L2, L3: a network that fails, at the callback and at a refresh."""
    app, blueprint = make_app(dev_provider)
    network = runtime(app).transport = Dead(dev_provider)
    network.error = kind  # type: ignore[misc]
    error, secrets = await login_error(dev_provider, app, blueprint, lambda _: None)
    assert isinstance(error, TokenRequestError)
    assert_discreet(error, *secrets)
    blueprint.storage = MemoryStorage({**TOKEN, "expires_at": 1})
    error = await fails(app, lambda: blueprint.session.get("user"))
    assert isinstance(error, TokenRequestError)
    assert_discreet(error, S)


async def fails(app: Quart, call: Callable[[], Awaitable[Any]]) -> Exception:
    """Return the error of a call in a request."""
    async with app.test_request_context("/"):
        try:
            await call()
        except Exception as error:
            return error
    raise AssertionError("nothing was raised")


async def test_calls(dev_provider):
    """L2: errors of API calls."""
    expired = {**TOKEN, "expires_at": 1}
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(expired))
    session = blueprint.session
    dev_provider.fault("token", echo({"code": f"{S}-r"}))
    error: Exception = await fails(app, lambda: session.get("user"))
    assert isinstance(error, TokenRequestError)
    assert_discreet(error, S)
    error = await fails(app, lambda: session.get("user"))
    assert isinstance(error, NotAuthorizedError)
    assert_discreet(error, S)
    del expired["refresh_token"]
    blueprint.storage = MemoryStorage(expired)
    error = await fails(app, lambda: session.get("user"))
    assert isinstance(error, TokenExpiredError)
    assert_discreet(error, S)
    blueprint.storage = MemoryStorage(TOKEN)
    error = await fails(app, lambda: session.get(f"https://x.test/?a={S}"))
    assert isinstance(error, ForeignOriginError)
    assert "Sesame" not in str(error)


async def test_unreachable_api(dev_provider):
    """L2: the error of an API call is httpx2's, but our frames show no secret."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(TOKEN))
    runtime(app).transport = Dead(dev_provider)

    async def call() -> None:
        blueprint.current_session().cookies.set("name", S)
        await blueprint.session.get("user")

    error = await fails(app, call)
    assert isinstance(error, httpx2.ConnectError)
    error = Exception().with_traceback(error.__traceback__)
    trace = error.__traceback__
    while trace:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(HOUSE):
            assert "Sesame" not in repr(dict(trace.tb_frame.f_locals))
        trace = trace.tb_next


SHAPES = ["(db) failed [parameters: ('{}', 'dev')]", "invalid argument $1: {cut}..."]


@pytest.mark.parametrize("shape", SHAPES)
async def test_storage_at_the_callback(dev_provider, shape):
    """L2, L3: a database that repeats the token, whole or in part."""
    app, blueprint = make_app(dev_provider, storage=Sql(shape))
    error, secrets = await login_error(dev_provider, app, blueprint, lambda _: None)
    assert isinstance(error, StorageError)
    assert "RuntimeError" in str(error)
    assert_discreet(error, *secrets, *(secret[:16] for secret in secrets))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("what", ["set", "rotate", "dead", "401", "revoke"])
async def test_storage_elsewhere(shape, what, monkeypatch):
    """L2, L3: the same wherever else a token is stored, replaced or deleted."""
    monkeypatch.setattr(flight, "SAVING", 0)
    clock = Clock()
    provider = DevProvider(clock=clock)
    app, blueprint = make_app(provider)
    runtime(app).clock = clock
    storage = blueprint.storage = Sql(shape, {**provider.issue_token(), "more": TOKEN})
    storage.token["expires_at"] = clock.now + (0 if what in ("rotate", "dead") else 99)
    if what == "dead":
        provider.revoke_tokens()
    if what == "401":
        provider.expire_access_tokens()
        del storage.token["refresh_token"]
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "set": lambda: blueprint.set_token(TOKEN),
        "revoke": blueprint.revoke_token,
    }
    call = calls.get(what, lambda: blueprint.session.get("user"))
    error = await fails(app, call)
    assert isinstance(error, StorageError)
    secrets = [S, storage.token["access_token"]]
    secrets += [token.refresh_token or S for token in provider.tokens]
    assert_discreet(error, *secrets, *(secret[:16] for secret in secrets))


@pytest.mark.parametrize(
    "token",
    [
        S,
        [S],
        {"access_token": 5, "refresh_token": S},
        {"access_token": "", "refresh_token": S},
        {"access_token": S, "more": object()},
    ],
)
async def test_nonsense(dev_provider, token):
    """L2: what is no token, set by the application or found in the storage."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage())
    error = await fails(app, lambda: blueprint.set_token(token))
    assert isinstance(error, TypeError | ValueError)
    assert_discreet(error, S)
    if not isinstance(token, dict) or token["access_token"] == 5:
        blueprint.storage = Sql(token=token)
        error = await fails(app, lambda: blueprint.session.get("user"))
        assert isinstance(error, StorageError)
        assert_discreet(error, S)


async def test_too_large(dev_provider):
    """L2: a token that does not fit, beside one that is in the session already."""
    app, blueprint = make_app(dev_provider)
    raised: list[OAuthError] = []

    @app.get("/fill")
    async def fill() -> str:
        await blueprint.set_token(TOKEN)
        try:
            await blueprint.set_token({"access_token": S + token_urlsafe(4000)})
        except TokenTooLargeError as error:
            raised.append(error)
        return ""

    assert (await Visitor(app).get("/fill")).status_code == 200
    assert_discreet(raised[0], S)
