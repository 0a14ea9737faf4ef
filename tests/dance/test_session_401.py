"""Tokens that are over by the API's own word: a 401 with `invalid_token`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from quart import websocket
from support import (
    INVALID_TOKEN,
    REFRESHABLE,
    TOKEN,
    Api,
    Transport,
    make_api_app,
    make_client_app,
)

from quart_dance.consumer import oauth_revoked
from quart_dance.errors import (
    NotAuthorizedError,
    TokenRequestError,
)


@pytest.mark.parametrize(
    "content",
    [{}, {"json": [1]}, {"data": {"a": "b"}}, {"content": b"x"}, {"content": "x"}],
    ids=str,
)
async def test_invalid_token_is_refreshed_once(content: dict[str, Any]) -> None:
    """A 401 with `invalid_token` refreshes once, and the same call is made again."""
    api = Api()
    app, blueprint, transport = make_api_app(api, REFRESHABLE)
    async with app.app_context():
        response = await blueprint.session.post("/x", **content)
        assert (response.status_code, response.content) == (200, b"fine")
        assert (await blueprint.token)["access_token"] == "new"
        assert (await blueprint.token)["refresh_token"] == "rt-1"
    assert api.refreshes == 1
    (first, body), (second, again) = api.calls
    assert (first, second) == ("Bearer old", "Bearer new")
    assert body == again
    assert all(body.closed for body in transport.bodies)


async def test_a_stream_is_begun_anew() -> None:
    """An answer that nobody has begun to read may be asked for again."""
    app, blueprint, transport = make_api_app(Api(), REFRESHABLE)
    async with app.app_context():
        async with blueprint.session.stream("GET", "/x") as response:
            assert [chunk async for chunk in response.aiter_bytes()] == [b"fine"]
    assert all(body.closed for body in transport.bodies)


async def chunks() -> AsyncIterator[bytes]:
    yield b"once"


@pytest.mark.parametrize(
    "content",
    [
        lambda: {"content": chunks()},
        lambda: {"files": {"f": b"once"}},
    ],
    ids=["stream", "files"],
)
async def test_what_cannot_be_sent_again_is_not(content: Any) -> None:
    """A stream is not sent twice: the token is fresh for the next call, though."""
    api = Api()
    app, blueprint, _ = make_api_app(api, REFRESHABLE)
    async with app.app_context():
        response = await blueprint.session.post("/x", **content())
        assert response.status_code == 401
        assert (await blueprint.token)["access_token"] == "new"
    assert [authorization for authorization, _ in api.calls] == ["Bearer old"]


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
async def test_a_stream_as_data_is_not_sent_again() -> None:
    """Nor is one that came as `data`, which httpx2 also takes."""
    api = Api()
    app, blueprint, _ = make_api_app(api, REFRESHABLE)
    async with app.app_context():
        response = await blueprint.session.post("/x", data=chunks())
        assert response.status_code == 401
    assert api.calls == [("Bearer old", b"once")]


async def test_a_new_token_that_is_refused_as_well() -> None:
    """There is one retry only: the second 401 is the caller's answer."""
    api = Api(valid="neither")
    app, blueprint, _ = make_api_app(api, REFRESHABLE)
    async with app.app_context():
        response = await blueprint.session.get("/x")
        assert (response.status_code, response.content) == (401, b"no")
        assert (await blueprint.token)["access_token"] == "new"
    assert (len(api.calls), api.refreshes) == (2, 1)


async def test_without_a_refresh_token_it_is_deleted() -> None:
    """F1: where nothing can be refreshed, the API's word ends the login, once."""
    api = Api()
    app, blueprint, _ = make_api_app(api, TOKEN)
    revoked: list[tuple[Any, Any]] = []

    async def receive(sender: Any, token: Any) -> None:
        revoked.append((sender, token))

    async with app.app_context():
        with oauth_revoked.connected_to(receive):
            response = await blueprint.session.get("/x")
            assert (response.status_code, response.content) == (401, b"no")
            assert await blueprint.token is None
            assert await blueprint.session.authorized is False
    assert revoked == [(blueprint, TOKEN)]
    assert len(api.calls) == 1


