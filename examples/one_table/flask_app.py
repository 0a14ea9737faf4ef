"""The older application: Flask, and a database driver without coroutines."""

import os

from flask import Flask, render_template, session
from models import OAuth
from sqlalchemy import create_engine

from quart_dance.flask.consumer import OAuth2ConsumerBlueprint, oauth_authorized
from quart_dance.flask.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.testing import DevProvider

app = Flask(__name__)
app.secret_key = os.environ["SECRET_KEY"]  # the same in both, and so are the sessions
engine = create_engine(f"sqlite:///{os.environ['DATABASE']}")
dev = OAuth2ConsumerBlueprint(
    "dev",  # the same in both: it names the provider in the table
    __name__,
    storage=SQLAlchemyStorage(OAuth, engine, user_id=lambda: session.get("user_id")),
    **DevProvider(url=os.environ["PROVIDER"]).options(),
)
app.register_blueprint(dev, url_prefix="/login")


@oauth_authorized.connect_via(dev)
def logged_in(blueprint, token):
    profile = blueprint.session.get("user").raise_for_status().json()
    session.clear()
    session["user_id"] = profile["id"]


@app.get("/")
def index():
    user = dev.session.get("user").json() if dev.session.authorized else None
    return render_template("index.html", name="Flask", user=user)


@app.post("/logout")
def logout():
    del dev.token
    session.clear()
    return render_template("index.html", name="Flask", user=None)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
