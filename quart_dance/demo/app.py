"""The sample application: it logs its visitors in with DevProvider."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from quart import Quart, Response, redirect, render_template, request, url_for
from quart.typing import ResponseReturnValue

from ..consumer import OAuth2ConsumerBlueprint

#: The blueprint's name: what the pages call the provider.
PROVIDER = "DevProvider"
CALLBACK_PATH = "/login/dev/authorized"

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    # Not "no-referrer": then browsers send "Origin: null" with our own form, too.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def create_app(**options: Any) -> Quart:
    """Build the application.

    Args:
        **options: What its blueprint must know of the provider: client, URLs, scope.
    """
    app = Quart(__name__, static_folder=None)
    app.secret_key = secrets.token_hex()
    # Cookies ignore ports: another application on this machine has a "session" too.
    app.config["SESSION_COOKIE_NAME"] = "quart_dance_demo"
    app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
    dev = OAuth2ConsumerBlueprint(
        PROVIDER,
        __name__,
        login_url="/dev",
        authorized_url="/dev/authorized",
        **options,
    )
    app.register_blueprint(dev, url_prefix="/login")
    add_pages(app, dev)

    @app.after_request
    async def protect(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return app


def add_pages(app: Quart, dev: OAuth2ConsumerBlueprint) -> None:
    """Add what there is to see, logged in or not."""

    @app.get("/")
    async def index() -> ResponseReturnValue:
        if not await dev.session.authorized:
            return await render_template("welcome.html")
        user = await dev.session.get("user")
        repos = await dev.session.get("user/repos")
        token: Mapping[str, Any] = await dev.session.token or {}
        return await render_template(
            "profile.html",
            user=user.raise_for_status().json(),
            repos=repos.raise_for_status().json(),
            scope=token.get("scope"),
            seconds=max(0, token.get("expires_at", 0) - int(time.time())),
        )

    @app.get("/private")
    @dev.session.authorization_required
    async def private() -> ResponseReturnValue:
        user = (await dev.session.get("user")).raise_for_status().json()
        return await render_template("private.html", user=user)

    @app.post("/logout")
    async def logout() -> ResponseReturnValue:
        # SameSite does not keep other ports of this machine away; the origin does.
        if request.headers.get("Origin") != request.host_url.rstrip("/"):
            return await render_template("foreign.html"), 403
        await dev.revoke_token()
        return redirect(url_for("index"), 303)
