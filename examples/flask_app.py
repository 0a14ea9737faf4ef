"""A Flask application: what Flask-Dance calls by a name has that name here.

Nothing needs to be registered: the provider runs in this process::

    pip install quart_dance
    python examples/flask_app.py

and open http://127.0.0.1:5000 in a browser.
"""

import asyncio
import os
import secrets
import sys
from tempfile import TemporaryDirectory
from threading import Thread

from flask import Flask, make_response, redirect, session, url_for
from hypercorn.asyncio import serve
from hypercorn.config import Config
from markupsafe import escape

from quart_dance.flask.consumer import OAuth2ConsumerBlueprint, oauth_authorized
from quart_dance.flask.consumer.storage.file import FileStorage
from quart_dance.testing import DevProvider


def create_app(folder, options):
    """Make an application that knows its visitors by their id at the provider.

    Args:
        folder: Where the tokens are kept, in a file for each user.
        options: What the blueprint must know of the provider.
    """
    app = Flask(__name__)
    # Without a key of your own, everybody is logged out when the application restarts.
    app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
    path = f"{folder}/{{bp.name}}/{{user_id}}.json"
    storage = FileStorage(path, user_id=lambda: session.get("user_id"))
    dev = OAuth2ConsumerBlueprint("dev", __name__, storage=storage, **options)
    app.register_blueprint(dev, url_prefix="/login")

    def logged_in(blueprint, token):
        response = blueprint.session.get("user")
        if not response.ok:
            return make_response("The provider does not say who you are.", 502)
        session.clear()
        session["user_id"] = response.json()["id"]

    oauth_authorized.connect(logged_in, dev, weak=False)

    @app.get("/")
    def index():
        if not dev.session.authorized:
            return redirect(url_for("dev.login"))
        user = dev.session.get("user").json()
        button = '<form method="post" action="/logout"><button>Log out</button></form>'
        return f"<!doctype html><title>Flask</title>{escape(user['login'])}{button}"

    @app.post("/logout")
    def logout():
        del dev.token
        session.clear()
        return redirect(url_for("index"))

    return app


def serve_provider(provider, port):
    """Serve a provider in this process, beside the application."""
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    forever = asyncio.Event().wait
    asyncio.run(serve(provider, config, shutdown_trigger=forever))


def main(port=5000, provider_port=5001):
    """Serve the application and a provider, each on a port of its own."""
    os.environ.setdefault("no_proxy", "127.0.0.1")
    provider = DevProvider(url=f"http://127.0.0.1:{provider_port}", expires_in=120)
    Thread(target=serve_provider, args=(provider, provider_port), daemon=True).start()
    with TemporaryDirectory() as folder:
        create_app(folder, provider.options()).run(port=port)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
