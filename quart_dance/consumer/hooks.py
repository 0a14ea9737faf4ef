"""What an application gets with its first blueprint.

`web` is the framework, `quart` or `flask`: the names are the same in both.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote

import quart
from quart import Quart
from quart.typing import ResponseReturnValue, ResponseTypes
from werkzeug.datastructures import MIMEAccept
from werkzeug.routing import BuildError

from ..errors import (
    NotAuthorizedError,
    OAuthError,
    TokenExpiredError,
    TokenRequestError,
)
from ..oauth.urls import next_path
from . import pages
from .consumer import Consumer
from .runtime import runtime
from .storage.session import mark_end

_logger = logging.getLogger(__name__)


def install(app: Quart) -> None:
    """Put the hooks in place, once for each application of Quart's."""
    if put(app, _mark_end, _handle):
        app.after_serving(runtime(app).aclose)


async def _mark_end(response: ResponseTypes) -> ResponseTypes:
    mark_end(cast(Any, quart.request.scope))
    return response


async def _handle(error: OAuthError) -> ResponseReturnValue:
    if own := own_handler(quart):
        answered = await quart.current_app.ensure_async(own)(error)
        return cast(ResponseReturnValue, answered)
    return cast(ResponseReturnValue, answer(quart, error))


def put(app: Any, after_request: Callable[..., Any], handler: Any) -> bool:
    """Put hooks in place, once for each application; say whether this was the time.

    An error handler of the application's own, for `OAuthError` or for one of the
    errors that we answer, wins over ours.

    Args:
        app: The application, of either framework.
        after_request: Runs after each request.
        handler: Answers the errors that we answer.
    """
    state = runtime(app)
    if state.installed:
        return False
    state.installed = True
    # The last of all: what else runs after a request may still change the session.
    app.after_request_funcs[None].insert(0, after_request)
    for kind in (NotAuthorizedError, TokenExpiredError, TokenRequestError):
        if kind not in app.error_handler_spec[None][None]:
            app.register_error_handler(kind, handler)
    return True


def registered_name(web: Any, consumer: Consumer) -> str:
    """Return the name under which the current application knows a blueprint.

    Raises:
        RuntimeError: It does not.
    """
    known = web.current_app.blueprints.items()
    names: list[str] = [name for name, blueprint in known if blueprint is consumer]
    if not names:
        raise RuntimeError(f"{consumer!r} is not registered with this application")
    here: str | None = web.request.blueprint if web.has_request_context() else None
    return here if here in names else names[0]


def own_handler(web: Any) -> Callable[..., Any] | None:
    """Return the application's own handler of our errors, or None."""
    return cast(
        Callable[..., Any] | None,
        web.current_app.error_handler_spec[None][None].get(OAuthError),
    )


def answer(web: Any, error: OAuthError) -> Any:
    """Answer an error of ours that escaped from a view.

    Without a usable token a GET is sent to the login and comes back; anything else,
    a WebSocket, and a client that asks for JSON, gets a 401. A provider that fails is
    a 502.
    """
    status = 502 if isinstance(error, TokenRequestError) else 401
    if not web.has_request_context():
        return "", status  # a WebSocket's, unless it has been accepted already
    if status == 502:
        return _provider_failed(web, error)
    return _not_authorized(web, error)


def _not_authorized(web: Any, error: OAuthError) -> Any:
    consumer = error.blueprint
    # Without one, or for another account's token, no login of this visitor helps.
    login_url = consumer and _login_url(web, consumer)
    if _asks_for_json(web) or not login_url:
        body = web.jsonify(error="not_authorized", login_url=login_url)
        return body, 401, {"Cache-Control": "no-store"}
    if web.request.method == "GET":
        return "", 302, {"Location": login_url, "Cache-Control": "no-store"}
    return pages.not_authorized(consumer.name, login_url), 401, dict(pages.HEADERS)


def _provider_failed(web: Any, error: OAuthError) -> Any:
    name = error.blueprint.name if error.blueprint else "The provider"
    _logger.warning("%r failed: %s", name, error)
    if _asks_for_json(web):
        return web.jsonify(error="provider_failed"), 502
    page = pages.provider_failed(name, _here(web) or web.request.root_path + "/")
    return page, 502, dict(pages.HEADERS)


def _login_url(web: Any, consumer: Consumer) -> str | None:
    endpoint = f"{registered_name(web, consumer)}.login"
    # A prefix may have variables: the view that needs the token has them too.
    [rule, *_] = web.current_app.url_map.iter_rules(endpoint)
    given = web.request.view_args or {}
    values = {name: given[name] for name in rule.arguments if name in given}
    try:
        return cast(str, web.url_for(endpoint, next=_here(web), **values))
    except BuildError:  # a variable that this view has not
        return None


def _asks_for_json(web: Any) -> bool:
    accepted: MIMEAccept = web.request.accept_mimetypes
    return accepted.best_match(["text/html", "application/json"]) == "application/json"


def _here(web: Any) -> str | None:
    """Return the path and query of the request, as `next` takes it."""
    request = web.request
    if request.method != "GET":
        return None
    query = request.query_string.decode("ascii", "replace")
    path = quote(request.root_path + request.path)
    return next_path(f"{path}?{query}" if query else path)


def find_preset(web: Any, kind: type[Any], module: str) -> Any:
    """Return the session at the one blueprint that a preset made.

    Args:
        web: The framework.
        kind: Of which class the blueprint is.
        module: The preset's module, which is its blueprints' `import_name`.

    Raises:
        RuntimeError: There is none in the current application, or more than one.
    """
    made = dict.fromkeys(
        blueprint
        for blueprint in web.current_app.blueprints.values()
        if isinstance(blueprint, kind) and blueprint.import_name == module
    )
    if len(made) == 1:
        return next(iter(made)).current_session()
    name = module.rpartition(".")[2]
    if made:
        raise RuntimeError(
            f"this application has {len(made)} blueprints of {name}: write "
            "`blueprint.session` for the one you mean"
        )
    raise RuntimeError(
        f"this application has no {name} blueprint: "
        f"app.register_blueprint(make_{name}_blueprint())"
    )
