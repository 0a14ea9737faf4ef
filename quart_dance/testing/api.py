"""The API behind the bearer tokens: a user, and what a client library must stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from quart import Response, jsonify, request

from .records import IssuedToken
from .server import Server

ApiView: TypeAlias = Callable[[IssuedToken], Awaitable[Response]]

COOKIE_NAME = "dev_provider"
CHUNKS = 5


def api_views(server: Server) -> dict[str, Callable[[], Awaitable[Response]]]:
    """Make the views of the API, each behind a valid access token."""
    views = [user, repos, echo, cookie, stream, send_elsewhere]
    names = ["user", "repos", "echo", "cookie", "stream", "redirect"]
    return {name: _bearer(server, v) for name, v in zip(names, views, strict=True)}


async def user(token: IssuedToken) -> Response:
    """Say whose token it is."""
    person = token.person
    return jsonify(
        id=person.id, login=person.login, name=person.name, email=person.email
    )


async def repos(token: IssuedToken) -> Response:
    """List something that belongs to the user."""
    names = ["hello-world", "dotfiles"]
    return jsonify([{"name": f"{token.person.login}/{name}"} for name in names])


async def echo(token: IssuedToken) -> Response:
    """Tell what arrived."""
    body = await request.get_data(True, False, False)
    return jsonify(
        method=request.method,
        body=body.decode("utf-8", "replace"),
        content_type=request.headers.get("Content-Type"),
        query=request.args.to_dict(),
    )


async def cookie(token: IssuedToken) -> Response:
    """Set a cookie of this token's own, and tell which ones came in."""
    response = jsonify(cookies=dict(request.cookies))
    response.set_cookie(COOKIE_NAME, token.cookie, httponly=True, samesite="Lax")
    return response


async def stream(token: IssuedToken) -> Response:
    """Send some lines, one chunk each."""

    async def lines() -> AsyncIterator[bytes]:
        for number in range(CHUNKS):
            yield b'{"line": %d}\n' % number

    return Response(lines(), content_type="application/x-ndjson")


async def send_elsewhere(token: IssuedToken) -> Response:
    """Redirect to `to` with `status`, as APIs do with what has moved."""
    status = request.args.get("status", 302, int)
    if status not in (301, 302, 303, 307, 308) or not request.args.get("to"):
        return Response("It takes a URL `to` and a `status` of 30x.", 400)
    return Response(status=status, headers={"Location": request.args["to"]})


def _bearer(server: Server, view: ApiView) -> Callable[[], Awaitable[Response]]:
    async def checked() -> Response:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            # Nothing was presented: no error code (RFC 6750, section 3.1).
            return _unauthorized("Bearer")
        token = server.find_access_token(value.strip())
        if token is None:
            return _unauthorized('Bearer error="invalid_token"')
        return await view(token)

    return checked


def _unauthorized(challenge: str) -> Response:
    response = jsonify(message="Bad credentials")
    response.status_code = 401
    response.headers["WWW-Authenticate"] = challenge
    return response
