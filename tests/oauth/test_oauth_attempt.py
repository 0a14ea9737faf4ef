"""A login attempt, sealed into a cookie value."""

from __future__ import annotations

import dataclasses

import pytest
from cryptography.fernet import Fernet
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_dance.oauth.attempt import (
    Attempt,
    Seal,
    cookie_name,
    fingerprint,
    is_cookie_name,
)

STARTED = 1_800_000_000
ATTEMPT = Attempt(
    started=STARTED,
    blueprint="dev",
    state="the-state",
    code_verifier="the-verifier",
    redirect_uri="https://app.test/login/dev/authorized",
    next="/account?x=1",
    account="42",
)
SEAL = Seal(["new key"])
VALUE = SEAL.close(ATTEMPT)


def test_what_was_sealed_comes_back():
    """C3: an attempt is found by its own state only; a cookie holds it in ASCII."""
    assert VALUE.isascii()
    assert "the-" not in VALUE
    assert SEAL.open(VALUE, STARTED) == ATTEMPT
    assert SEAL.find("the-state", VALUE, STARTED) == ATTEMPT


@settings(deadline=None)
@given(st.builds(Attempt, started=st.integers(10**9, 10**10)))
def test_round_trip(attempt):
    """Whatever text is in an attempt comes back as it was."""
    value = SEAL.close(attempt)
    assert SEAL.open(value, attempt.started) == attempt
    assert SEAL.find(attempt.state, value, attempt.started + 0.5) == attempt


@pytest.mark.parametrize(
    "state",
    ["", "the-stat", "the-state1", "The-state", "thé-state", "the-state\ud800"],
)
def test_another_state_finds_nothing(state):
    """C3 C23: an empty, wrong, longer or non-ASCII state finds no attempt."""
    assert SEAL.find(state, VALUE, STARTED) is None


def test_no_cookie_finds_nothing():
    """C1: without a cookie there is no attempt."""
    assert SEAL.find("the-state", None, STARTED) is None
    assert SEAL.find("", "", STARTED) is None


@pytest.mark.parametrize(
    ("later", "expected"),
    [(0, ATTEMPT), (599.9, ATTEMPT), (600, ATTEMPT), (601, None), (10**6, None)],
)
def test_an_attempt_lives_ten_minutes(later, expected):
    """C6: 600 seconds after its start an attempt is over."""
    assert SEAL.open(VALUE, STARTED + later) == expected


def test_an_attempt_from_the_future_is_not_ours():
    """F10: a clock that is a minute behind is fine; more is not."""
    assert SEAL.open(VALUE, STARTED - 60) == ATTEMPT
    assert SEAL.open(VALUE, STARTED - 61) is None


def test_keys_rotate():
    """C2: older keys still open, the newest one seals, other keys open nothing."""
    rotated = Seal(["newest key", "new key", b"a key of bytes"])
    assert rotated.open(VALUE, STARTED) == ATTEMPT
    assert rotated.open(Seal([b"a key of bytes"]).close(ATTEMPT), STARTED) == ATTEMPT
    assert SEAL.open(rotated.close(ATTEMPT), STARTED) is None
    assert Seal(["newest key"]).open(rotated.close(ATTEMPT), STARTED) == ATTEMPT
    assert Seal(["another key"]).open(VALUE, STARTED) is None
    assert Seal(["new key "]).open(VALUE, STARTED) is None


@settings(deadline=None)
@given(st.data())
def test_a_spoilt_value_is_nobodys(data):
    """C2: no change of a sealed value yields another attempt, or an exception."""
    start = data.draw(st.integers(0, len(VALUE) - 1))
    end = data.draw(st.integers(start, len(VALUE)))
    other = data.draw(st.text(max_size=8))
    opened = SEAL.open(VALUE[:start] + other + VALUE[end:], STARTED)
    # base64 has room for changes that change nothing.
    assert opened is None or opened == ATTEMPT


@pytest.mark.parametrize(
    "value",
    [
        VALUE[:-1],
        VALUE[:-4],
        VALUE[4:],
        VALUE[:40] + ("A" if VALUE[40] != "A" else "B") + VALUE[41:],
        VALUE + VALUE,
        "é" + VALUE,
        VALUE + "\ud800",
        "é",
        "gAAAAA",
        "=",
        "null",
        Fernet(Fernet.generate_key()).encrypt(b"[]").decode(),
    ],
)
def test_a_forged_value_is_nobodys(value):
    """C2: cut, changed, doubled, foreign or no base64 at all."""
    assert SEAL.open(value, STARTED) is None


@settings(deadline=None)
@given(st.text())
def test_any_text_may_stand_in_the_cookie(text):
    """C19: a browser may send anything under the name of an attempt's cookie."""
    assert SEAL.open(text, STARTED) is None
    assert SEAL.find(text, text, STARTED) is None


def test_cookie_names():
    """C6: each state has a cookie of its own, whose name does not give it away."""
    name = cookie_name("the-state")
    assert name == "qd_" + fingerprint("the-state")
    assert name != cookie_name("the-state1")
    assert is_cookie_name(name)
    assert not is_cookie_name("session")
    assert not is_cookie_name("qd_short")
    # echo -n the-state | sha256sum
    assert fingerprint("the-state") == "9aea885ae488807f42f7b8cd"
    assert len(fingerprint("\ud800")) == 24


def test_repr_hides_secrets():
    """L2: neither state nor verifier is in the repr of an attempt."""
    said = repr(dataclasses.replace(ATTEMPT))
    assert "the-" not in said
    assert "'dev'" in said
