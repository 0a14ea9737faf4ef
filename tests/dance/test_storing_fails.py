"""A token that has come and cannot be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from support import Visitor, make_app

from quart_dance.consumer import oauth_error, oauth_login_failed
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import (
    StorageError,
    TokenTooLargeError,
    UserRequiredError,
)
from quart_dance.testing import DevProvider

OLD = {"access_token": "an-older-token", "token_type": "bearer"}


class Failing(MemoryStorage):
    """Has an older token, and fails to store another one."""

    def __init__(self, error: Callable[[Any], BaseException]) -> None:
        super().__init__(OLD)
        self.error = error

    async def set(self, blueprint: Any, token: Any) -> None:
        raise self.error(token)


@pytest.mark.parametrize(
    ("error", "seen", "code"),
    [
        (
            lambda token: RuntimeError(f"INSERT {dict(token)}"),
            StorageError,
            "storage_error",
        ),
        (lambda token: OSError(28, "full", token["access_token"]), StorageError, ""),
        (
            lambda token: asyncio.CancelledError(token["access_token"]),
            StorageError,
            "storage_error",
        ),
        (lambda token: UserRequiredError("nobody"), UserRequiredError, "user_required"),
        (lambda token: TokenTooLargeError("big"), TokenTooLargeError, "storage_error"),
    ],
    ids=[
        "RuntimeError",
        "OSError",
        "CancelledError",
        "UserRequiredError",
        "TokenTooLargeError",
    ],
)
async def test_storing_fails(
    dev_provider: DevProvider,
    caplog: pytest.LogCaptureFixture,
    error: Any,
    seen: type[Exception],
    code: str,
) -> None:
    """L2: a token that cannot be stored is a failed login, its text nowhere said."""
    caplog.set_level("DEBUG")
    app, blueprint = make_app(dev_provider, storage=Failing(error))
    heard: list[Any] = []

    def note(sender: Any, **data: Any) -> None:
        heard.append((sender, data))

    visitor = Visitor(app)
    with (
        oauth_error.connected_to(note, blueprint),
        oauth_login_failed.connected_to(note, blueprint),
    ):
        response = await visitor.login(dev_provider)
    assert response.status_code == 500
    page = await response.get_data(as_text=True)
    assert 'href="/login/dev"' in page
    (_, first), (_, second) = heard
    assert list(first) == ["error", "error_description", "error_uri"]
    assert first["error"] == code or not code
    assert list(second) == ["exception"]
    assert type(second["exception"]) is seen
    assert visitor.attempts == []
    async with app.app_context():
        assert await blueprint.token == OLD
    (token,) = dev_provider.tokens
    said = f"{page}{heard}{caplog.text}{second['exception'].__context__!r}"
    assert token.access_token not in said
    assert str(token.refresh_token) not in said
