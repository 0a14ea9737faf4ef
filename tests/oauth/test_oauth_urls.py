"""Where a visitor may go on to, and whom we talk to."""

from __future__ import annotations

from urllib.parse import unquote, urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quart_dance.oauth.urls import common_path, is_loopback, is_secure, next_path

PIECES = ["/", "//", "\\", "\t", "\r", "\n", " ", "\0", "\x7f", "%", "%2f", "%5C"]
PIECES += ["%09", "%0d%0a", "%25", "@", ":", "?", "#", ".", "..", "a", "é", "℀"]
PIECES += ["evil.example", "https:", "javascript:", "\u2028", "\ud800", "&x=1"]


def origins(path: str) -> set[tuple[str, str]]:
    """Return the origins that readers of a Location header may take a path for."""
    readings = {path, unquote(path)}
    # WHATWG URL: C0 and space are stripped, tab and line ends dropped, "\" is "/".
    readings |= {text.strip("".join(map(chr, range(33)))) for text in readings}
    readings |= {text.translate(dict.fromkeys(b"\t\r\n")) for text in readings}
    readings |= {text.replace("\\", "/") for text in readings}
    urls = [urlsplit(urljoin("https://app.test/login/dev", text)) for text in readings]
    return {(url.scheme, url.netloc) for url in urls}


@pytest.mark.parametrize(
    "value",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "/\\/evil.example",
        "\\\\evil.example",
        "https:evil.example",
        "http:///evil.example",
        "\t//evil.example",
        "/\t/evil.example",
        "/\n/evil.example",
        "/%09/evil.example",
        "/%5cevil.example",
        "/%2fevil.example",
        "/%0d%0aSet-Cookie:a=b",
        "/\0",
        "/\x7f",
        "javascript:alert(1)",
        "http://app.test@evil.example",
        "evil.c℀.app.test",
        "http://app.test.evil.example",
        "https://app.test/",
        "account",
        "?x=1",
        "",
        None,
        "/\ud800",
        "/" + "a" * 512,
        "/" + "é" * 100,
    ],
)
def test_foreign_next_is_refused(value):
    """R1: what may be read as another origin, a header, a script, or is too long."""
    assert next_path(value) is None


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("/", "/"),
        ("/ok?x=1#y", "/ok?x=1#y"),
        ("/ok?x=%C3%A9&y=100%25", "/ok?x=%C3%A9&y=100%25"),
        ("/é?q=ü", "/%C3%A9?q=%C3%BC"),
        ("/my page?q=a b", "/my%20page?q=a%20b"),
        ("/my%20page", "/my%20page"),
        ("/a//b", "/a//b"),
        ("/go?to=https://other.example/", "/go?to=https://other.example/"),
        ("/evil.c℀.app", "/evil.c%E2%84%80.app"),
        ("/" + "a" * 511, "/" + "a" * 511),
    ],
)
def test_own_next_is_kept(value, kept):
    """R1: a path of our own is kept with its query and fragment, in ASCII."""
    assert next_path(value) == kept


@settings(deadline=None, max_examples=400)
@given(
    st.one_of(
        st.text(),
        st.lists(st.sampled_from(PIECES)).map("".join),
        st.lists(st.sampled_from(PIECES)).map(lambda some: "/" + "".join(some)),
    )
)
@example("/.//evil.example")
@example("/a/..//evil.example")
def test_next_never_leaves_our_origin(value):
    """R1: no reading of what is kept leads elsewhere, and it is a fit header value."""
    path = next_path(value)
    if path is not None:
        assert origins(path) == {("https", "app.test")}
        assert all("\x20" < char < "\x7f" for char in path)
        assert len(path) <= 512
        assert next_path(path) == path


@pytest.mark.parametrize(
    "url",
    [
        "https://provider.example/token",
        "HTTPS://provider.example:8443/",
        "http://localhost:5000/",
        "http://app.localhost/",
        "http://127.0.0.1:1/",
        "http://127.8.8.8/",
        "http://[::1]:8080/",
    ],
)
def test_secure_urls(url):
    """R4: https, and http on loopback, keep what is sent there."""
    assert is_secure(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://provider.example/",
        "http://127.0.0.1.evil.example/",
        "http://localhost.evil.example/",
        "http://192.168.0.1/",
        "https://provider.example@evil.example/",
        "https://user:pw@provider.example/",
        "https://provider.example\\@evil.example/",
        "https:///path",
        "https://provider.example:port/",
        "https://[::1/",
        "ftp://localhost/",
        "//provider.example/",
        "/token",
        "",
    ],
)
def test_insecure_urls(url):
    """R4 R9: plain http, a user name, a broken authority or no scheme do not."""
    assert not is_secure(url)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("localhost", True), ("::1", True), ("10.0.0.1", False), ("example.org", False)],
)
def test_loopback(host, expected):
    """R4: loopback is localhost, 127.0.0.0/8 and ::1 (RFC 8252, 7.3)."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        ("/login/dev", "/login/dev/authorized", "/login/dev"),
        ("/login/dev", "/login/developer", "/login"),
        ("/a/login", "/b/login", "/"),
        ("/login/", "/login/back", "/login"),
        ("/login", "", "/"),
        ("", "/login", "/"),
    ],
)
def test_common_path(first, second, path):
    """C6: the cookie's path is the longest under which both lie, by whole segments."""
    assert common_path(first, second) == path
