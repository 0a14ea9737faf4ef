"""What a URL may be: where a visitor goes on to, and whom we talk to."""

from __future__ import annotations

import ipaddress
from posixpath import commonpath
from urllib.parse import quote, unquote, urlsplit

#: The longest `next` that a login remembers, in bytes: it travels in a cookie.
MAX_NEXT = 512


def next_path(value: str | None) -> str | None:
    """Return a path on our own origin that is safe to redirect to (RFC 9700, 4.11).

    Args:
        value: What the query argument `next` says, decoded once.

    Returns:
        The path with its query and fragment, in ASCII; None for anything that a
        browser might read as another origin, as a header or as a script.
    """
    if not value or not value.startswith("/"):
        return None
    # A browser reads "\" as "/" and drops tabs and line ends: none may stand here,
    # nor hide behind one level of percent-encoding. A space is harmless here.
    for text in (value, unquote(value)):
        if text.startswith("//") or "\\" in text:
            return None
        if any(char < " " or char == "\x7f" for char in text):
            return None
    try:
        path = quote(value, safe="/?#[]@!$&'()*+,;=:%~")
    except UnicodeEncodeError:
        return None
    return path if len(path) <= MAX_NEXT else None


def is_secure(url: str) -> bool:
    """Say whether a URL keeps what is sent there: https, or http on loopback.

    RFC 6749, section 3.1.2.1; RFC 8252, section 7.3. A URL with a user name in it
    (``https://provider@evil``) is never secure.
    """
    if not has_host(url):
        return False
    parts = urlsplit(url)
    if "@" in parts.netloc or "\\" in url:
        return False
    host = str(parts.hostname)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))


def has_host(url: str) -> bool:
    """Say whether a URL names a host, and a port that is one if it names any."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host)


def is_loopback(host: str) -> bool:
    """Say whether a host name or address is this machine's own."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def common_path(first: str, second: str) -> str:
    """Return the longest cookie path under which both paths lie (RFC 6265, 5.1.4)."""
    return commonpath([first, second]) if first[:1] == second[:1] == "/" else "/"
