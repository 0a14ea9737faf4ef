"""What an application gets with its first blueprint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from urllib.parse import quote

from quart import (
    Quart,
    current_app,
    has_request_context,
    has_websocket_context,
    jsonify,
    request,
    url_for,
)
from quart.typing import ResponseReturnValue

from ..errors import (
    NotAuthorizedError,
    OAuthError,
    TokenExpiredError,
    TokenRequestError,
)
from ..oauth.urls import next_path
from . import pages
from .options import Consumer
from .runtime import runtime
from .storage.session import mark_end

_logger = logging.getLogger(__name__)


def install(app: Quart) -> None:
    """Put the hooks in place, once for each application.

    An error handler of the application's own, for `OAuthError` or for any error
    below it, wins over ours.
    """
    state = runtime(app)
    if state.installed:
        return
    state.installed = True
    app.after_serving(state.aclose)
    app.after_request(mark_end)
    if OAuthError not in app.error_handler_spec[None][None]:
        app.register_error_handler(OAuthError, handle_oauth_error)


def registered_name(consumer: Consumer) -> str:
    """Return the name under which the current application knows a blueprint.

    Raises:
        RuntimeError: It does not.
    """
    known: Mapping[str, object] = current_app.blueprints
    names = [name for name, blueprint in known.items() if blueprint is consumer]
    if not names:
        raise RuntimeError(f"{consumer!r} is not registered with this application")
    here = request.blueprint if has_request_context() else None
    return here if here in names else names[0]


async def handle_oauth_error(error: OAuthError) -> ResponseReturnValue:
    """Answer an error of ours that escaped from a view.

    Without a usable token a GET is sent to the login and comes back; anything else,
    a WebSocket, and a client that asks for JSON, gets a 401. A provider that fails is
    a 502. All other errors are the application's business.
    """
    consumer = error.blueprint
    not_authorized = isinstance(error, NotAuthorizedError | TokenExpiredError)
    if not_authorized and has_websocket_context():
        return "", 401  # what its client gets, unless it has been accepted already
    if not has_request_context() or consumer is None:
        raise error
    if not_authorized:
        login_url = url_for(f"{registered_name(consumer)}.login", next=_here())
        if _asks_for_json():
            return jsonify(error="not_authorized", login_url=login_url), 401
        if request.method == "GET":
            return "", 302, {"Location": login_url, "Cache-Control": "no-store"}
        return pages.not_authorized(consumer.name, login_url), 401, dict(pages.HEADERS)
    if isinstance(error, TokenRequestError):
        _logger.warning("%r failed: %s", consumer.name, error)
        if _asks_for_json():
            return jsonify(error="provider_failed"), 502
        page = pages.provider_failed(consumer.name, _here() or request.root_path + "/")
        return page, 502, dict(pages.HEADERS)
    raise error


def _asks_for_json() -> bool:
    types = ["text/html", "application/json"]
    return request.accept_mimetypes.best_match(types) == "application/json"


def _here() -> str | None:
    """Return the path and query of the request, as `next` takes it."""
    if request.method != "GET":
        return None
    query = request.query_string.decode("ascii", "replace")
    path = quote(request.root_path + request.path)
    return next_path(f"{path}?{query}" if query else path)
