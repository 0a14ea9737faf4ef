"""`SessionStorage`: the visitor's own session, and what fits into it."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import Browser
from quart import Quart, Response, session, stream_with_context, websocket
from quart.sessions import SessionInterface, SessionMixin
from support import Transport, Visitor, make_app, make_client_app

from quart_dance.consumer import oauth_login_failed
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.errors import StorageError, TokenTooLargeError
from quart_dance.testing import DevProvider, faults

TOKEN = {"access_token": "at-1", "token_type": "bearer"}
# Random enough to stay as long as it is, compressed or not.
LONG = "".join(f"{number * 2654435761 % 2**32:08x}" for number in range(2000))


def make(**options: Any) -> tuple[Quart, Any]:
    """Return an application whose routes set, read and delete a token."""
    app, blueprint = make_client_app(Transport(), **options)

    @app.get("/set/<int:size>")
    async def put(size: int) -> Any:
        session["own"] = "kept"
        try:
            await blueprint.set_token({**TOKEN, "id_token": LONG[:size]})
        except TokenTooLargeError as error:
            return str(error), 413
        return "set"

    @app.get("/token")
    async def token() -> Any:
        return {"token": await blueprint.token, "own": session.get("own")}

    @app.get("/delete")
    async def delete() -> str:
        await blueprint.delete_token()
        return "deleted"

    return app, blueprint


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({}, "dev_oauth_token"),
        ({"storage": SessionStorage(key="mine")}, "mine"),
        ({"storage": SessionStorage("{bp.name}/t")}, "dev/t"),
        ({"storage": SessionStorage}, "dev_oauth_token"),
    ],
)
async def test_the_key(
    dev_provider: DevProvider, options: dict[str, Any], key: str
) -> None:
    """The default storage is the session, under a key that one can choose."""
    app, _ = make_app(dev_provider, **options)

    @app.get("/keys")
    async def keys() -> Any:
        return {name: value["access_token"] for name, value in session.items()}

    visitor = Visitor(app)
    await visitor.login(dev_provider)
    (token,) = dev_provider.tokens
    assert await (await visitor.get("/keys")).get_json() == {key: token.access_token}
    assert (await Visitor(app).get("/me")).status_code == 401


@pytest.mark.parametrize("kept", [True, False])
async def test_refresh_tokens(dev_provider: DevProvider, kept: bool) -> None:
    """L6: `refresh_tokens=False` keeps none; then an expired token means a login."""
    app, blueprint = make_app(dev_provider, storage=SessionStorage(refresh_tokens=kept))

    @app.get("/keys")
    async def keys() -> Any:
        return sorted(await blueprint.token or {})

    @app.get("/status")
    async def status() -> Any:
        return str((await blueprint.session.get("user")).status_code)

    visitor = Visitor(app)
    await visitor.login(dev_provider)
    names = await (await visitor.get("/keys")).get_json()
    assert ("refresh_token" in names) is kept
    dev_provider.expire_access_tokens()
    # By our clock it is still good; the API says otherwise.
    response = await visitor.get("/status")
    assert await response.get_data() == (b"200" if kept else b"401")
    names = await (await visitor.get("/keys")).get_json()
    assert bool(names) is kept


@pytest.mark.parametrize("permanent", [False, True])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {
            "SESSION_COOKIE_NAME": "a_rather_long_name_for_a_cookie",
            "SESSION_COOKIE_DOMAIN": "app.test",
            "SESSION_COOKIE_SAMESITE": "Strict",
            "SESSION_COOKIE_SECURE": True,
            "SESSION_COOKIE_PATH": "/",
        },
    ],
    ids=["default", "attributes"],
)
async def test_the_largest_token_fits(config: dict[str, Any], permanent: bool) -> None:
    """T13: by the byte: what is accepted comes back, the next larger one is refused."""
    app, _ = make()
    app.config.update(config)

    @app.before_request
    async def last() -> None:
        session.permanent = permanent

    accepted, refused = 0, len(LONG)
    while refused - accepted > 1:
        size = (accepted + refused) // 2
        response = await Visitor(app).get(f"/set/{size}")
        if response.status_code == 200:
            accepted = size
        else:
            assert response.status_code == 413
            refused = size
    assert accepted > 2000
    browser = Browser(app)
    response: Any = await browser.get(f"/set/{accepted}")
    (cookie,) = response.headers.get_list("Set-Cookie")
    assert 4030 <= len(cookie.encode()) <= 4093
    kept = (await browser.get("/token")).json()
    assert kept == {"token": {**TOKEN, "id_token": LONG[:accepted]}, "own": "kept"}
    # One that is too large leaves the session as it is.
    assert (await browser.get(f"/set/{refused}")).status_code == 413
    assert (await browser.get("/token")).json() == kept


async def test_a_login_that_does_not_fit(dev_provider: DevProvider) -> None:
    """T13: a token too large for the cookie is a failed login; the old one stays."""
    app, blueprint = make_app(dev_provider)
    visitor = Visitor(app)
    await visitor.login(dev_provider)
    seen: list[Any] = []

    def note(sender: Any, exception: Exception) -> None:
        seen.append(type(exception))

    dev_provider.fault("token", faults.Altered({"id_token": LONG[:8000]}))
    with oauth_login_failed.connected_to(note, blueprint):
        assert (await visitor.login(dev_provider, "bob")).status_code == 500
    assert seen == [TokenTooLargeError]
    assert await (await visitor.get("/me")).get_data() == b"alice"


class OnTheServer(SessionInterface):
    """Sessions that the server keeps."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    async def open_session(self, app: Any, request: Any) -> Any:
        class Session(dict[str, Any], SessionMixin):
            pass

        return Session(self.values.get(request.cookies.get("sid", ""), {}))

    async def save_session(self, app: Any, values: Any, response: Any) -> None:
        self.values["1"] = dict(values)
        response.set_cookie("sid", "1")


