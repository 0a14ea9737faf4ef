"""Views behind a token: who may see them, and where the others go."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest
from quart import Quart, g, websocket
from quart.testing.connections import WebsocketResponseError
from support import Transport, Visitor, make_app, make_client_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.contrib.github import github, make_github_blueprint
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "at-1", "token_type": "bearer"}
HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

# At import time: there is no application yet, and no blueprint for the first one.
early = OAuth2ConsumerBlueprint("early", __name__)


@github.authorization_required
async def by_preset(word: str, *, times: int = 1) -> str:
    """Say a word."""
    return word * times


@early.session.authorization_required
async def by_session(word: str, *, times: int = 1) -> str:
    """Say a word."""
    return word * times


@early.session.authorization_required
def by_sync_view(word: str, *, times: int = 1) -> str:
    """Say a word."""
    return word * times


def make(storage: Any = None) -> Quart:
    """Return an application with all views of this module."""
    app, _ = make_client_app(Transport(), storage=storage or MemoryStorage())
    blueprint = make_github_blueprint("id", "secret", storage=early.storage)
    early.storage = blueprint.storage = storage or MemoryStorage()
    app.register_blueprint(blueprint)
    app.register_blueprint(early, url_prefix="/early")
    for view in (by_preset, by_session, by_sync_view):
        app.add_url_rule(f"/{view.__name__}/<word>", view_func=view)
        app.add_url_rule(
            f"/{view.__name__}/<word>/<int:times>", f"{view.__name__}2", view
        )
        app.add_url_rule(
            f"/{view.__name__}/<word>",
            f"{view.__name__}3",
            view,
            methods=["POST", "PUT", "DELETE"],
        )
    return app


VIEWS = ["by_preset", "by_session", "by_sync_view"]


@pytest.mark.parametrize("view", VIEWS)
async def test_with_a_token(view: str) -> None:
    """Views made at import time get their arguments, sync ones too."""
    visitor = Visitor(make(MemoryStorage(TOKEN)))
    for path, expected in ((f"/{view}/hi", b"hi"), (f"/{view}/hi/3", b"hihihi")):
        response = await visitor.get(path)
        assert (response.status_code, await response.get_data()) == (200, expected)


@pytest.mark.parametrize("view", [by_preset, by_session, by_sync_view])
def test_the_view_keeps_its_name(view: Any) -> None:
    """A guarded view has the name and the docstring of the view."""
    assert view.__name__ in VIEWS
    assert view.__doc__ == "Say a word."
    assert view.__module__ == __name__


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(
    "path",
    ["/hi", "/hi?a=1&b=2", "/gr%C3%BC%C3%9Fe?q=%E2%9C%93+x", "/a%20b?c=d%26e", "/hi?"],
)
async def test_a_get_goes_to_the_login_and_comes_back(view: str, path: str) -> None:
    """F9: without a token a GET is sent to the login, which knows path and query."""
    response = await Visitor(make()).get(f"/{view}{path}", {"Accept": HTML})
    assert response.status_code == 302
    login, _, _ = str(response.location).partition("?")
    assert login == ("/github" if view == "by_preset" else "/early/early")
    went = query(str(response.location))["next"]
    assert unquote(went) == unquote(f"/{view}{path.removesuffix('?')}")
    assert response.headers["Cache-Control"] == "no-store"


async def test_the_whole_way(dev_provider: DevProvider) -> None:
    """A visitor who had to log in lands where they were going, query and all."""
    app, blueprint = make_app(dev_provider)

    @app.get("/files/<path:name>")
    @blueprint.session.authorization_required
    async def files(name: str) -> str:
        return name

    visitor = Visitor(app)
    wanted = "/files/%C3%BCber%20uns/a-b?q=%E2%9C%93&page=2"
    response = await visitor.get(wanted)
    response = await visitor.login(dev_provider, path=str(response.location))
    assert response.location == wanted
    response = await visitor.get(str(response.location))
    assert await response.get_data(as_text=True) == "über uns/a-b"


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
async def test_what_cannot_come_back_gets_a_401(view: str, method: str) -> None:
    """Anything but a GET gets 401, with a link to the login."""
    response = await Visitor(make()).get(f"/{view}/hi", {"Accept": HTML}, method)
    assert response.status_code == 401
    assert response.headers["Cache-Control"] == "no-store"
    page = await response.get_data(as_text=True)
    login = "/github" if view == "by_preset" else "/early/early"
    assert method == "HEAD" or f'href="{login}"' in page


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "application/json, text/plain, */*",
        "text/html;q=0.1, application/json",
    ],
)
@pytest.mark.parametrize(
    ("method", "login_url"),
    [("GET", "/early/early?next=/by_session/hi?x%3D1"), ("POST", "/early/early")],
)
async def test_a_client_that_asks_for_json(
    accept: str, method: str, login_url: str
) -> None:
    """A client that prefers JSON gets a 401 in JSON, with the login's URL."""
    response = await Visitor(make()).get(
        "/by_session/hi?x=1", {"Accept": accept}, method
    )
    assert response.status_code == 401
    assert response.mimetype == "application/json"
    body = json.loads(await response.get_data())
    assert body.pop("error") == "not_authorized"
    assert unquote(body.pop("login_url")) == unquote(login_url)
    assert body == {}


