"""What an application answers itself, and what we answer in its place."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart, Response
from support import Transport, Visitor, make_app, make_client_app

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import (
    ForeignOriginError,
    NotAuthorizedError,
    OAuthError,
    TokenExpiredError,
    TokenRequestError,
)
from quart_dance.testing import DevProvider


def tenants(provider: DevProvider) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return an application whose login and views are each tenant's own."""
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"
    blueprint = OAuth2ConsumerBlueprint("dev", __name__, **provider.options())
    app.register_blueprint(blueprint, url_prefix="/<tenant>/login")
    provider.install(app)

    @app.get("/<tenant>/inbox/<int:page>")
    @blueprint.session.authorization_required
    async def inbox(tenant: str, page: int) -> str:
        return f"{tenant} {page}"

    @app.get("/plain")
    @blueprint.session.authorization_required
    async def plain() -> str:
        return "plain"

    return app, blueprint


async def test_a_view_without_the_variable():
    """F9: where no URL of the login can be made, the answer is 401, not 500."""
    app, _ = tenants(DevProvider())
    response = await Visitor(app).get("/plain")
    assert response.status_code == 401
    assert (await response.get_json())["login_url"] is None


async def test_a_prefix_with_a_variable():
    """The way to the login, and back, keeps the variables of the `url_prefix`."""
    provider = DevProvider()
    app, _ = tenants(provider)
    visitor = Visitor(app)
    response = await visitor.get("/acme/inbox/7")
    assert response.status_code == 302
    assert response.location == "/acme/login/dev?next=/acme/inbox/7"
    json = {"Accept": "application/json"}
    response = await visitor.get("/acme/inbox/7", headers=json)
    assert await response.get_json() == {
        "error": "not_authorized",
        "login_url": "/acme/login/dev?next=/acme/inbox/7",
    }
    login = "/acme/login/dev?next=/acme/inbox/7"
    response = await visitor.login(provider, path=login)
    assert response.location == "/acme/inbox/7"
    response = await visitor.get("/acme/inbox/7")
    assert await response.get_data(as_text=True) == "acme 7"


class Desks(MemoryStorage):
    """One token for each user, and the boss has none, or one that has run out."""

    def __init__(self, token: Any) -> None:
        super().__init__()
        self.boss = token

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        return str(who.get("user_id", "me"))

    async def get(self, blueprint: Any, **who: Any) -> Any:
        return self.boss if who else await super().get(blueprint)


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (None, NotAuthorizedError),
        ({"access_token": "old", "expires_at": 1, "expires_in": 1}, TokenExpiredError),
    ],
)
async def test_an_account_without_a_usable_token(token, kind):
    """A 401, and no way to a login of the visitor's, which would not help: no loop."""
    provider, caught = DevProvider(), []
    app, blueprint = make_app(provider, storage=Desks(token))

    @app.get("/report")
    async def report() -> Any:
        try:
            await blueprint.session_for(user_id="boss").get("user")
        except OAuthError as error:
            caught.append(error)
            raise

    visitor = Visitor(app)
    await visitor.login(provider)
    for headers in ({}, {"Accept": "application/json"}):
        response = await visitor.get("/report", headers=headers)
        assert (response.status_code, response.location) == (401, None)
        answer = {"error": "not_authorized", "login_url": None}
        assert await response.get_json() == answer
        assert response.headers["Cache-Control"] == "no-store"
    assert [(type(error), error.blueprint) for error in caught] == [(kind, None)] * 2


async def test_other_errors_are_the_applications():
    """Its handler of all exceptions sees a `ForeignOriginError` as it was raised."""
    storage = MemoryStorage({"access_token": "some-token"})
    app, blueprint = make_client_app(Transport(), storage=storage)
    caught = []

    @app.errorhandler(Exception)
    async def handle(error: Exception) -> Any:
        caught.append(type(error))
        return "mine", 418

    @app.get("/wrong")
    async def wrong() -> Any:
        await blueprint.session.get("https://other.test/")

    assert (await Visitor(app).get("/wrong")).status_code == 418
    assert caught == [ForeignOriginError]


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("status", [401, 502])
@pytest.mark.parametrize("is_coroutine", [True, False])
async def test_a_handler_of_the_application_wins(first, status, is_coroutine):
    """One for `OAuthError` beats ours, whichever was registered first."""
    app = Quart(__name__)
    blueprint = OAuth2ConsumerBlueprint("dev", __name__)
    if not first:
        app.register_blueprint(blueprint)

    def handle(error: OAuthError) -> Any:
        return f"mine: {error}", 418

    async def handle_async(error: OAuthError) -> Any:
        return handle(error)

    app.register_error_handler(OAuthError, handle_async if is_coroutine else handle)
    if first:
        app.register_blueprint(blueprint)

    @app.get("/<int:wanted>")
    async def fail(wanted: int) -> Any:
        error = {401: NotAuthorizedError("x"), 502: TokenRequestError("timeout", "x")}
        raise blueprint.about(error[wanted])

    response = await Visitor(app).get(f"/{status}")
    assert response.status_code == 418
    expected = "mine: x" if status == 401 else "mine: timeout: x"
    assert await response.get_data(as_text=True) == expected


async def test_a_logout_after_the_request():
    """An `after_request` from before the blueprint may still change the session."""
    provider = DevProvider()
    app = Quart(__name__)
    app.secret_key = "the secret key of the tests"

    @app.after_request
    async def leave(response: Response) -> Response:
        if response.status_code == 204:
            await blueprint.delete_token()
        return response

    blueprint = OAuth2ConsumerBlueprint("dev", __name__, **provider.options())
    app.register_blueprint(blueprint, url_prefix="/login")
    provider.install(app)

    @app.get("/leave")
    async def bye() -> Any:
        return "", 204

    @app.get("/in")
    async def inside() -> Any:
        return str(await blueprint.session.authorized)

    visitor = Visitor(app)
    await visitor.login(provider)
    assert await (await visitor.get("/in")).get_data(as_text=True) == "True"
    assert (await visitor.get("/leave")).status_code == 204
    assert await (await visitor.get("/in")).get_data(as_text=True) == "False"