async def test_server_side_sessions_have_no_limit() -> None:
    """T13: with sessions on the server an 8 kB token is as good as any."""
    app, _ = make()
    app.session_interface = OnTheServer()
    visitor = Visitor(app)
    assert (await visitor.get("/set/8192")).status_code == 200
    kept = await (await visitor.get("/token")).get_json()
    assert kept["token"]["id_token"] == LONG[:8192]
    await visitor.get("/delete")
    assert (await (await visitor.get("/token")).get_json())["token"] is None


async def test_delete_leaves_the_rest_of_the_session() -> None:
    """`delete_token` takes the token, and nothing else, out of the session."""
    visitor = Visitor(make()[0])
    await visitor.get("/set/5")
    for _ in range(2):
        assert (await visitor.get("/delete")).status_code == 200
    assert await (await visitor.get("/token")).get_json() == {
        "token": None,
        "own": "kept",
    }


async def test_two_blueprints_in_one_session(dev_provider: DevProvider) -> None:
    """S15: two blueprints never meet in one session."""
    app, blueprint = make_app(dev_provider)
    other: Any = type(blueprint)("other", __name__, **dev_provider.options())
    app.register_blueprint(other, url_prefix="/login")

    @app.get("/both")
    async def both() -> Any:
        return [await b.session.authorized for b in (blueprint, other)]

    visitor = Visitor(app)
    await visitor.login(dev_provider)
    assert await (await visitor.get("/both")).get_json() == [True, False]
    await visitor.login(dev_provider, path="/login/other")
    assert await (await visitor.get("/both")).get_json() == [True, True]


async def test_without_a_secret_key() -> None:
    """S16: without a session the error says what to set."""
    app, blueprint = make_client_app(Transport())
    app.secret_key = None
    async with app.test_request_context("/"):
        assert await blueprint.token is None
        with pytest.raises(StorageError, match=r"set app\.secret_key"):
            await blueprint.set_token(TOKEN)


async def test_without_a_request() -> None:
    """Outside of a request there is no session, and the error says so."""
    app, blueprint = make_client_app(Transport())
    async with app.app_context():
        assert blueprint.storage.can_save() is False
        with pytest.raises(StorageError, match="there is no request here"):
            await blueprint.token
        for change in (blueprint.set_token(TOKEN), blueprint.delete_token()):
            with pytest.raises(StorageError, match="would stay as it is"):
                await change


async def test_a_websocket_reads_and_refuses_to_write() -> None:
    """A WebSocket has the visitor's token; what it sets would be lost, so it raises."""
    app, blueprint = make()
    seen: list[Any] = []

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()
        seen.append((await blueprint.token)["access_token"])
        for change in (blueprint.set_token(TOKEN), blueprint.delete_token()):
            try:
                await change
            except StorageError as error:
                seen.append(error.blueprint)
        blueprint.storage = MemoryStorage()
        await blueprint.set_token(TOKEN)
        await websocket.send("done")

    client = app.test_client()
    await client.get("/set/5")
    async with client.websocket("/ws") as connection:
        assert await connection.receive() == "done"
    assert seen == ["at-1", blueprint, blueprint]


async def test_after_the_response_it_is_too_late() -> None:
    """A streaming body runs when the session has been saved: setting raises."""
    app, blueprint = make()

    @app.get("/late")
    async def late() -> Response:
        @stream_with_context
        async def body() -> Any:
            try:
                await blueprint.set_token(TOKEN)
            except StorageError:
                yield b"too late"

        return Response(body())

    response = await Visitor(app).get("/late")
    assert await response.get_data() == b"too late"
