"""What is refused before it does harm: storages, tokens, origins, answers."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
from browsing import failures
from failures import everything_said, failed_login, make_stage, stored_token
from scheduler import timed_app
from support import Transport, Visitor, make_app, make_client_app

from quart_dance.consumer.storage import BaseStorage, MemoryStorage
from quart_dance.errors import (
    ForeignOriginError,
    StorageError,
    TokenRequestError,
    UserRequiredError,
)
from quart_dance.testing import DevProvider
from quart_dance.testing.faults import DEAD_REFRESH_TOKEN, Altered, Answer

UNSENDABLE = pytest.mark.parametrize(
    "access_token",
    [
        "leak-me-1234\n",
        "leak-me-1234\r\nX: y",
        "leak-me tökén",
        "leak-me 1",
        "\x7fleak-me",
    ],
    ids=["newline", "header", "umlaut", "space", "delete"],
)


class Shelf(BaseStorage):
    """A storage that is false while it is empty."""

    def __init__(self) -> None:
        self.tokens: dict[str, Any] = {}

    def __len__(self) -> int:
        return len(self.tokens)

    async def get(self, blueprint: Any) -> Any:
        return self.tokens.get(blueprint.name)

    async def set(self, blueprint: Any, token: Any) -> None:
        self.tokens[blueprint.name] = dict(token)

    async def delete(self, blueprint: Any) -> None:
        self.tokens.pop(blueprint.name, None)


async def test_a_storage_that_is_false():
    """S15: an empty storage with a length is a storage, and keeps the token."""
    provider, shelf = DevProvider(), Shelf()
    app, blueprint = make_app(provider, storage=shelf)
    assert blueprint.storage is shelf
    assert (await Visitor(app).login(provider)).status_code == 302
    assert len(shelf) == 1
    assert provider.tokens[0].access_token == shelf.tokens["dev"]["access_token"]


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"base_url": None}, {"BASE": "http://api.test/v1"}),
        ({"base_url": None}, {"ORIGINS": ["http://api.test"]}),
        ({"allowed_origins": lambda token: ["http://api.test"]}, {}),
    ],
    ids=["base_url", "allowed_origins", "a function"],
)
async def test_no_token_over_plain_http(options, config):
    """R6: wherever the permission comes from, no token goes over plain http."""
    transport, storage = Transport(), MemoryStorage({"access_token": "leak-me"})
    app, blueprint = make_client_app(transport, storage=storage, **options)
    blueprint.from_config.update(base_url="BASE", allowed_origins="ORIGINS")
    app.config.update(config)
    async with app.app_context():
        with pytest.raises(ForeignOriginError) as caught:
            await blueprint.session.get("http://api.test/v1/user")
        assert transport.requests == []
        await blueprint.session.get("http://api.test/v1/user", withhold_token=True)
    assert "leak-me" not in everything_said(caught.value)
    assert "authorization" not in transport.requests[0].headers


@UNSENDABLE
async def test_setting_a_token_that_no_header_carries(access_token):
    """T10, L2: `set_token` refuses it, keeps what is there, and does not repeat it."""
    storage = MemoryStorage({"access_token": "old"})
    app, blueprint = make_client_app(Transport(), storage=storage)
    async with app.app_context():
        with pytest.raises(ValueError, match="visible ASCII") as caught:
            await blueprint.set_token({"access_token": access_token})
        assert await blueprint.token == {"access_token": "old"}
    assert "leak-me" not in everything_said(caught.value)


@UNSENDABLE
async def test_a_stored_token_that_no_header_carries(access_token):
    """T10, L2: one that is stored already is not sent and not repeated."""
    transport, storage = Transport(), MemoryStorage({"access_token": access_token})
    app, blueprint = make_client_app(transport, storage=storage)
    async with app.app_context():
        with pytest.raises(StorageError, match="stored for 'dev' is broken") as caught:
            await blueprint.session.get("user")
    assert caught.value.blueprint is blueprint
    assert transport.requests == []
    assert "leak-me" not in everything_said(caught.value)


REFRESH_TOKENS = pytest.mark.parametrize(
    "refresh_token",
    ["leak-me\ud800", "leak-me\n", "leak-me\x00", "leak-mé"],
    ids=["surrogate", "newline", "nul", "umlaut"],
)


@REFRESH_TOKENS
async def test_a_refresh_token_that_no_form_carries(refresh_token):
    """T10: it is refused at the login, not when the token has expired."""
    provider = DevProvider()
    app, blueprint = make_stage(provider)
    visitor = Visitor(app)
    provider.fault("token", Altered({"refresh_token": refresh_token}))
    error = await failed_login(visitor, provider, blueprint)
    assert (type(error), error.error) == (TokenRequestError, "invalid_response")
    assert await stored_token(visitor) is None


@REFRESH_TOKENS
async def test_a_refresh_that_brings_such_a_refresh_token(refresh_token):
    """F2, F4: the old token is kept."""
    app, blueprint, provider, clock = timed_app(storage=MemoryStorage())
    visitor = Visitor(app)
    await visitor.login(provider)
    clock.now += 3600
    async with app.app_context():
        old = await blueprint.token
    provider.fault("token", Altered({"refresh_token": refresh_token}))
    assert (await visitor.get("/me")).status_code == 502
    async with app.app_context():
        assert await blueprint.token == old


@pytest.mark.parametrize(
    ("problem", "code"),
    [
        (ConnectionError("leak-me is down"), "storage_error"),
        (StorageError("the database is down"), "storage_error"),
        (UserRequiredError("sign up first"), "user_required"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_account_that_cannot_be_read_at_the_login(problem, code):
    """S8: the login fails with a page and one signal, before the provider is asked."""

    class Down(MemoryStorage):
        async def account(self, blueprint: Any, **who: Any) -> str | None:
            raise problem

    provider = DevProvider()
    app, blueprint = make_app(provider, storage=Down())
    visitor = Visitor(app)
    with failures(blueprint) as heard:
        response = await visitor.get("/login/dev")
    page = await response.get_data(as_text=True)
    assert response.status_code == 500
    assert "The login failed" in page
    assert "leak-me" not in page
    (error, _, uri), exception = heard
    assert (error, uri) == (code, None)
    assert type(exception) is (
        UserRequiredError if code == "user_required" else StorageError
    )
    assert visitor.attempts == []


@pytest.mark.parametrize(
    ("refreshable", "status"), [(False, 502), (True, 302)], ids=["over", "refreshable"]
)
async def test_a_token_that_arrives_expired(refreshable, status):
    """T6, F9: without a refresh token nobody could use it; a view would loop."""
    provider = DevProvider(issue_refresh_token=refreshable)
    app, blueprint = make_app(provider)
    visitor = Visitor(app)
    provider.fault("token", Altered({"expires_in": 0}))
    with failures(blueprint) as heard:
        response = await visitor.login(provider)
    assert response.status_code == status
    said = [("invalid_response", "the token has already expired", None)]
    assert heard[:1] == ([] if refreshable else said)
    assert (await visitor.get("/me")).status_code == (200 if refreshable else 401)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("missing", [1, 20])
async def test_a_compressed_answer_without_its_end(encoding, missing):
    """T9: half a token is no token, even where the half could be read."""
    provider = DevProvider()
    app, blueprint = make_stage(provider)
    visitor = Visitor(app)
    form = b"token_type=bearer&access_token=leak-me" + bytes(range(97, 123)) * 20
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    headers = {
        "Content-Encoding": encoding,
        "Content-Type": "application/x-www-form-urlencoded",
    }
    provider.fault("token", Answer(200, pack(form)[:-missing], headers))
    error = await failed_login(visitor, provider, blueprint)
    assert (type(error), error.error) == (TokenRequestError, "invalid_response")
    assert await stored_token(visitor) is None
    provider.fault("token", Answer(200, pack(form), headers))
    assert (await visitor.login(provider)).status_code == 302


async def test_no_access_token_after_invalid_grant():
    """F1, F9: `access_token` is None where a refresh ends the login; no exception."""
    app, blueprint, provider, clock = timed_app(storage=MemoryStorage())
    await Visitor(app).login(provider)
    clock.now += 3600
    provider.fault("token", DEAD_REFRESH_TOKEN)
    async with app.app_context():
        assert await blueprint.session.access_token is None
        assert await blueprint.token is None
