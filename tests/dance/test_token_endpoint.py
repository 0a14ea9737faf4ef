"""A token endpoint that fails: a typed error, a page, and nothing is lost."""

from __future__ import annotations

import gzip
import zlib

import pytest
from failures import failed_login, make_stage, stored_token
from support import Visitor

from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import TokenRequestError
from quart_dance.testing.faults import (
    BAD_GATEWAY,
    EMPTY,
    HTML_PAGE,
    NO_CONTENT,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    TRUNCATED,
    Altered,
    Answer,
)

JSON = {"Content-Type": "application/json"}
TOKEN = b'{"access_token":"leak-me","x":"%s"}'
GITHUB = {
    "error": "bad_verification_code",
    "error_description": "The code passed is incorrect or expired.",
    "error_uri": "https://docs.github.com/apps/managing-oauth-apps",
}


def page(status: int) -> Answer:
    return Answer.html("<h1>leak-me</h1>", status)


def altered(**changes: object) -> Altered:
    return Altered({"x": "leak-me", **changes})


def body(content: bytes, **headers: str) -> Answer:
    return Answer(200, content, {**JSON, **headers})


def encoded(encoding: str, content: bytes) -> Answer:
    return body(content, **{"Content-Encoding": encoding})


FAILURES = {
    # T1
    "html": (HTML_PAGE, "invalid_response", 200),
    "html-400": (page(400), "invalid_response", 400),
    "html-404": (page(404), "invalid_response", 404),
    "500": (SERVER_ERROR, "server_error", 500),
    "502": (BAD_GATEWAY, "server_error", 502),
    "429": (TOO_MANY_REQUESTS, "server_error", 429),
    "204": (NO_CONTENT, "invalid_response", 204),
    "empty": (EMPTY, "invalid_response", 200),
    "null": (Answer.json(None), "invalid_response", 200),
    "list": (Answer.json([1]), "invalid_response", 200),
    "string": (Answer.json("leak-me"), "invalid_response", 200),
    "not-utf8": (body(b'{"access_token":"\xff"}'), "invalid_response", 200),
    "truncated": (TRUNCATED, "invalid_response", 200),
    # T2
    "github": (Answer.json(GITHUB), "bad_verification_code", 200),
    "400": (Answer.json({"error": "invalid_grant"}, 400), "invalid_grant", 400),
    "401": (Answer.json({"error": "invalid_client"}, 401), "invalid_client", 401),
    "error-object": (
        Answer.json({"error": {"message": "no", "token": "leak-me"}}, 400),
        "error",
        400,
    ),
    # T4
    "no-token": (Altered(without=["access_token"]), "invalid_response", 200),
    "null-token": (altered(access_token=None), "invalid_response", 200),
    "empty-token": (altered(access_token=""), "invalid_response", 200),
    "int-token": (altered(access_token=12345), "invalid_response", 200),
    "list-token": (altered(access_token=["leak-me"]), "invalid_response", 200),
    "400-no-error": (Answer.json({"message": "no"}, 400), "invalid_response", 400),
    # T5
    "mac": (altered(token_type="mac"), "invalid_response", 200),
    "dpop": (altered(token_type="DPoP"), "invalid_response", 200),
    "null-type": (altered(token_type=None), "invalid_response", 200),
    # T8
    "duplicate": (
        body(b'{"access_token":"leak-me","access_token":"leak-me"}'),
        "invalid_response",
        200,
    ),
    "nested": (
        body(b'{"access_token":"leak-me","x":' + b"[" * 10**5 + b"]" * 10**5 + b"}"),
        "invalid_response",
        200,
    ),
    "1-mb-and-1": (
        body(TOKEN % (b"x" * (1_000_001 - len(TOKEN) + 2))),
        "invalid_response",
        None,
    ),
    "50-mb": (body(TOKEN % bytes(50_000_000)), "invalid_response", None),
    "gzip-bomb": (
        encoded("gzip", gzip.compress(TOKEN % bytes(50_000_000))),
        "invalid_response",
        None,
    ),
    "deflate-bomb": (
        encoded("deflate", zlib.compress(TOKEN % bytes(50_000_000))),
        "invalid_response",
        None,
    ),
    "no-gzip": (encoded("gzip", TOKEN % b""), "invalid_response", None),
    "unknown-encoding": (encoded("br", b"\x0b\x02\x80"), "invalid_response", None),
    # T10
    "cr-lf": (altered(access_token="leak-me\r\nX: y"), "invalid_response", 200),
    "nul": (altered(access_token="leak-me\0"), "invalid_response", 200),
    "space": (altered(access_token="leak-me too"), "invalid_response", 200),
    "non-ascii": (altered(access_token="leak-me-tök"), "invalid_response", 200),
    # R7
    "redirect": (
        Answer(307, b"", {"Location": "https://provider.test/token"}),
        "invalid_response",
        307,
    ),
}


