"""Tokens: what is accepted, how they merge, when they expire."""

from __future__ import annotations

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_dance.errors import TokenRequestError
from quart_dance.oauth.token import (
    Secrets,
    Token,
    accept,
    complete,
    is_expired,
    merge,
    seconds,
    with_expiry,
)

NOW = 1_800_000_000.9
# RFC 6749, section 5.1, with a type that we know
ANSWER = {
    "access_token": "2YotnFZFEjr1zCsicMWpAA",
    "token_type": "Bearer",
    "expires_in": 3600,
    "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA",
    "example_parameter": "example_value",
}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
NAMES = st.sampled_from([*ANSWER, "expires_at", "scope", "id_token"])
TOKENS = st.dictionaries(NAMES | st.text(), VALUES)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3600, 3600),
        ("3600", 3600),
        (3600.7, 3600),
        (0, 0),
        ("0", 0),
        (10**10, 10**10),
        (10**10 + 1, None),
        (-1, None),
        ("", None),
        ("abc", None),
        ([1], None),
        ({}, None),
        (None, None),
        (True, None),
        (math.nan, None),
        (math.inf, None),
        ("nan", None),
        ("Infinity", None),
        (1e30, None),
        ("3_600", None),
        (10**400, None),
    ],
)
def test_seconds(value, expected):
    """T6: numbers and numbers in strings are read, everything else is unknown."""
    assert seconds(value) == expected


def test_an_answer_becomes_a_token():
    """T7 T13: expires_at comes from our clock; what is unknown to us is kept."""
    assert accept({**ANSWER, "expires_at": 1}, NOW) == {
        "access_token": "2YotnFZFEjr1zCsicMWpAA",
        "token_type": "Bearer",
        "expires_in": 3600,
        "expires_at": 1_800_003_600,
        "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA",
        "example_parameter": "example_value",
    }


@pytest.mark.parametrize("life", [None, -1, "abc", [1], True, 1e30])
def test_an_unknown_life_has_no_end(life):
    """T6: a token whose life is unknown has neither expires_in nor expires_at."""
    assert accept({"access_token": "a", "expires_in": life}, NOW) == {
        "access_token": "a"
    }


@pytest.mark.parametrize("token_type", ["bearer", "BEARER", "bEARER"])
def test_bearer_in_any_case(token_type):
    """T5: the type is compared without case, and stored as told."""
    token = accept({"access_token": "a", "token_type": token_type}, NOW)
    assert token["token_type"] == token_type


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({}, "no access_token"),
        ({"access_token": None}, "no access_token"),
        ({"access_token": ""}, "no access_token"),
        ({"access_token": 1}, "no access_token"),
        ({"access_token": ["a"]}, "no access_token"),
        ({"access_token": "a b"}, "no header can carry"),
        ({"access_token": "a\r\nb"}, "no header can carry"),
        ({"access_token": "a\0"}, "no header can carry"),
        ({"access_token": "tök"}, "no header can carry"),
        ({"access_token": "a\x7f"}, "no header can carry"),
        ({"access_token": "a", "token_type": "mac"}, "token_type"),
        ({"access_token": "a", "token_type": "DPoP"}, "token_type"),
        ({"access_token": "a", "token_type": None}, "token_type"),
        ({"access_token": "a", "token_type": ["bearer"]}, "token_type"),
        ({"access_token": "a", "refresh_token": 1}, "refresh_token"),
    ],
)
def test_what_is_no_token(answer, reason):
    """T4 T5 T10: what could never be used is not accepted."""
    with pytest.raises(TokenRequestError, match=reason) as caught:
        accept(answer, NOW)
    assert caught.value.error == "invalid_response"


def test_other_types_on_request():
    """T5: a blueprint may accept other types."""
    token = accept({"access_token": "a", "token_type": "MAC"}, NOW, ("bearer", "mac"))
    assert token["token_type"] == "MAC"


def test_every_visible_character_is_fine():
    """T10: an access token may hold all of visible ASCII."""
    access_token = "".join(map(chr, range(0x21, 0x7F)))
    assert accept({"access_token": access_token}, NOW)["access_token"] == access_token


def test_a_refresh_keeps_what_it_lacks():
    """F3: refresh token, scope, ID token and unknown keys stay; empty ones too."""
    old = {**ANSWER, "scope": "a b", "id_token": "x", "expires_at": 1_800_003_600}
    new = {"access_token": "new", "refresh_token": "", "scope": None}
    assert merge(old, new) == {
        "access_token": "new",
        "token_type": "Bearer",
        "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA",
        "example_parameter": "example_value",
        "scope": "a b",
        "id_token": "x",
    }


