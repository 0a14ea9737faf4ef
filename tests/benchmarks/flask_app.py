"""The application that the benchmark flask.py serves, with one library or the other.

LIBRARY is ``quart_dance.flask`` or ``flask_dance``, and API a URL to call.
"""

from __future__ import annotations

import os
from importlib import import_module

from flask import Flask

consumer = import_module(f"{os.environ['LIBRARY']}.consumer")
storage = import_module(f"{os.environ['LIBRARY']}.consumer.storage")

# It calls its API without TLS, which requests-oauthlib asks to be told.
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"
app = Flask(__name__)
app.secret_key = "the secret key of the benchmark"
blueprint = consumer.OAuth2ConsumerBlueprint(
    "dev",
    __name__,
    client_id="the client",
    client_secret="the secret",
    base_url=os.environ["API"],
    authorization_url="https://provider.test/authorize",
    token_url="https://provider.test/token",
    storage=storage.MemoryStorage(
        {"access_token": "the-token", "token_type": "bearer"}
    ),
)
app.register_blueprint(blueprint, url_prefix="/login")


@app.get("/")
def index() -> str:
    """Call the API for the visitor."""
    assert blueprint.session.authorized
    response = blueprint.session.get("user")
    assert response.ok
    return str(response.json()["login"])