@pytest.mark.parametrize("case", FAILURES)
async def test_failing_token_endpoint(dev_provider, case):
    """T1 T2 T4 T5 T8 T10 T14 R7 L2 L3: one request, a typed error, no secret, and
    nothing is stored; who was logged in before still is, with the older token.
    """
    fault, code, status = FAILURES[case]
    app, blueprint = make_stage(dev_provider)
    newcomer, regular = Visitor(app), Visitor(app)
    await regular.login(dev_provider)
    older = await stored_token(regular)
    for visitor in (newcomer, regular):
        dev_provider.fault("token", fault)
        error = await failed_login(visitor, dev_provider, blueprint, person="bob")
        assert isinstance(error, TokenRequestError)
        assert (error.error, error.status_code, error.status) == (code, status, 502)
        assert error.__cause__ is None and error.__context__ is None
        assert visitor.attempts == []
    assert (await newcomer.get("/me")).status_code == 401
    assert await stored_token(newcomer) is None
    assert await stored_token(regular) == older
    assert await (await regular.get("/me")).get_data(as_text=True) == "alice"


async def test_the_older_token_stays_in_a_shared_storage(dev_provider):
    """T1: likewise in a storage on the server."""
    app, blueprint = make_stage(dev_provider, storage=MemoryStorage())
    visitor = Visitor(app)
    await visitor.login(dev_provider)
    older = await stored_token(visitor)
    for fault in (SERVER_ERROR, HTML_PAGE, altered(access_token=None)):
        dev_provider.fault("token", fault)
        await failed_login(visitor, dev_provider, blueprint)
    assert await stored_token(visitor) == older


async def test_a_busy_provider_says_when(dev_provider):
    """T1: the Retry-After of a 429 is in the error."""
    app, blueprint = make_stage(dev_provider)
    dev_provider.fault("token", TOO_MANY_REQUESTS)
    error = await failed_login(Visitor(app), dev_provider, blueprint)
    assert error.retry_after == 30


async def test_what_the_provider_says_is_told(dev_provider):
    """T2: code and description of the provider's error are in the typed error."""
    app, blueprint = make_stage(dev_provider)
    dev_provider.fault("token", Answer.json(GITHUB))
    error = await failed_login(Visitor(app), dev_provider, blueprint)
    assert error.description == "The code passed is incorrect or expired."
    assert str(error) == (
        "bad_verification_code: The code passed is incorrect or expired."
    )


async def test_another_try_succeeds(dev_provider):
    """T1: the next login works, and replaces the older token."""
    app, blueprint = make_stage(dev_provider)
    visitor = Visitor(app)
    await visitor.login(dev_provider)
    dev_provider.fault("token", SERVER_ERROR)
    await failed_login(visitor, dev_provider, blueprint, person="bob")
    response = await visitor.login(dev_provider, person="bob")
    assert response.status_code == 302
    assert await (await visitor.get("/me")).get_data(as_text=True) == "bob"
