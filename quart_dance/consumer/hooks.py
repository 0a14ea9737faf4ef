"""What an application gets with its first blueprint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import cast
from urllib.parse import quote

from quart import (
    Quart,
    current_app,
    has_request_context,
    jsonify,
    request,
    url_for,
)
from quart.typing import ResponseReturnValue
from werkzeug.routing import BuildError

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

    An error handler of the application's own, for `OAuthError` or for one of the
    errors that we answer, wins over ours.
    """
    state = runtime(app)
    if state.installed:
        return
    state.installed = True
    app.after_serving(state.aclose)
    # The last of all: what else runs after a request may still change the session.
    app.after_request_funcs[None].insert(0, mark_end)
    for kind in (NotAuthorizedError, TokenExpiredError, TokenRequestError):
        if kind not in app.error_handler_spec[None][None]:
            app.register_error_handler(kind, handle_oauth_error)


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
    a 502.
    """
    own = current_app.error_handler_spec[None][None].get(OAuthError)
    if own is not None:
        answer = await current_app.ensure_async(own)(error)
        return cast(ResponseReturnValue, answer)
    status = 502 if isinstance(error, TokenRequestError) else 401
    if not has_request_context():
        return "", status  # a WebSocket's, unless it has been accepted already
    if status == 502:
        return _provider_failed(error)
    return _not_authorized(error)


def _not_authorized(error: OAuthError) -> ResponseReturnValue:
    consumer = error.blueprint
    # Without one, or for another account's token, no login of this visitor helps.
    login_url = consumer and _login_url(consumer)
    if _asks_for_json() or not login_url:
        answer = jsonify(error="not_authorized", login_url=login_url)
        return answer, 401, {"Cache-Control": "no-store"}
    if request.method == "GET":
        return "", 302, {"Location": login_url, "Cache-Control": "no-store"}
    return pages.not_authorized(consumer.name, login_url), 401, dict(pages.HEADERS)


def _provider_failed(error: OAuthError) -> ResponseReturnValue:
    name = error.blueprint.name if error.blueprint else "The provider"
    _logger.warning("%r failed: %s", name, error)
    if _asks_for_json():
        return jsonify(error="provider_failed"), 502
    page = pages.provider_failed(name, _here() or request.root_path + "/")
    return page, 502, dict(pages.HEADERS)


def _login_url(consumer: Consumer) -> str | None:
    endpoint = f"{registered_name(consumer)}.login"
    # A prefix may have variables: the view that needs the token has them too.
    [rule, *_] = current_app.url_map.iter_rules(endpoint)
    given = request.view_args or {}
    values = {name: given[name] for name in rule.arguments if name in given}
    try:
        return url_for(endpoint, next=_here(), **values)
    except BuildError:  # a variable that this view has not
        return None


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
