"""The session: every verb, whatever is sent, wherever it goes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import pytest
from quart import Quart, websocket
from support import Body, Transport, Visitor, make_app, make_client_app

from quart_dance.consumer.client import OAuth2Session
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import (
    ConfigurationError,
    ForeignOriginError,
    NotAuthorizedError,
    StorageError,
)
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "at-1", "token_type": "bearer"}


def make(**options: Any) -> tuple[Quart, Any, Transport]:
    transport = Transport()
    given = {"storage": MemoryStorage(TOKEN), **options}
    app, blueprint = make_client_app(transport, **given)
    return app, blueprint, transport


@pytest.mark.parametrize(
    "verb", ["get", "options", "head", "post", "put", "patch", "delete"]
)
async def test_every_verb(verb: str) -> None:
    """Every verb is a method, and goes out with the token in the header (R8)."""
    app, blueprint, transport = make()
    async with app.app_context():
        response = await getattr(blueprint.session, verb)("/user")
        assert response.status_code == 200
        await blueprint.session.request(verb, "/user")
    for request in transport.requests:
        assert request.method == verb.upper()
        assert str(request.url) == "https://api.test/v1/user"
        assert request.headers["Authorization"] == "Bearer at-1"


@pytest.mark.parametrize(
    ("content", "body", "content_type"),
    [
        ({"json": {"a": "ü"}}, '{"a":"ü"}', "application/json"),
        ({"data": {"a": "1", "b": "x y"}}, "a=1&b=x+y", "application/x-www-form"),
        ({"content": b"raw"}, "raw", ""),
        ({"content": "text"}, "text", ""),
        ({"files": {"f": ("n.txt", b"inside")}}, "inside", "multipart/form-data"),
    ],
    ids=["json", "data", "bytes", "str", "files"],
)
async def test_what_is_sent(content: Any, body: str, content_type: str) -> None:
    """Bodies go out as httpx2 sends them."""
    app, blueprint, transport = make()
    async with app.app_context():
        await blueprint.session.post("/x", **content)
    (request,) = transport.requests
    assert body in request.content.decode()
    assert request.headers.get("Content-Type", "").startswith(content_type)


async def test_params_and_headers() -> None:
    """Parameters are encoded; no header of the caller's displaces the token."""
    app, blueprint, transport = make()
    async with app.app_context():
        await blueprint.session.get(
            "/x?p=1",
            params={"q": "a b&c"},
            headers={"X-Api": "2", "authorization": "Bearer other"},
        )
    (request,) = transport.requests
    assert str(request.url) == "https://api.test/v1/x?p=1&q=a+b%26c"
    assert request.headers["X-Api"] == "2"
    assert request.headers.get_list("Authorization") == ["Bearer at-1"]


@pytest.mark.parametrize("option", ["allow_redirects", "auth", "verify", "cookie"])
async def test_unknown_arguments_raise(option: str) -> None:
    """S16: an argument that does not exist raises; nothing is sent."""
    app, blueprint, transport = make()
    async with app.app_context():
        with pytest.raises(TypeError, match=option):
            await blueprint.session.get("/x", **{option: None})
    assert transport.requests == []


@pytest.mark.parametrize("url", ["user", "/user", "user?", "/user#top"])
@pytest.mark.parametrize("base", ["https://api.test/v1", "https://api.test/v1/"])
async def test_base_url_joins(base: str, url: str) -> None:
    """With or without slashes, relative URLs lie under the path of `base_url`."""
    app, blueprint, transport = make(base_url=base)
    async with app.app_context():
        await blueprint.session.get(url)
    assert transport.requests[0].url.raw_path.rstrip(b"?") == b"/v1/user"
    assert transport.requests[0].url.host == "api.test"


