"""The OAuth 2.0 blueprint for Quart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Unpack, cast
from urllib.parse import urlsplit, urlunsplit

from quart import Response, current_app, redirect, request, url_for
from quart.typing import ResponseReturnValue
from werkzeug.exceptions import MethodNotAllowed

from ..oauth.attempt import LIFE
from ..oauth.token import Token
from . import pages
from .base import BaseOAuthConsumerBlueprint
from .dance import OAuth2Dance
from .hooks import registered_name
from .options import OAuth2Options
from .runtime import runtime
from .visit import Reply, Visit


class OAuth2ConsumerBlueprint(BaseOAuthConsumerBlueprint, OAuth2Dance):
    """A blueprint that logs visitors in with an OAuth 2.0 provider.

    Args:
        name: The blueprint's name; storages file tokens under it.
        import_name: As `quart.Blueprint` takes it.
        client_id: As the provider issued it.
        client_secret: Likewise.
        **options: See `OAuth2Options`.

    Raises:
        ConfigurationError: An option contradicts the protocol.
    """

    def __init__(
        self,
        name: str,
        import_name: str,
        client_id: str | None = None,
        client_secret: str | None = None,
        **options: Unpack[OAuth2Options],
    ) -> None:
        given = {"client_id": client_id, "client_secret": client_secret, **options}
        super().__init__(name, import_name, given)

    async def login(self, **view_args: Any) -> ResponseReturnValue:
        """Send the visitor to the provider; the view of the route ``login``."""
        return await _respond(await self.begin(self._visit(view_args)))

    async def authorized(self, **view_args: Any) -> ResponseReturnValue:
        """Take the visitor back; the view of the route ``authorized``."""
        return await _respond(await self.finish(self._visit(view_args)))

    @contextmanager
    def session_with(self, token: Token) -> Iterator[None]:
        session = self.current_session()
        session.arrived = token
        try:
            yield
        finally:
            session.arrived = None

    def _visit(self, view_args: dict[str, Any]) -> Visit:
        if request.method != "GET":  # HEAD comes with every GET rule
            raise MethodNotAllowed(["GET"])
        name = registered_name(self)
        app = current_app
        keys = [app.secret_key, *(app.config.get("SECRET_KEY_FALLBACKS") or ())]
        home = self.redirect_url
        if not home:
            home = url_for(self.redirect_to) if self.redirect_to else _root()
        return Visit(
            query=request.query_string,
            next=request.args.get("next"),
            cookies=request.cookies,
            cross_site=request.headers.get("Sec-Fetch-Site") == "cross-site",
            login_url=url_for(f"{name}.login", _external=False, **view_args),
            callback_url=_external(f"{name}.authorized", view_args),
            home=home,
            secret_keys=[key for key in keys if key],
            runtime=runtime(app),
        )


def _root() -> str:
    return request.root_path.rstrip("/") + "/"


def _external(endpoint: str, values: dict[str, Any]) -> str:
    """Return the absolute URL of an endpoint as the configuration wants it.

    The request's Host header counts only where there is no ``SERVER_NAME``: with one,
    Quart answers no other host, and builds URLs from it.
    """
    parts = urlsplit(url_for(endpoint, _external=True, **values))
    if current_app.config["PREFER_SECURE_URLS"]:
        parts = parts._replace(scheme="https")
    return urlunsplit(parts)


async def _respond(reply: Reply) -> Response:
    """Turn a reply into a response that no cache keeps and no referrer betrays."""
    if reply.response is not None:
        response = await current_app.make_response(cast(Any, reply.response))
        headers = {k: pages.HEADERS[k] for k in ("Cache-Control", "Referrer-Policy")}
    elif reply.page is not None:
        response = await current_app.make_response((reply.page, reply.status))
        headers = dict(pages.HEADERS)
    else:
        response = cast(Response, redirect(reply.location or "/"))
        headers = {k: pages.HEADERS[k] for k in ("Cache-Control", "Referrer-Policy")}
    for name, value in headers.items():
        response.headers.setdefault(name, value)
    for cookie in reply.cookies:
        response.set_cookie(
            cookie.name,
            cookie.value or "",
            max_age=LIFE if cookie.value else 0,
            expires=None if cookie.value else 0,
            path=cookie.path,
            secure=cookie.secure,
            httponly=True,
            samesite="Lax",
        )
    return cast(Response, response)
