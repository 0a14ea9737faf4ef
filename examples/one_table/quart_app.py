"""The application that takes its place: Quart, and a driver with coroutines."""

import os

from models import OAuth
from quart import Quart, render_template, session
from sqlalchemy.ext.asyncio import create_async_engine

from quart_dance.consumer import OAuth2ConsumerBlueprint, oauth_authorized
from quart_dance.consumer.storage.sqla import SQLAlchemyStorage
from quart_dance.testing import DevProvider

app = Quart(__name__)
app.secret_key = os.environ["SECRET_KEY"]
engine = create_async_engine(f"sqlite+aiosqlite:///{os.environ['DATABASE']}")
dev = OAuth2ConsumerBlueprint(
    "dev",
    __name__,
    storage=SQLAlchemyStorage(OAuth, engine, user_id=lambda: session.get("user_id")),
    **DevProvider(url=os.environ["PROVIDER"]).options(),
)
app.register_blueprint(dev, url_prefix="/login")


@app.after_serving
async def close_database():
    await engine.dispose()


@oauth_authorized.connect_via(dev)
async def logged_in(blueprint, token):
    profile = (await blueprint.session.get("user")).raise_for_status().json()
    session.clear()
    session["user_id"] = profile["id"]


@app.get("/")
async def index():
    user = None
    if await dev.session.authorized:
        user = (await dev.session.get("user")).json()
    return await render_template("index.html", name="Quart", user=user)


@app.post("/logout")
async def logout():
    await dev.delete_token()
    session.clear()
    return await render_template("index.html", name="Quart", user=None)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]), use_reloader=False)
