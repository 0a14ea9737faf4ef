"""Accounts of your own, in a database, that people open with one of two providers.

Nothing needs to be registered: the providers, North and South, run in this process::

    pip install "quart_dance[sqla]" quart-auth
    python examples/many_users.py

and open http://127.0.0.1:5000 in a browser.
"""

import asyncio
import os
import secrets
from contextlib import suppress
from tempfile import TemporaryDirectory

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, make_response, redirect, render_template_string, url_for
from quart_auth import (
    AuthUser,
    QuartAuth,
    current_user,
    login_required,
    login_user,
    logout_user,
)
from sqlalchemy import ForeignKey, UniqueConstraint
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from quart_dance.consumer import OAuth2ConsumerBlueprint, oauth_authorized
from quart_dance.consumer.storage.sqla import OAuthConsumerMixin, SQLAlchemyStorage
from quart_dance.testing import DevProvider


class Base(DeclarativeBase):
    pass


class User(Base):
    """An account of this application."""

    __tablename__ = "user"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


class Login(Base):
    """Who of a provider may enter which account; it outlives the tokens."""

    __tablename__ = "login"
    __table_args__ = (UniqueConstraint("user_id", "provider"),)
    provider: Mapped[str] = mapped_column(primary_key=True)
    provider_user_id: Mapped[str] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))


class OAuth(OAuthConsumerMixin, Base):
    """The tokens; SQLAlchemyStorage writes them, and deletes those that are dead."""

    user_id: Mapped[int] = mapped_column(ForeignKey(User.id))
    user: Mapped[User] = relationship()


PAGE = """<!doctype html>
<title>Many users</title>
<h1>Hello, {{ user.name if user else "stranger" }}</h1>
<ul>
{% for blueprint, profile in profiles %}
  <li>{{ blueprint.name }}:
  {% if profile %}you are {{ profile.login }}
  {% else %}<a href="{{ url_for(blueprint.name + '.login') }}">
    {{ "connect" if user else "log in" }}</a>{% endif %}</li>
{% endfor %}
</ul>
{% if user %}
<form method="post" action="{{ url_for('logout') }}"><button>Log out</button></form>
{% endif %}
"""


def create_app(database_url, providers, *, https=True):
    """Make the application.

    Args:
        database_url: Such as ``sqlite+aiosqlite:///app.db``.
        providers: The names of the providers, each with its blueprint's options.
        https: Whether it is served over https, as it must be beyond this machine.
    """
    app = Quart(__name__)
    # Without a key of your own, everybody is logged out when the application restarts.
    app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
    QuartAuth(app, cookie_secure=https)
    engine = create_async_engine(database_url)
    async_session = async_sessionmaker(engine, expire_on_commit=False)
    storage = SQLAlchemyStorage(OAuth, async_session, user=current_user)
    blueprints = [
        OAuth2ConsumerBlueprint(name, __name__, storage=storage, **options)
        for name, options in providers.items()
    ]

    @app.before_serving
    async def create_tables():
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)

    @app.after_serving
    async def close_database():
        await engine.dispose()

    async def logged_in(blueprint, token):
        """Log in whom a token belongs to, or connect them with who is logged in."""
        profile = (await blueprint.session.get("user")).raise_for_status().json()
        # The id is the provider's own. An e-mail address would let in whoever has
        # managed to enter it at any of the providers.
        key = {"provider": blueprint.name, "provider_user_id": str(profile["id"])}
        async with async_session.begin() as db:
            login = await db.get(Login, key)
            if current_user.auth_id:
                mine = int(current_user.auth_id)
                if await db.get(User, mine) is None:
                    return await refused("Your account here is gone: log out first.")
                if login is None and await is_connected(db, blueprint, mine):
                    return await refused("You have connected another account there.")
                if login is not None and login.user_id != mine:
                    return await refused("That account belongs to another user here.")
            elif login is None:
                user = User(name=profile["login"])
                db.add(user)
                await db.flush()
                mine = user.id
            else:
                mine = login.user_id
            if login is None:
                db.add(Login(**key, user_id=mine))
        # From here on, the token belongs to whom this names.
        login_user(AuthUser(str(mine)))

    for blueprint in blueprints:
        app.register_blueprint(blueprint, url_prefix="/login")
        oauth_authorized.connect(logged_in, blueprint, weak=False)

    @app.get("/")
    async def index():
        profiles, user = [], None
        if current_user.auth_id:
            async with async_session() as db:
                user = await db.get(User, int(current_user.auth_id))
        for blueprint in blueprints:
            profile = None
            if await blueprint.session.authorized:
                profile = (await blueprint.session.get("user")).json()
            profiles.append((blueprint, profile))
        return await render_template_string(PAGE, user=user, profiles=profiles)

    @app.post("/logout")
    @login_required
    async def logout():
        logout_user()  # the tokens stay, for the next time
        return redirect(url_for("index"))

    return app


async def is_connected(db, blueprint, user_id):
    """Say whether a user may already enter with another account of a provider."""
    query = Login.__table__.select().filter_by(provider=blueprint.name, user_id=user_id)
    return (await db.execute(query)).first() is not None


async def refused(why):
    """Answer in place of a login; then the token is not stored."""
    return await make_response(f"{why} Nothing has changed.", 409)


async def main(folder):
    """Serve the application and two providers, each on a port of its own."""
    apps, options = {}, {}
    for name, port in (("north", 5001), ("south", 5002)):
        apps[port] = DevProvider(url=f"http://127.0.0.1:{port}", expires_in=120)
        options[name] = apps[port].options()
    url = f"sqlite+aiosqlite:///{folder}/app.db"
    apps[5000] = create_app(url, options, https=False)
    async with asyncio.TaskGroup() as group:
        for port, app in apps.items():
            config = Config()
            config.bind = [f"127.0.0.1:{port}"]
            forever = asyncio.Event().wait
            group.create_task(serve(app, config, shutdown_trigger=forever))


if __name__ == "__main__":
    os.environ.setdefault("no_proxy", "127.0.0.1")
    with TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        asyncio.run(main(folder))
