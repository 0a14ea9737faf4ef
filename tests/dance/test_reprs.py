"""What a repr shows of a secret: nothing."""

from __future__ import annotations

import pprint
from collections.abc import Iterator

from support import make_app

from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.consumer.visit import Cookie, Reply, Visit
from quart_dance.oauth.answer import Answer
from quart_dance.oauth.attempt import Attempt, Seal
from quart_dance.oauth.oauth2 import (
    Client,
    code_form,
    read_callback,
    refresh_form,
    revocation_form,
)
from quart_dance.oauth.token import Secrets, Token
from quart_dance.testing import DevProvider

S = "Sesame0penSesame0penSesame0pen"
TOKEN = {"access_token": S, "refresh_token": f"{S}-r", "authed_user": {"token": S}}


def values() -> Iterator[object]:
    """Make one of everything that holds a secret."""
    client = Client("id", S)
    app, blueprint = make_app(DevProvider(client_secret=S))
    attempt = Attempt(1, "dev", S, S, "https://app.test/", None, None)
    yield from (Token(TOKEN), [Token(TOKEN)], Token(TOKEN).copy(), Secrets([S]))
    yield from (client, DevProvider(client_secret=S), blueprint, app, runtime(app))
    uri, base = "https://app.test/cb", "https://provider.test/token"
    code = {"redirect_uri": uri, "code_verifier": S, "params": {}}
    for method in ("client_secret_basic", "client_secret_post"):
        yield code_form(base, Client("id", S, method), code=S, **code)
    yield from (refresh_form(base, client, refresh_token=S, params={}),)
    yield revocation_form(base, client, TOKEN)
    yield from (Answer(200, {"x": S}, S.encode()), attempt, Seal([S]))
    yield read_callback(f"code={S}&state={S}".encode())
    cookie = Cookie("name", "/", True, S)
    yield from (cookie, Reply(location=f"https://x.test/?state={S}", cookies=(cookie,)))
    yield Visit(
        query=S.encode(),
        next=None,
        cookies={"a": S},
        cross_site=False,
        login_url="/login",
        callback_url="/",
        home="/",
        secret_keys=[S],
        runtime=runtime(app),
    )
    yield from (MemoryStorage(TOKEN), SessionStorage())


def test_reprs():
    """L2: repr, str and format of what holds a secret do not show it."""
    for value in values():
        for text in (repr(value), f"{value}", ascii(value), pprint.pformat(value)):
            assert "Sesame" not in text, type(value)


async def test_repr_of_sessions(dev_provider):
    """L2: nor do those of the sessions, the visitor's or an account's."""
    app, blueprint = make_app(dev_provider, storage=MemoryStorage(TOKEN))
    async with app.test_request_context("/"):
        session = blueprint.current_session()
        session.cookies.set("name", S)
        with blueprint.session_with(Token(TOKEN)):
            for value in (session, blueprint.session, session.token, session.cookies):
                assert "Sesame" not in f"{value!r} {pprint.pformat(value)}"
        assert "Sesame" not in repr(blueprint.session_for(anonymous=True))