@pytest.mark.parametrize("token", [TOKEN, REFRESHABLE], ids=["plain", "refreshable"])
@pytest.mark.parametrize(
    "challenge",
    [
        "",
        "Bearer",
        'Bearer error="insufficient_scope"',
        'Bearer error_description="invalid_token"',
        'Bearer error="invalid_token_type"',
        'Bearer x_error="invalid_token"',
        "Basic realm=invalid_token",
    ],
)
async def test_no_other_401_deletes_anything(
    challenge: str, token: dict[str, Any]
) -> None:
    """F1: a 401 without `error="invalid_token"` is an answer, and no more."""
    api = Api(challenge)
    app, blueprint, _ = make_api_app(api, token)
    async with app.app_context():
        assert (await blueprint.session.get("/x")).status_code == 401
        assert await blueprint.token == token
    assert (len(api.calls), api.refreshes) == (1, 0)


@pytest.mark.parametrize("challenge", [INVALID_TOKEN, "Bearer error=invalid_token"])
async def test_how_the_challenge_may_be_written(challenge: str) -> None:
    """RFC 6750, section 3: with a realm, quoted or not."""
    api = Api(challenge)
    app, blueprint, _ = make_api_app(api, REFRESHABLE)
    async with app.app_context():
        assert (await blueprint.session.get("/x")).status_code == 200


@pytest.mark.parametrize("token", [TOKEN, REFRESHABLE], ids=["plain", "refreshable"])
async def test_a_401_of_another_origin_deletes_nothing(token: dict[str, Any]) -> None:
    """F1: an allowed origin that is not base_url's has no say."""
    api = Api()
    app, blueprint, _ = make_api_app(
        api, token, allowed_origins=["https://uploads.test"]
    )
    async with app.app_context():
        response = await blueprint.session.get("https://uploads.test/x")
        assert response.status_code == 401
        assert await blueprint.token == token
    assert api.refreshes == 0


async def test_a_401_after_a_detour_deletes_nothing() -> None:
    """F1, R7: a token that was left behind on the way has not been judged."""
    api = Api()

    def answer(request: httpx2.Request) -> httpx2.Response:
        there = {"/v1/start": "https://evil.test/", "/": "https://api.test/v1/end"}
        if location := there.get(request.url.path):
            return httpx2.Response(302, headers={"Location": location})
        return api(request)

    app, blueprint, _ = make_api_app(answer, TOKEN)
    async with app.app_context():
        assert (await blueprint.session.get("/start")).status_code == 401
        assert await blueprint.token == TOKEN
    assert api.calls == [(None, b"")]


async def test_withheld_tokens_are_not_judged() -> None:
    """F1: a 401 to a call without a token deletes nothing."""
    app, blueprint, _ = make_api_app(Api(), TOKEN)
    async with app.app_context():
        response = await blueprint.session.get("/x", withhold_token=True)
        assert response.status_code == 401
        assert await blueprint.token == TOKEN


async def test_where_nothing_can_be_saved_nothing_is_judged() -> None:
    """F1: in a WebSocket a cookie session cannot forget: the 401 is just an answer."""
    api = Api()
    transport = Transport(api)
    app, blueprint = make_client_app(transport)
    heard: list[Any] = []

    def note(sender: Any, token: Any) -> None:
        heard.append(token)

    @app.get("/set")
    async def put() -> str:
        await blueprint.set_token(TOKEN)
        return "set"

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()
        response = await blueprint.session.get("/x")
        await websocket.send(str(response.status_code))

    client = app.test_client()
    await client.get("/set")
    with oauth_revoked.connected_to(note):
        async with client.websocket("/ws") as connection:
            assert await connection.receive() == "401"
    assert heard == []


@pytest.mark.parametrize(
    ("answer", "error", "kept"),
    [
        (httpx2.Response(503), TokenRequestError, True),
        (
            httpx2.Response(400, json={"error": "invalid_grant"}),
            NotAuthorizedError,
            False,
        ),
    ],
    ids=["server_error", "invalid_grant"],
)
async def test_a_refresh_that_fails(
    answer: httpx2.Response, error: type[Exception], kept: bool
) -> None:
    """F1, F2: the typed error says what to do; only `invalid_grant` deletes."""
    api = Api()
    api.token_answer = answer
    app, blueprint, transport = make_api_app(api, REFRESHABLE)
    async with app.app_context():
        with pytest.raises(error) as caught:
            await blueprint.session.get("/x")
        assert await blueprint.token == (REFRESHABLE if kept else None)
    assert caught.value.blueprint is blueprint
    assert all(body.closed for body in transport.bodies)
