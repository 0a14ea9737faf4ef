"""What a session of Flask's does with a call, and what it does not know of requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import flask
import httpx2
import pytest
from libraries import Library

from quart_dance.consumer.runtime import runtime
from quart_dance.errors import TokenExpiredError
from quart_dance.flask.consumer import oauth_refreshed


def call(library: Library, use: Any, visitors: int = 1) -> list[Any]:
    """Let visitors who have logged in call the API in a view; return their JSON."""
    app, blueprint = library.make()
    app.add_url_rule("/use", "use", lambda: flask.jsonify(use(blueprint.session)))
    people = ["alice", "bob"][:visitors]
    browsers = [library.login(app, person) for person in people]
    return [flask.json.loads(browser.open("/use").text) for browser in browsers]


def test_stream(library):
    """`stream` reads an answer piece by piece, as `iter_bytes` or `iter_lines`."""

    def read(session: Any) -> list[str]:
        with session.stream("GET", "stream") as response:
            assert response.ok and not response.is_stream_consumed
            return list(response.iter_lines())

    [lines] = call(library, read)
    assert lines == [f'{{"line": {number}}}' for number in range(5)]


def test_methods(library):
    """There is a method for each of HTTP's; HEAD and OPTIONS bring no body here."""

    def use(session: Any) -> list[Any]:
        names = "get options head post put patch delete".split()
        answers = [getattr(session, name)("echo") for name in names]
        return [[a.request.method, a.status_code] for a in answers]

    assert call(library, use) == [
        [
            ["GET", 405],
            ["OPTIONS", 200],
            ["HEAD", 405],
            *([method, 200] for method in "POST PUT PATCH DELETE".split()),
        ]
    ]


def test_error_within_a_stream(library):
    """What goes wrong while an answer is read comes out, and the answer is closed."""
    kept = []

    def read(session: Any) -> str:
        with pytest.raises(LookupError, match="mine"):
            with session.stream("GET", "stream") as response:
                kept.append(response)
                raise LookupError("mine")
        return "fine"

    assert call(library, read) == ["fine"]
    assert kept[0].is_closed


@pytest.mark.parametrize(
    "option", [{"stream": True}, {"auth": ("a", "b")}, {"proxies": {}}, {"hooks": {}}]
)
def test_options_of_requests(library, option):
    """An option that only requests has is refused, not ignored."""

    def use(session: Any) -> str:
        with pytest.raises(TypeError, match=next(iter(option))):
            session.get("user", **option)
        return "refused"

    assert call(library, use) == ["refused"]
    assert library.provider.count("user") == 0


def test_unreachable(library):
    """An API that cannot be reached is an error of httpx2's."""
    app, blueprint = library.make(storage=library.storages.MemoryStorage())
    with app.app_context():
        blueprint.token = library.provider.issue_token()
        blueprint.base_url = "http://127.0.0.1:1/"
        runtime(app).transport = None
        with pytest.raises(httpx2.HTTPError):
            blueprint.session.get("user")
        blueprint.close()


def test_cookies(library):
    """The provider's cookies stay within one request of one visitor."""

    def use(session: Any) -> list[Any]:
        return [session.get("cookie").json()["cookies"] for _ in range(2)]

    for first, second in call(library, use, visitors=2):
        assert first == {} and list(second) == ["dev_provider"]


def test_withhold_token(library):
    """Without the token any URL will do."""

    def use(session: Any) -> int:
        response = session.get("https://elsewhere.test/user", withhold_token=True)
        return int(response.status_code)

    assert call(library, use) == [401]
    [request] = [c for c in library.provider.calls if "elsewhere" in c.url]
    assert "Authorization" not in request.headers


def test_named_account(shop):
    """A job without a request names the account, and the application."""
    shop.blueprint.storage = shop.storage(user_id=lambda: flask.session["_user_id"])
    shop.connect(shop.visitor(2), "bob")
    found: list[str] = []

    def job() -> None:
        session = shop.blueprint.session_for(user_id=2, app=shop.app)
        found.append(session.get("user").json()["login"])
        with shop.app.app_context():
            user = shop.db.session.get(shop.User, 2)
            session = shop.blueprint.session_for(user=user)
            found.append(str(session.authorized))
            found.append(session.authorization_required(lambda: "welcome")())
            session = shop.blueprint.session_for(user_id=1)
            found.append(str(session.authorized))

    thread = threading.Thread(target=job)
    thread.start()
    thread.join(30)
    assert found == ["bob", "True", "welcome", "False"]


def test_account_that_cannot_be_named(library):
    """Who names nobody, or an account in the session, hears what is wrong."""
    app, blueprint = library.make()
    with app.app_context():
        with pytest.raises(ValueError, match="name one account"):
            blueprint.session_for(user_id=None)
        with pytest.raises(TypeError, match="no account to name"):
            blueprint.session_for(user_id=1)
    with pytest.raises(RuntimeError, match=r"session_for\(app=…\)"):
        blueprint.session_for(user_id=1)


def test_receiver_of_a_refresh(library):
    """A receiver runs in the thread of the request, and may change its session."""
    app, blueprint = library.make()
    visitor, threads = library.login(app), []
    library.provider.expire_access_tokens()
    now = runtime(app).clock
    runtime(app).clock = lambda: now() + 3700

    def refreshed(sender: Any, token: Any) -> None:
        threads.append(threading.current_thread())
        flask.session["refreshed"] = True

    with oauth_refreshed.connected_to(refreshed, blueprint):
        assert visitor.open("/me").text == "alice"
    assert threads == [threading.current_thread()]
    with visitor.client.session_transaction(base_url="https://app.test") as session:
        assert session["refreshed"] and session["dev_oauth_token"]


def test_streamed_body(library):
    """Where the session is not saved any more, no refresh token is spent."""
    app, blueprint = library.make()

    @app.get("/stream")
    def stream() -> flask.Response:
        def body() -> Iterator[str]:
            with pytest.raises(TokenExpiredError):
                blueprint.session.get("user")
            yield "expired"

        return flask.Response(flask.stream_with_context(body()))

    visitor = library.login(app)
    library.provider.expire_access_tokens()
    now = runtime(app).clock
    runtime(app).clock = lambda: now() + 3700
    assert visitor.open("/stream").text == "expired"
    assert library.provider.count("token") == 1
    assert visitor.open("/me").text == "alice"
