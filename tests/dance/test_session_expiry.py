"""Tokens that are over by our clock."""

from __future__ import annotations

from typing import Any

import pytest
from support import REFRESHABLE, TOKEN, Api, make_api_app

from quart_dance.consumer import oauth_refreshed
from quart_dance.consumer.runtime import runtime
from quart_dance.errors import TokenExpiredError


async def test_expired_tokens_are_refreshed_before_the_call() -> None:
    """An expired token with a refresh token is authorized, and refreshed when used."""
    api = Api()
    app, blueprint, _ = make_api_app(api, {**REFRESHABLE, "expires_at": 1})
    async with app.app_context():
        assert await blueprint.session.authorized is True
        assert api.refreshes == 0
        assert await blueprint.session.access_token == "new"
        assert (await blueprint.session.get("/x")).status_code == 200
    assert (api.calls, api.refreshes) == ([("Bearer new", b"")], 1)


async def test_what_a_receiver_does_to_a_refreshed_token() -> None:
    """What a receiver of `oauth_refreshed` does to the token reaches nobody else."""
    app, blueprint, _ = make_api_app(Api(), {**REFRESHABLE, "expires_at": 1})
    seen = []

    def receive(sender: Any, token: dict[str, Any]) -> None:
        seen.append((sender, token["access_token"]))
        token["access_token"] = "spoilt"

    async with app.app_context():
        with oauth_refreshed.connected_to(receive):
            assert await blueprint.session.access_token == "new"
            assert await blueprint.session.access_token == "new"
            assert (await blueprint.token)["access_token"] == "new"
    assert seen == [(blueprint, "new")]


async def test_an_expired_token_without_refresh_token() -> None:
    """F9: it is there, but nobody is authorized, and a call says why."""
    expired = {**TOKEN, "expires_at": 1}
    app, blueprint, transport = make_api_app(Api(), expired)
    async with app.app_context():
        session = blueprint.session
        assert await session.authorized is False
        assert await session.access_token is None
        assert await session.token == expired
        with pytest.raises(TokenExpiredError) as caught:
            await session.get("/user")
    assert caught.value.blueprint is blueprint
    assert transport.requests == []


@pytest.mark.parametrize(
    ("token", "last"),
    [
        ({"expires_in": 3600}, 3539),
        ({"expires_in": 121}, 60),
        ({"expires_in": 100}, 49),
        ({"expires_in": 1}, 0),
        ({"expires_at": 1_000_500}, 439),
    ],
)
async def test_leeway(token: dict[str, Any], last: int) -> None:
    """F10: a token is over 60 s before its end, or half its life if that is less."""
    app, blueprint, _ = make_api_app(Api(), {})
    now = 1_000_000
    runtime(app).clock = lambda: now
    async with app.app_context():
        await blueprint.set_token({"access_token": "at-1", **token})
        for moment, expected in ((0, True), (last, True), (last + 1, False)):
            now = 1_000_000 + moment
            assert await blueprint.session.authorized is expected


async def test_a_token_without_an_end_never_expires() -> None:
    """T6: what has no known end is valid."""
    app, blueprint, _ = make_api_app(Api(), TOKEN)
    runtime(app).clock = lambda: 9e9
    async with app.app_context():
        assert await blueprint.session.authorized is True
