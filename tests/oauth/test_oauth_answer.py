"""What a token endpoint answers, and what it means."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_dance.errors import TokenRequestError
from quart_dance.oauth.answer import Answer, check, read_token
from quart_dance.oauth.token import Secrets, Token

NOW = 1_800_000_000
JSON = {"content-type": "application/json"}
FORM = {"content-type": "Application/X-WWW-Form-Urlencoded ; charset=utf-8"}


def token_in(body: bytes, status: int = 200, headers=JSON, **options) -> Token:
    return read_token(Answer(status, headers, body), now=NOW, **options)


def problem_of(body: bytes, status: int = 200, headers=JSON, **options):
    with pytest.raises(TokenRequestError) as caught:
        token_in(body, status, headers, **options)
    error = caught.value
    assert error.status_code == status
    assert error.__cause__ is None and error.__context__ is None
    return error


def test_token_of_the_rfc():
    """The example of RFC 6749, 5.1, is a token."""
    body = b"""{
       "access_token":"2YotnFZFEjr1zCsicMWpAA",
       "token_type":"example",
       "expires_in":3600,
       "refresh_token":"tGzv3JOkF0XG5Qx2TlKWIA",
       "example_parameter":"example_value"
     }"""
    assert token_in(body, token_types=("example",)) == {
        "access_token": "2YotnFZFEjr1zCsicMWpAA",
        "token_type": "example",
        "expires_in": 3600,
        "expires_at": 1_800_003_600,
        "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA",
        "example_parameter": "example_value",
    }


def test_one_token_type_may_be_a_string():
    """T5: a type that an application allows is compared whole."""
    token = b'{"access_token": "a", "token_type": "Example"}'
    assert token_in(token, token_types="example")["token_type"] == "Example"
    prefix = b'{"access_token": "a", "token_type": "exam"}'
    assert problem_of(prefix, token_types="example").error == "invalid_response"


def test_error_of_the_rfc():
    """The example of RFC 6749, 5.2, is an error."""
    error = problem_of(b'{"error":"invalid_request"}', 400)
    assert error.error == "invalid_request"
    assert error.description == "the provider refused, status 400"
    assert str(error) == "invalid_request: the provider refused, status 400"
    assert error.retry_after is None


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"access_token=a%2Bb&scope=user%2Cgist&token_type=bearer", FORM),
        (
            b"access_token=a%2Bb&scope=user%2Cgist&token_type=bearer",
            {"content-type": "text/plain"},
        ),
        (
            b'\xef\xbb\xbf \n{"access_token":"a+b","scope":"user,gist",'
            b'"token_type":"bearer"}',
            {},
        ),
    ],
)
def test_shapes_of_a_token(body, headers):
    """T3: a form is read as well, and JSON whatever it is called."""
    assert token_in(body, headers=headers) == {
        "access_token": "a+b",
        "scope": "user,gist",
        "token_type": "bearer",
    }


@pytest.mark.parametrize(
    "body",
    [
        b"access_token=a&access_token=b",
        b"access_token",
        b"access_token=%ff",
        b"",
        b"\xff\xfe",
    ],
)
def test_a_broken_form_is_no_token(body):
    """T3 T8: a repeated name, no name at all, no UTF-8."""
    assert problem_of(body, headers=FORM).error == "invalid_response"


@pytest.mark.parametrize(
    "body",
    [
        b'{"access_token":"a","access_token":"b"}',
        b'{"access_token":"a","x":{"y":1,"y":1}}',
        b'{"access_token":"a","x":' + b"[" * 100_000,
        b'{"access_token":"a","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"access_token":"a","x":' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"access_token":"a","expires_in":' + b"1" * 10_000 + b"}",
        b'{"access_token":"a"',
        b'[{"access_token":"a"}]',
        b'"access_token"',
        b"null",
        b"{}",
    ],
)
def test_what_is_no_object_of_ours(body):
    """T1 T8: repeated names, deep nesting, absurd numbers, no object."""
    assert problem_of(body).error == "invalid_response"


def test_numbers_that_are_none_are_unknown():
    """T6: NaN and the infinities, spelt out or by overflow, are dropped."""
    body = b'{"access_token":"a","expires_in":%s,"x":%s,"y":1.5}'
    for number in (b"NaN", b"Infinity", b"-Infinity", b"1e999"):
        token = token_in(body % (number, number))
        assert token == {"access_token": "a", "x": None, "y": 1.5}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (500, b"", "server_error"),
        (503, b'{"error":"invalid_grant"}', "server_error"),
        (429, b'{"error":"invalid_grant"}', "server_error"),
        (200, b'{"error":"bad_verification_code"}', "bad_verification_code"),
        (200, b'{"error":{"message":"x"},"access_token":"a"}', "error"),
        (400, b'{"error":"","error_description":7}', "error"),
        (400, b'{"message":"no"}', "invalid_response"),
        (404, b"<h1>Not found</h1>", "invalid_response"),
        (307, b'{"access_token":"a"}', "invalid_response"),
        (100, b'{"access_token":"a"}', "invalid_response"),
        (204, b"", "invalid_response"),
    ],
)
def test_failures_have_a_code(status, body, code):
    """T1 T2: every failure is one typed error, whatever the status is."""
    assert problem_of(body, status).error == code


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30", 30),
        (" 120 ", 120),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-1", None),
        ("²", None),
        ("9" * 5000, None),
        ("", None),
    ],
)
def test_retry_after(value, seconds):
    """T1: the seconds that a busy provider asks for are told."""
    assert problem_of(b"", 429, {"retry-after": value}).retry_after == seconds


def test_what_the_provider_says_is_cleaned():
    """L2: its words become one short line in which our secrets are masked."""
    said = {"error": "bad\r\nmy-code", "error_description": "\x1b[31m my-code\n" * 99}
    error = problem_of(json.dumps(said).encode(), 400, secrets=Secrets({"my-code"}))
    assert error.error == "bad ***"
    assert error.description.startswith("[31m *** [31m *** ")
    assert len(error.description) == 200


def test_success_without_a_body():
    """A revocation is answered with 200 and whatever (RFC 7009, 2.2)."""
    assert check(Answer(200, {}, b"")) == {}
    assert check(Answer(200, {}, b"OK")) == {}
    assert check(Answer(200, JSON, b'{"a":1}')) == {"a": 1}


def test_repr_shows_the_status_alone():
    """L2: neither headers nor body are in the repr of an answer."""
    answer = Answer(200, {"set-cookie": "secret"}, b"secret")
    assert repr(answer) == "Answer(status=200)"


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
MEMBERS = ["access_token", "token_type", "refresh_token", "expires_in", "error"]
OBJECTS = st.dictionaries(
    st.sampled_from(MEMBERS) | st.text(),
    SCALARS | st.sampled_from(["Bearer", "a", "3600"]) | st.lists(SCALARS),
).map(lambda value: json.dumps(value).encode())


@settings(deadline=None, max_examples=300)
@given(
    st.binary() | OBJECTS | st.text().map(lambda text: b"{" + text.encode()),
    st.sampled_from([200, 200, 200, 201]) | st.integers(0, 999),
    st.dictionaries(st.sampled_from(["content-type", "retry-after"]), st.text())
    | st.sampled_from([JSON, FORM]),
)
def test_any_answer_is_a_token_or_a_typed_error(body, status, headers):
    """T1 T4 T6 T10: nothing but a usable token or TokenRequestError comes out."""
    try:
        token = token_in(body, status, headers)
    except TokenRequestError as error:
        assert error.status_code == status
        assert str(error).isprintable()
    else:
        assert 200 <= status < 300
        assert token["access_token"]
        assert all("!" <= char <= "~" for char in token["access_token"])
        assert token.get("token_type", "bearer").lower() == "bearer"
        assert json.loads(json.dumps(token, allow_nan=False)) == token
