"""Where a token may go: the origins of a provider's API."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ForeignOriginError
from ..oauth.token import Token
from ..oauth.urls import is_secure
from .consumer import Consumer
from .http import URL, InvalidURL


def target(
    consumer: Consumer, url: str, token: Token | None, params: Any = None
) -> URL:
    """Return where an API call goes to, if the token may be seen there.

    Args:
        consumer: Its `base_url` is what relative URLs are joined to.
        url: Absolute, or relative: ``/user`` and ``user`` both lie under `base_url`.
        token: The token to be sent, or None: then any URL will do.
        params: Parameters beside those that the URL has.

    Raises:
        ForeignOriginError: The token may not be seen there, the path climbs, or it is
            no URL: too long, for instance, or with control characters.
    """
    try:
        found = _target(consumer, URL(url), url, token)
        return found.copy_merge_params(params) if params else found
    except (InvalidURL, UnicodeError):  # f"/users/{name}", and a name with a line end
        problem = f"what {consumer.name!r} is asked for is not a URL"
    raise consumer.about(ForeignOriginError(problem))


def _target(consumer: Consumer, parsed: URL, url: str, token: Token | None) -> URL:
    if not parsed.scheme and not parsed.host and not url.startswith("//"):
        base = URL(consumer.provider_url("base_url"))
        if ".." in parsed.path.split("/"):  # f"/users/{name}", and a name of "../.."
            problem = f"{parsed.path[:50]!r} would lead out of the base_url"
            raise consumer.about(ForeignOriginError(problem))
        path = base.raw_path.rstrip(b"/") + b"/" + parsed.raw_path.lstrip(b"/")
        return base.copy_with(raw_path=path)
    if token is None or _is_allowed(consumer, parsed, token):
        return parsed
    problem = (
        f"the token of {consumer.name!r} is not sent to {parsed.scheme}://{parsed.host}"
        ": if it belongs there, name the origin in allowed_origins"
    )
    raise consumer.about(ForeignOriginError(problem))


def _is_allowed(consumer: Consumer, url: URL, token: Token) -> bool:
    if not is_secure(str(url)):
        return False
    if is_base_origin(consumer, url):
        return True
    allowed = consumer.allowed_origins
    patterns = allowed(token.copy()) if callable(allowed) else allowed
    return any(_matches(pattern, url) for pattern in patterns)


def _matches(pattern: str, url: URL) -> bool:
    scheme, _, host = pattern.rstrip("/").partition("://")
    if not host.startswith("*."):
        return origin(URL(pattern)) == origin(url)
    label, _, rest = url.host.partition(".")
    # The label is checked by shape: an empty one would be the parent's own.
    return bool(re.fullmatch(r"[a-z0-9-]+", label)) and (
        origin(URL(f"{scheme}://{host[2:]}")) == origin(url.copy_with(host=rest))
    )


def origin(url: URL) -> tuple[str, str, int | None]:
    """Return scheme, host and port (RFC 6454, section 4)."""
    default = {"https": 443, "http": 80}.get(url.scheme)
    return url.scheme, url.host, url.port or default


def is_base_origin(consumer: Consumer, url: URL) -> bool:
    """Say whether a URL is of the provider's own API."""
    base = consumer.base_url
    return bool(base) and origin(URL(str(base))) == origin(url)
