"""The provider's Quart application: routes and thin views."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from quart import Quart, Response, request

from . import pages
from .api import api_views
from .consent import Consent
from .server import Message, Reply, Server

View: TypeAlias = Callable[[], Awaitable[Response]]

#: Each endpoint with its methods and paths; the second paths are GitHub's.
ROUTES: Mapping[str, tuple[str, list[str]]] = {
    "home": ("GET", ["/"]),
    "authorize": ("GET", ["/authorize", "/login/oauth/authorize"]),
    "consent": ("POST", ["/consent"]),
    "token": ("POST", ["/token", "/login/oauth/access_token"]),
    "revoke": ("POST", ["/revoke"]),
    "user": ("GET", ["/api/user", "/user"]),
    "repos": ("GET", ["/api/user/repos", "/user/repos"]),
    "echo": ("POST PUT PATCH DELETE", ["/api/echo"]),
    "cookie": ("GET", ["/api/cookie"]),
    "stream": ("GET", ["/api/stream"]),
    "redirect": ("GET", ["/api/redirect"]),
}

#: The endpoint of each path.
ENDPOINTS = {path: name for name, (_, paths) in ROUTES.items() for path in paths}


def create_app(server: Server, consent: Consent) -> Quart:
    """Build the application around one server."""
    app = Quart(__name__, static_folder=None)
    views = {**protocol_views(server, consent), **api_views(server)}
    for name, (methods, paths) in ROUTES.items():
        for path in paths:
            app.add_url_rule(path, name, views[name], methods=methods.split())

    @app.after_request
    async def never_store(response: Response) -> Response:
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return app


def protocol_views(server: Server, consent: Consent) -> dict[str, View]:
    """Make the views of the OAuth endpoints and of the pages."""

    async def home() -> Response:
        return Response(pages.home_page())

    async def authorize() -> Response:
        return respond(consent.ask(Message("GET", request.args, request.headers)))

    async def decide() -> Response:
        return respond(consent.decide(await request.form))

    async def token() -> Response:
        return respond(server.answer_token(await _posted()))

    async def revoke() -> Response:
        return respond(server.answer_revocation(await _posted()))

    return {
        "home": home,
        "authorize": authorize,
        "consent": decide,
        "token": token,
        "revoke": revoke,
    }


def respond(reply: Reply) -> Response:
    """Turn what the protocol answers into a response of Quart."""
    return Response(reply.body, reply.status, reply.headers)


async def _posted() -> Message:
    return Message(request.method, await request.form, request.headers)
