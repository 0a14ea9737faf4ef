"""A Flask application as gunicorn serves it; it uses its storage when it is imported.

DATABASE_URL and OPTIONS, the blueprint's as JSON, are in the environment.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import flask
from flask import Flask
from forking import OAuth
from sqlalchemy.ext.asyncio import create_async_engine

from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.flask import SyncStorage
from quart_dance.flask.consumer import OAuth2ConsumerBlueprint

app = Flask(__name__)
app.secret_key = "the secret key of the tests"
storage = SyncStorage(
    SQLAlchemyStorage(
        OAuth,
        create_async_engine(os.environ["DATABASE_URL"]),
        user_id=lambda: flask.session.get("user_id"),
    )
)
options = json.loads(os.environ["OPTIONS"])
blueprint = OAuth2ConsumerBlueprint("dev", __name__, storage=storage, **options)
app.register_blueprint(blueprint, url_prefix="/login")
# With --preload this is the parent process, whose connections no child may use.
assert storage.get(SimpleNamespace(name="dev"), user_id=0) is None


@app.get("/be/<int:user_id>")
def be(user_id: int) -> str:
    """Log a user in."""
    flask.session["user_id"] = user_id
    return ""


@app.get("/me")
@blueprint.session.authorization_required
def me() -> dict[str, object]:
    """Say who one is at the provider, and which process says so."""
    login = blueprint.session.get("user").json()["login"]
    return {"login": login, "process": os.getpid()}
