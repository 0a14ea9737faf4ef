"""A visitor without a browser: opens the provider's pages and presses a button."""

from __future__ import annotations

from collections.abc import Mapping
from html.parser import HTMLParser
from urllib.parse import unquote, urlencode, urljoin, urlsplit

from .asgi import ASGIApp, Captured, run


class Form(HTMLParser):
    """The form of a page: where it goes, and what its hidden fields hold."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.action = ""
        self.fields: dict[str, str] = {}
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = values["action"]
        elif tag == "input":
            self.fields[values["name"]] = values["value"]


async def visit(
    app: ASGIApp, authorization_url: str, person: str, decision: str
) -> str:
    """Walk from the authorization URL to the callback.

    Returns:
        The URL that the browser would be sent to.

    Raises:
        ValueError: The provider shows an error page instead.
    """
    page = await _open(app, authorization_url)
    for pressed in ({"person": person}, {"decision": decision}):
        if page.status == 200:
            form = Form(page.body.decode())
            url = urljoin(authorization_url, form.action)
            page = await _open(app, url, {**form.fields, **pressed})
    location = page.header(b"location")
    if location is None:
        raise ValueError(f"The provider answers {page.status} and sends nobody back.")
    return location


async def _open(
    app: ASGIApp, url: str, form: Mapping[str, str] | None = None
) -> Captured:
    """Do as a browser: GET a page, or POST a form."""
    parts = urlsplit(url)
    headers = [(b"host", parts.netloc.encode())]
    if form is not None:
        headers.append((b"content-type", b"application/x-www-form-urlencoded"))
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET" if form is None else "POST",
        "scheme": parts.scheme,
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 0),
    }
    return await run(app, scope, urlencode(form or {}).encode())