@pytest.mark.parametrize("accept", [HTML, "*/*", "text/html, application/json", None])
async def test_a_client_that_does_not(accept: str | None) -> None:
    """Browsers, and those who do not say, are redirected."""
    headers = {"Accept": accept} if accept else {}
    response = await Visitor(make()).get("/by_session/hi", headers)
    assert response.status_code == 302


@pytest.mark.parametrize("storage", [MemoryStorage(TOKEN), MemoryStorage()])
async def test_a_websocket(storage: MemoryStorage) -> None:
    """A WebSocket without a token is refused with 401, before it is accepted."""
    app = make(storage)

    @app.websocket("/ws")
    @early.session.authorization_required
    async def ws() -> None:
        await websocket.accept()
        await websocket.send("hi")

    if await storage.get(early):
        async with app.test_client().websocket("/ws") as client:
            assert await client.receive() == "hi"
    else:
        with pytest.raises(WebsocketResponseError) as caught:
            async with app.test_client().websocket("/ws") as client:
                await client.receive()
        assert caught.value.response.status_code == 401


async def test_by_a_session_for_an_account() -> None:
    """`authorization_required` of a session for an account asks for its token."""
    app, blueprint = make_client_app(Transport(), storage=MemoryStorage())
    with pytest.raises(RuntimeError, match="no application here"):
        blueprint.session_for(anonymous=True)
    session = blueprint.session_for(anonymous=True, app=app)

    @app.get("/x")
    @session.authorization_required
    async def x() -> str:
        return "x"

    assert (await Visitor(app).get("/x")).status_code == 302


async def test_one_handler_for_each_application(dev_provider: DevProvider) -> None:
    """S15: with two blueprints each visitor is sent to the right login."""
    app, first = make_app(dev_provider, "first")
    second = OAuth2ConsumerBlueprint("second", __name__, **dev_provider.options())
    app.register_blueprint(second, url_prefix="/other")
    for blueprint in (first, second):

        @app.get(f"/needs-{blueprint.name}", endpoint=f"needs-{blueprint.name}")
        @blueprint.session.authorization_required
        async def needs() -> str:
            return "fine"

    visitor = Visitor(app)
    await visitor.login(dev_provider, path="/login/first")
    assert (await visitor.get("/needs-first")).status_code == 200
    response = await visitor.get("/needs-second")
    assert str(response.location).startswith("/other/second?next=")


async def test_a_route_that_uses_no_session_pays_nothing() -> None:
    """Nothing of ours is made for a request that does not ask for it."""
    app = make()

    @app.get("/plain")
    async def plain() -> Any:
        return [name for name in g if "dance" in name]

    response = await Visitor(app).get("/plain")
    assert json.loads(await response.get_data()) == []
