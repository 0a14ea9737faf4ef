"""A storage that cannot say whose token it is; a guard for an account that is named."""

from __future__ import annotations

from typing import Any

import pytest
from browsing import failures
from failures import everything_said
from support import Visitor, make_app

from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import StorageError
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "leak-me-12345678"}


class Forgetful(MemoryStorage):
    """Says whose token it is as often as it is allowed to."""

    answers = 10**9

    async def account(self, blueprint: Any, **who: Any) -> str | None:
        self.answers -= 1
        if self.answers < 0:
            raise ConnectionError("the database is down")
        return "42"


@pytest.mark.parametrize("answers", [0, 1])
async def test_an_account_that_cannot_be_read_at_the_callback(answers):
    """S8: whenever it fails, the login fails with a page and its signals."""
    provider, storage = DevProvider(), Forgetful()
    app, blueprint = make_app(provider, storage=storage)
    visitor = Visitor(app)
    callback = await provider.approve(await visitor.start())
    storage.answers = answers
    with failures(blueprint) as heard:
        response = await visitor.get(callback)
    assert response.status_code == 500
    assert "The login failed" in await response.get_data(as_text=True)
    assert [heard[0][0], type(heard[1])] == ["storage_error", StorageError]
    assert visitor.attempts == []
    storage.answers = 10**9
    assert (await visitor.get("/me")).status_code == 401


@pytest.mark.parametrize("method", ["set_token", "delete_token", "revoke_token"])
async def test_an_account_that_cannot_be_read_otherwise(method):
    """S8, L2: `set_token` and its like raise what they say that they raise."""
    provider, storage = DevProvider(), Forgetful(TOKEN)
    app, blueprint = make_app(provider, storage=storage)
    given = [TOKEN] if method == "set_token" else []
    async with app.app_context():
        storage.answers = 0
        with pytest.raises(StorageError, match="the database is down") as caught:
            await getattr(blueprint, method)(*given)
    assert "leak-me" not in everything_said(caught.value)


async def test_a_guard_for_an_account():
    """The guard of `session_for` sends nobody to a login that would not help."""
    provider = DevProvider()
    app, blueprint = make_app(provider)

    class Boss(Forgetful):
        async def get(self, blueprint: Any, **who: Any) -> Any:
            return None if who else await super().get(blueprint)

    blueprint.storage = Boss()

    @app.get("/report")
    @blueprint.session_for(user_id="boss", app=app).authorization_required
    async def report() -> str:
        return "secret"

    visitor = Visitor(app)
    await visitor.login(provider)
    response = await visitor.get("/report")
    assert (response.status_code, response.location) == (401, None)