@pytest.mark.parametrize(
    ("base", "url", "expected"),
    [
        ("https://api.test", "user", "https://api.test/user"),
        ("https://api.test", "/user", "https://api.test/user"),
        ("https://api.test", "", "https://api.test/"),
        ("https://api.test/v1", "a/b?c=d&e", "https://api.test/v1/a/b?c=d&e"),
        ("https://api.test/v1", "/é", "https://api.test/v1/%C3%A9"),
        ("https://api.test:8443/v1", "user", "https://api.test:8443/v1/user"),
        ("https://api.test/v1", "https://api.test/v2/x", "https://api.test/v2/x"),
    ],
)
async def test_where_a_call_goes(base: str, url: str, expected: str) -> None:
    """Ports, queries and absolute URLs of the same origin are kept."""
    app, blueprint, transport = make(base_url=base)
    async with app.app_context():
        await blueprint.session.get(url)
    assert str(transport.requests[0].url) == expected


async def test_without_a_base_url() -> None:
    """S16: a relative URL without `base_url` says what to set."""
    app, blueprint, transport = make(
        base_url=None, allowed_origins=["https://other.test"]
    )
    transport.answer = lambda _: httpx2.Response(
        401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )
    async with app.app_context():
        with pytest.raises(ConfigurationError, match="'dev' has no base_url"):
            await blueprint.session.get("/user")
        # No answer of an origin that is not base_url's deletes anything.
        response = await blueprint.session.get("https://other.test/x")
        assert response.status_code == 401
        assert await blueprint.token == TOKEN


async def test_withhold_token() -> None:
    """`withhold_token=True` sends no token, needs none, and may go anywhere."""
    app, blueprint, transport = make(storage=MemoryStorage())
    async with app.app_context():
        await blueprint.session.get("/public", withhold_token=True)
        await blueprint.session.get("https://other.test/x", withhold_token=True)
        with pytest.raises(NotAuthorizedError) as caught:
            await blueprint.session.get("/private")
        assert caught.value.blueprint is blueprint
    assert [str(request.url) for request in transport.requests] == [
        "https://api.test/v1/public",
        "https://other.test/x",
    ]
    assert not any("Authorization" in request.headers for request in transport.requests)


async def test_a_foreign_origin_raises() -> None:
    """R6: a URL that may not see the token raises before anything is sent."""
    app, blueprint, transport = make()
    async with app.app_context():
        with pytest.raises(ForeignOriginError) as caught:
            await blueprint.session.get("https://evil.test/?leak")
    assert caught.value.blueprint is blueprint
    assert transport.requests == []


async def test_streaming() -> None:
    """`stream` yields the answer as it comes, and the connection is given back."""
    app, blueprint, transport = make()
    transport.answer = lambda _: httpx2.Response(
        200, stream=Body(*[b"chunk %d\n" % number for number in range(5)])
    )
    seen = []
    async with app.app_context():
        async with blueprint.session.stream("GET", "/lines") as response:
            assert response.status_code == 200
            async for chunk in response.aiter_bytes():
                seen.append((chunk, transport.bodies[0].sent))
        assert transport.bodies[0].closed
    assert seen == [(b"chunk %d\n" % n, n + 1) for n in range(5)]


@pytest.mark.parametrize("error", [None, RuntimeError])
async def test_a_stream_that_is_left_early(error: type[Exception] | None) -> None:
    """T9: a stream that is not read to its end is closed all the same."""
    app, blueprint, transport = make()
    transport.answer = lambda _: httpx2.Response(200, stream=Body(b"a", b"b", b"c"))
    async with app.app_context():
        try:
            async with blueprint.session.stream("GET", "/lines") as response:
                async for _ in response.aiter_raw():
                    if error:
                        raise error
                    break
        except RuntimeError:
            pass
    assert transport.bodies[0].sent == 1
    assert transport.bodies[0].closed


async def test_every_answer_is_closed() -> None:
    """T9: also those of plain calls, and of redirects that were followed."""
    app, blueprint, transport = make()
    answers = [
        httpx2.Response(302, headers={"Location": "/v1/there"}, stream=Body(b"x")),
        httpx2.Response(200, stream=Body(b"1", b"2")),
    ]
    transport.answer = lambda _: answers.pop(0)
    async with app.app_context():
        assert (await blueprint.session.get("/here")).content == b"12"
    assert [body.closed for body in transport.bodies] == [True, True]


