"""What may be seen of a secret under Flask: not in errors, frames, logs or reprs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flask
import httpx2
import pytest
from accounts import TOO_LONG
from libraries import Library
from rooms import FlaskVisitor
from secrecy import HOUSE, assert_discreet
from support import query

from quart_dance.consumer import flight
from quart_dance.consumer import storage as async_storages
from quart_dance.consumer.runtime import runtime
from quart_dance.errors import (
    NotAuthorizedError,
    StorageError,
    TokenExpiredError,
    TokenRequestError,
    TokenTooLargeError,
)
from quart_dance.flask import SyncStorage
from quart_dance.flask.consumer import oauth_login_failed, storage
from quart_dance.testing import faults

S = "Sesame0penSesame0penSesame0pen"
TOKEN = {"access_token": S, "refresh_token": f"{S}-r", "authed_user": {"token": S}}
EXPIRED = {**TOKEN, "expires_at": 1}


class Sync(storage.BaseStorage):
    """A storage whose database repeats what it was given."""

    def __init__(self, token: Any = None) -> None:
        self.token = token

    def get(self, blueprint: Any) -> Any:
        return self.token

    def set(self, blueprint: Any, token: Any) -> None:
        raise RuntimeError(f"failed [parameters: {json.dumps(token)}]")

    def delete(self, blueprint: Any) -> None:
        self.token = None


class Async(async_storages.MemoryStorage):
    """The same with coroutines."""

    async def set(self, blueprint: Any, token: Any) -> None:
        raise RuntimeError(f"failed [parameters: {json.dumps(token)}]")


class Refusing(Sync):
    """A storage that says in our own words that it cannot keep a token."""

    def set(self, blueprint: Any, token: Any) -> None:
        raise StorageError("this is a replica")


class AsyncRefusing(async_storages.MemoryStorage):
    """The same with coroutines."""

    async def set(self, blueprint: Any, token: Any) -> None:
        raise StorageError("this is a replica")


def refusing_in_time(token: Any = None) -> Any:
    """Return a storage with coroutines whose calls may take some seconds."""
    return SyncStorage(AsyncRefusing(token), timeout=30)


refusing_kinds = pytest.mark.parametrize("kind", [Refusing, refusing_in_time])
both_kinds = pytest.mark.parametrize("kind", [Sync, Async])


def fails(app: flask.Flask, call: Callable[[], Any]) -> Exception:
    """Return the error of a call in a request."""
    with app.test_request_context("/"):
        try:
            call()
        except Exception as error:
            return error
    raise AssertionError("nothing was raised")


def failed_login(library: Library, fault: Any = None, **options: Any) -> Any:
    """Go through a login that fails; return its error and its secrets."""
    app, blueprint = library.make(**options)
    caught: list[Exception] = []
    visitor, provider = FlaskVisitor(app), library.provider
    if fault:
        provider.fault("token", fault)
    with oauth_login_failed.connected_to(
        lambda sender, exception: caught.append(exception), blueprint
    ):
        page = visitor.login(provider)
    assert page.status >= 500
    [asked] = [call for call in provider.calls if call.endpoint == "token"]
    secrets = [asked.form["code"], asked.form["code_verifier"]]
    secrets += asked.headers["Authorization"].split(" ")[1:]
    for token in provider.tokens:
        secrets += [token.access_token, token.refresh_token or token.access_token]
    assert not any(secret in page.text for secret in secrets)
    return caught[0], secrets


@pytest.mark.parametrize(
    "answer",
    [
        faults.Answer.json({"error": "invalid_grant", "error_description": S}, 400),
        faults.Answer.html(S, 500),
        faults.Altered({"token_type": S}),
        faults.Altered({"access_token": ""}),
    ],
    ids="refused page type empty".split(),
)
def test_callback(library, answer):
    """L2 L3: a token endpoint that fails while a visitor logs in."""
    error, secrets = failed_login(library, answer)
    assert isinstance(error, TokenRequestError)
    assert_discreet(error, *secrets)


@both_kinds
def test_storage_at_the_callback(library, kind):
    """L2 L3: a storage that repeats the token which it cannot keep."""
    error, secrets = failed_login(library, storage=kind())
    assert isinstance(error, StorageError) and "RuntimeError" in str(error)
    assert_discreet(error, *secrets)


@refusing_kinds
def test_refused_at_the_callback(library, kind):
    """L2: an error of ours goes through as it is, and shows no token on its way."""
    error, secrets = failed_login(library, storage=kind())
    assert isinstance(error, StorageError) and "replica" in str(error)
    assert_discreet(error, *secrets)


def test_too_large(library):
    """L2: a token that no cookie holds."""
    fault = faults.Altered({"access_token": TOO_LONG})
    error, secrets = failed_login(library, fault)
    assert isinstance(error, TokenTooLargeError)
    assert_discreet(error, TOO_LONG, *secrets)


@both_kinds
@pytest.mark.parametrize("what", ["set", "assign", "refresh"])
def test_storage_elsewhere(library, kind, what, monkeypatch):
    """L2 L3: the same wherever else a token is stored."""
    monkeypatch.setattr(flight, "SAVING", 0)
    app, blueprint = library.make(storage=kind(EXPIRED))
    answer = faults.Answer.json({"access_token": f"{S}-2", "token_type": "bearer"})
    library.provider.fault("token", answer)
    error = fails(
        app,
        {
            "set": lambda: blueprint.set_token(TOKEN),
            "assign": lambda: setattr(blueprint, "token", TOKEN),
            "refresh": lambda: blueprint.session.get("user"),
        }[what],
    )
    assert isinstance(error, StorageError)
    assert_discreet(error, S)


@refusing_kinds
@pytest.mark.parametrize("what", ["set", "refresh", "failed refresh", "storage"])
def test_refused_elsewhere(library, kind, what, monkeypatch):
    """L2: the same wherever else, and when reading the token was the last call."""
    monkeypatch.setattr(flight, "SAVING", 0)
    app, blueprint = library.make(storage=kind(EXPIRED))
    answer = faults.Answer.json({"access_token": f"{S}-2", "token_type": "bearer"})
    failed = what == "failed refresh"
    library.provider.fault("token", faults.SERVER_ERROR if failed else answer)
    calls: dict[str, Callable[[], Any]] = {
        "set": lambda: blueprint.set_token(TOKEN),
        "storage": lambda: blueprint.storage.set(blueprint, TOKEN),
    }
    error = fails(app, calls.get(what, lambda: blueprint.session.get("user")))
    assert isinstance(error, TokenRequestError if failed else StorageError)
    assert_discreet(error, S[:10])  # a future's repr cuts strings short


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        (EXPIRED, TokenRequestError),
        ({"access_token": S, "expires_at": 1}, TokenExpiredError),
        (None, NotAuthorizedError),
    ],
)
def test_calls(library, token, kind):
    """L2: an API call that has no usable token."""
    app, blueprint = library.make(storage=library.storages.MemoryStorage(token))
    words = {"error": "invalid_request", "error_description": f"not {S}-r"}
    library.provider.fault("token", faults.Answer.json(words, 400))
    error = fails(app, lambda: blueprint.session.get("user"))
    assert isinstance(error, kind)
    assert_discreet(error, S)


@pytest.mark.parametrize(
    "token", [S, [S], {"access_token": "", "refresh_token": S}, {"access_token": 5}]
)
def test_nonsense(library, token):
    """L2: what the application takes for a token, and is none."""
    app, blueprint = library.make(storage=library.storages.MemoryStorage())
    error = fails(app, lambda: setattr(blueprint, "token", token))
    assert isinstance(error, TypeError | ValueError)
    assert_discreet(error, S)


@pytest.mark.parametrize("wrapped", [False, True])
def test_unreachable_api(library, wrapped):
    """L2: the error of an API call is httpx2's, but our frames show no secret."""
    kept: Any = async_storages.MemoryStorage(TOKEN)
    app, blueprint = library.make(storage=SyncStorage(kept) if wrapped else kept)
    runtime(app).transport = None
    blueprint.base_url = "http://127.0.0.1:1/"
    error = fails(app, lambda: blueprint.session.get("user"))
    assert isinstance(error, httpx2.ConnectError)
    trace = error.__traceback__
    while trace:
        if Path(trace.tb_frame.f_code.co_filename).is_relative_to(HOUSE):
            assert "Sesame" not in repr(dict(trace.tb_frame.f_locals))
        trace = trace.tb_next
    with app.app_context():
        blueprint.close()


