"""What a callback's query means."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_dance.oauth.oauth2 import Callback, clean, read_callback
from quart_dance.oauth.token import Secrets

PIECES = [b"code=", b"state=", b"error=", b"iss=", b"=", b"&", b"&&", b";", b"#"]
PIECES += [b"%", b"%00", b"%ff", b"%C3%A9", b"%2", b"+", b"x", b"xyz", b"\xff", b"\r\n"]


def test_success_of_the_rfc():
    """The example of RFC 6749, 4.1.2, is a code and a state."""
    callback = read_callback(b"code=SplxlOBeZQQYbYS6WxSbIA&state=xyz")
    assert callback == Callback(states=("xyz",), code="SplxlOBeZQQYbYS6WxSbIA")


def test_refusal_of_the_rfc():
    """The example of RFC 6749, 4.1.2.1, is an error and a state."""
    callback = read_callback(b"error=access_denied&state=xyz")
    assert callback == Callback(states=("xyz",), error="access_denied")


def test_issuer_of_the_rfc():
    """The example of RFC 9207, 2.1, names the issuer."""
    callback = read_callback(
        b"code=x1848ZT64p4IirMPT0R-X3141MFPTuBX-VFL_cvaplMH58"
        b"&state=ZWVlNDBlYzA1NjdkMDNhYjg3ZjUxZjAyNGQzMTM2NzI"
        b"&iss=https%3A%2F%2Fhonest.as.example"
    )
    assert callback.iss == "https://honest.as.example"
    assert callback.problem is None


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (b"state=xyz", "no code"),
        (b"", "no code"),
        (b"code=&state=xyz", "no code"),
        (b"code=a&error=b&state=xyz", "both a code and an error"),
        (b"code=a&code=b&state=xyz", "twice"),
        (b"code=a&state=xyz&state=", "twice"),
        (b"code=a&iss=https://a&iss=https://b&state=xyz", "twice"),
        (b"code=%ff&state=xyz", "not UTF-8"),
        (b"code=\xff&state=xyz", "not UTF-8"),
        (b"code=a&state=xyz&x=" + b"a" * 16_384, "too long"),
    ],
)
def test_contradictions_have_a_problem(query, problem):
    """C4 C17 C19: repeated, contradicting, missing or undecodable parameters."""
    assert problem in read_callback(query).problem


def test_both_states_of_a_repeated_one_are_seen():
    """C4: a repeated state names both attempts, so that both are used up."""
    assert read_callback(b"code=a&state=BAD&state=GOOD").states == ("BAD", "GOOD")


def test_error_texts_are_one_clean_line():
    """C16: control characters and length go; error_uri only if it is http(s)."""
    callback = read_callback(
        b"error=a%0d%0ab&error_description=%00%1b[31mno%0Athanks" + b"!" * 10_000
    )
    assert callback.error == "a b"
    assert callback.error_description.startswith("[31mno thanks!!!")
    assert len(callback.error_description) == 200


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"https%3A%2F%2Fdocs.example%2Fe", "https://docs.example/e"),
        (b"javascript%3Aalert(1)", None),
        (b"%2F%2Fevil.example", None),
        (b"", None),
    ],
)
def test_error_uri(value, kept):
    """C16: an error_uri that is no http(s) URL is dropped."""
    assert read_callback(b"error=x&error_uri=" + value).error_uri == kept


def test_empty_error_is_still_an_error():
    """C17: an error without a name, or of nothing but control characters, is one."""
    assert read_callback(b"error=&state=xyz").error == "error"
    assert read_callback(b"error=%00%0a&state=xyz").error == "error"


def test_repr_hides_code_and_state():
    """L2: neither code nor state is in the repr of a callback."""
    said = repr(read_callback(b"code=the-code&state=the-state"))
    assert "the-code" not in said
    assert "the-state" not in said


def test_clean_masks_the_longest_first():
    """L2: a secret that lies within another one leaves no rest of it."""
    text = clean("abc and abcdef", secrets=Secrets({"abc", "abcdef"}))
    assert text == "*** and ***"
    assert clean(None) == ""


@settings(deadline=None)
@given(st.one_of(st.binary(), st.lists(st.sampled_from(PIECES)).map(b"".join)))
def test_read_callback_never_raises(query):
    """C19: whatever bytes arrive, they are read; without a problem they are clear."""
    callback = read_callback(query)
    for text in (callback.error, callback.error_description):
        assert text is None or (text.isprintable() and len(text) <= 200)
    if callback.problem is None:
        assert bool(callback.code) != bool(callback.error)
        assert len(callback.states) <= 1