@pytest.mark.parametrize(
    ("method", "option", "status"),
    [("GET", None, 200), ("HEAD", None, 200), ("POST", None, 302)]
    + [("GET", False, 302), ("POST", True, 200)],
)
async def test_redirects(method: str, option: bool | None, status: int) -> None:
    """R7: GET and HEAD follow redirects, others only when asked to."""
    app, blueprint, transport = make()
    transport.answer = lambda request: (
        httpx2.Response(302, headers={"Location": "/v1/there"})
        if request.url.path == "/v1/here"
        else httpx2.Response(200)
    )
    async with app.app_context():
        response = await blueprint.session.request(
            method, "/here", follow_redirects=option
        )
    assert response.status_code == status


async def test_cookies_are_a_visitors_own(dev_provider: DevProvider) -> None:
    """S15: what the provider sets as cookies reaches no other visitor."""
    app, blueprint = make_app(dev_provider)

    @app.get("/cookie")
    async def cookie() -> Any:
        first = (await blueprint.session.get("cookie")).json()["cookies"]
        return [first, (await blueprint.session.get("cookie")).json()["cookies"]]

    alice, bob = Visitor(app), Visitor(app)
    await alice.login(dev_provider)
    await bob.login(dev_provider, "bob")
    cookies = {token.person.login: token.cookie for token in dev_provider.tokens}
    for visitor, login in ((alice, "alice"), (bob, "bob"), (alice, "alice")):
        response = await visitor.get("/cookie")
        assert json.loads(await response.get_data()) == [
            {},
            {"dev_provider": cookies[login]},
        ]


async def test_a_session_is_made_on_first_use_and_kept() -> None:
    """There is one session for each context; another context has another one."""
    app, blueprint, _ = make()
    async with app.app_context():
        first = blueprint.current_session()
        assert blueprint.current_session() is first
        assert isinstance(blueprint.session, OAuth2Session)
        assert repr(blueprint.session) == "<OAuth2Session of 'dev'>"
    async with app.app_context():
        assert blueprint.current_session() is not first


async def test_a_session_knows_its_client() -> None:
    """`base_url` and `client_id` are those of the blueprint, as in Flask-Dance."""
    app, blueprint, _ = make()
    async with app.app_context():
        assert blueprint.session.base_url == "https://api.test/v1"
        assert blueprint.session.client_id == "the-client"


async def test_in_a_websocket() -> None:
    """`blueprint.session` works in a WebSocket."""
    app, blueprint, _ = make()

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()
        response = await blueprint.session.get("/user")
        await websocket.send(str(response.status_code))

    async with app.test_client().websocket("/ws") as client:
        assert await client.receive() == "200"


async def test_in_a_background_task() -> None:
    """A background task has a session of its own, and a shared token is at hand."""
    app, blueprint, _ = make()
    seen: list[Any] = []

    async def job() -> None:
        seen.append(blueprint.current_session())
        seen.append((await blueprint.session.get("/user")).status_code)

    @app.get("/start")
    async def start() -> str:
        seen.append(blueprint.current_session())
        app.add_background_task(job)
        return "started"

    await Visitor(app).get("/start")
    await asyncio.gather(*app.background_tasks)
    of_request, of_job, status = seen
    assert of_request is not of_job
    assert status == 200


@pytest.mark.parametrize("storage", [MemoryStorage(TOKEN), None])
async def test_in_a_bare_app_context(storage: Any) -> None:
    """Without a request a shared token is at hand, a visitor's session is not."""
    app, blueprint, _ = make(storage=storage)
    async with app.app_context():
        if storage:
            assert (await blueprint.session.get("/user")).status_code == 200
            return
        with pytest.raises(StorageError) as caught:
            await blueprint.session.get("/user")
        assert "there is no request here" in str(caught.value)


async def test_outside_of_any_context() -> None:
    """S16: without a context the error says what to write."""
    _, blueprint, _ = make()
    for use in (lambda: blueprint.session.authorized, blueprint.current_session):
        with pytest.raises(RuntimeError, match=r"blueprint\.session_for\(user_id="):
            use()