def test_a_refresh_replaces_what_it_has():
    """F3: what the answer says wins, an expiry of 0 too."""
    new = {"access_token": "new", "refresh_token": "r2", "expires_in": 0}
    merged = merge(ANSWER, {**new, "expires_at": 1_800_000_000})
    assert merged["access_token"] == "new"
    assert merged["refresh_token"] == "r2"
    assert merged["expires_in"] == 0
    assert merged["expires_at"] == 1_800_000_000


@pytest.mark.parametrize(
    ("token", "expires_at"),
    [
        ({"access_token": "a"}, None),
        ({"access_token": "a", "expires_in": 60}, 1_800_000_060),
        ({"access_token": "a", "expires_in": 60, "expires_at": 5}, 5),
        ({"access_token": "a", "expires_in": 60, "expires_at": "x"}, 1_800_000_060),
        ({"access_token": "a", "expires_in": "soon"}, None),
    ],
)
def test_a_token_of_ones_own_is_completed(token, expires_at):
    """An expires_at that is missing or nonsense is computed; a given one stays."""
    assert complete(token, NOW).get("expires_at") == expires_at


@pytest.mark.parametrize("token", [None, "a", ["access_token"], 1])
def test_only_a_dict_is_a_token(token):
    """Anything but a mapping is a TypeError that shows its type alone."""
    with pytest.raises(TypeError, match=f"not {type(token).__name__}$"):
        complete(token, NOW)


@pytest.mark.parametrize(
    "token", [{}, {"access_token": ""}, {"access_token": None}, {"access_token": 1}]
)
def test_a_token_needs_an_access_token(token):
    """A mapping without a usable access_token is a ValueError."""
    with pytest.raises(ValueError, match="access_token"):
        complete(token, NOW)


def test_a_token_is_json():
    """What JSON cannot express is no token."""
    with pytest.raises(TypeError):
        complete({"access_token": "a", "when": object()}, NOW)


@pytest.mark.parametrize(
    ("token", "left", "expired"),
    [
        ({}, 0, False),
        ({"expires_at": None}, 0, False),
        ({"expires_at": "soon"}, 0, False),
        ({"expires_in": 3600}, 61, False),
        ({"expires_in": 3600}, 60, True),
        ({"expires_in": 3600}, -1, True),
        ({"expires_in": 10}, 6, False),
        ({"expires_in": 10}, 5, True),
        ({"expires_in": 0}, 0, True),
        ({"expires_in": 0}, 1, False),
        ({"expires_in": None}, 61, False),
        ({"expires_in": None}, 60, True),
    ],
)
def test_expiry_has_a_leeway(token, left, expired):
    """F10: a token is over 60 seconds, or half its life, before its end."""
    end = 1_800_000_000
    token = {**({"expires_at": end} if "expires_in" in token else {}), **token}
    assert is_expired(token, end - left) is expired


def test_nothing_that_is_said_of_a_token_shows_it():
    """L2: repr, str and format mask every value that may be a secret."""
    token = Token(ANSWER, scope="a")
    said = f"{token} {token!r} {token!s} {token:} {[token]}"
    assert "token_type='Bearer' expires_in=3600 refresh_token=***" in said
    assert "scope='a'" in said
    for secret in ("2Yotn", "tGzv3", "example_value"):
        assert secret not in said
    assert repr(Secrets({"a", "b"})) == "<2 secrets>"


def test_a_copy_shares_nothing():
    """What is done to a copy does not reach the token."""
    token = Token(access_token="a", extra={"deep": [1]})
    token.copy()["extra"]["deep"].append(2)
    assert token["extra"] == {"deep": [1]}
    assert type(token.copy()) is Token


@settings(deadline=None)
@given(TOKENS, TOKENS)
def test_arguments_are_never_changed(first, second):
    """Nothing here changes its arguments, nor hands out parts of them."""
    before = copy.deepcopy((first, second))
    for result in (merge(first, second), with_expiry(first, NOW), Token(first).copy()):
        for value in result.values():
            if isinstance(value, list):
                value.append("changed")
            elif isinstance(value, dict):
                value["changed"] = True
    try:
        accept(first, NOW)
    except TokenRequestError:
        pass
    assert (first, second) == before


@settings(deadline=None)
@given(TOKENS)
def test_any_expiry_is_read(token):
    """T6: whatever expires_in and expires_at are, nothing crashes and both agree."""
    result = with_expiry(token, NOW)
    assert ("expires_at" in result) == ("expires_in" in result)
    if "expires_in" in result:
        assert result["expires_at"] == 1_800_000_000 + result["expires_in"]
        assert is_expired(result, result["expires_at"])
    assert is_expired(token, NOW) in (True, False)