def test_logs(library, caplog):
    """L1: no logger says a secret, from the login to the failure of a refresh."""
    caplog.set_level(logging.DEBUG)
    app, blueprint = library.make()
    visitor, provider = FlaskVisitor(app), library.provider
    begun = visitor.open("/login/dev").location
    page = visitor.login(provider)
    assert page.status == 302
    assert visitor.open("/me").text == "alice"
    later = runtime(app).clock() + 3700
    runtime(app).clock = lambda: later
    provider.fault("token", faults.SERVER_ERROR)
    assert visitor.open("/me").status == 502
    provider.expire_access_tokens()
    assert visitor.open("/me").text == "alice"
    secrets = {query(begun)["state"], "dev-client-secret"}
    for call in provider.calls:
        for key in ("code", "code_verifier", "refresh_token"):
            secrets.update(call.form.getlist(key))
        secrets.update(call.headers.get("Authorization", "").split(" ")[1:])
    assert len(secrets) >= 8 and len(caplog.records) >= 6
    for record in caplog.records:
        said = record.getMessage() + repr(record.args) + repr(record.exc_info)
        assert not [secret for secret in secrets if secret in said], record.name


def test_reprs(library):
    """L2: neither the blueprint, nor its session, storage or token shows a secret."""
    app, blueprint = library.make(storage=SyncStorage(Async(TOKEN)))
    with app.test_request_context("/"):
        shown = [blueprint, blueprint.session, blueprint.storage, blueprint.token, app]
        shown += [blueprint.config, blueprint.session.token, runtime(app)]
        assert "Sesame" not in repr(shown) + str(shown)
        assert "dev-client-secret" not in repr(shown)
