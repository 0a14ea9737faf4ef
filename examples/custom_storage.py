"""A token storage of your own: three coroutines, and a fourth for accounts.

Nothing needs to be registered: the provider runs in this process::

    pip install quart_dance
    python examples/custom_storage.py

and open http://127.0.0.1:5000 in a browser.
"""

import asyncio
import json
import os
import secrets
import sqlite3
from contextlib import closing, suppress
from tempfile import TemporaryDirectory

from hypercorn.asyncio import serve
from hypercorn.config import Config
from quart import Quart, redirect, session, url_for

from quart_dance.consumer import OAuth2ConsumerBlueprint, oauth_authorized
from quart_dance.consumer.storage import NOBODY, BaseStorage
from quart_dance.errors import UserRequiredError
from quart_dance.testing import DevProvider


class TableStorage(BaseStorage):
    """Keeps one token for each provider, in a table of SQLite."""

    def __init__(self, path):
        self.path = path
        self._execute("CREATE TABLE IF NOT EXISTS tokens (key PRIMARY KEY, token)")

    async def get(self, blueprint):
        return await self.read(blueprint.name)

    async def set(self, blueprint, token):
        await self.write(blueprint.name, token)

    async def delete(self, blueprint):
        await self.remove(blueprint.name)

    # The table. Python's own driver would stop everybody, so it works in a thread.

    async def read(self, key):
        sql = "SELECT token FROM tokens WHERE key = ?"
        rows = await asyncio.to_thread(self._execute, sql, key)
        return json.loads(rows[0][0]) if rows else None

    async def write(self, key, token):
        sql = "INSERT OR REPLACE INTO tokens VALUES (?, ?)"
        await asyncio.to_thread(self._execute, sql, key, json.dumps(token))

    async def remove(self, key):
        sql = "DELETE FROM tokens WHERE key = ?"
        await asyncio.to_thread(self._execute, sql, key)

    def _execute(self, sql, *values):
        with closing(sqlite3.connect(self.path)) as database, database:
            return database.execute(sql, values).fetchall()


class UserTableStorage(TableStorage):
    """Keeps one token for each provider and user."""

    async def account(self, blueprint, *, user=None, user_id=None):
        """Say whose token it is: of whom somebody names, else of who is logged in."""
        if user is not None:
            user_id = user.id
        elif user_id is None:
            user_id = session.get("user_id")
        return None if user_id in (None, NOBODY) else str(user_id)

    def named(self, account):
        """Say how an account is named, so that a refresh keeps to it."""
        return {"user_id": NOBODY if account is None else account}

    async def get(self, blueprint, **who):
        return await self.read(await self.key(blueprint, **who))

    async def set(self, blueprint, token, **who):
        await self.write(await self.key(blueprint, **who), token)

    async def delete(self, blueprint, **who):
        await self.remove(await self.key(blueprint, **who))

    async def key(self, blueprint, **who):
        account = await self.account(blueprint, **who)
        if account is None:
            raise UserRequiredError("tokens are kept for users: log in first")
        return json.dumps([blueprint.name, account])


def create_app(storage, options):
    """Make an application that knows its visitors by their id at the provider.

    Args:
        storage: The storage.
        options: What the blueprint must know of the provider.
    """
    app = Quart(__name__)
    app.secret_key = os.environ.get("SECRET_KEY") or secrets.token_hex()
    dev = OAuth2ConsumerBlueprint("dev", __name__, storage=storage, **options)
    app.register_blueprint(dev, url_prefix="/login")

    async def logged_in(blueprint, token):
        profile = (await blueprint.session.get("user")).raise_for_status().json()
        session.clear()
        session["user_id"] = profile["id"]

    oauth_authorized.connect(logged_in, dev, weak=False)

    @app.get("/")
    @dev.session.authorization_required
    async def index():
        user = (await dev.session.get("user")).json()
        button = '<form method="post" action="/logout"><button>Log out</button></form>'
        return f"<!doctype html><title>Your own storage</title>{user['login']}{button}"

    @app.post("/logout")
    async def logout():
        await dev.delete_token()
        session.clear()
        return redirect(url_for("index"))

    return app


async def main(folder):
    """Serve the application and a provider, each on a port of its own."""
    provider = DevProvider(url="http://127.0.0.1:5001", expires_in=120)
    storage = UserTableStorage(f"{folder}/tokens.db")
    app = create_app(storage, provider.options())
    async with asyncio.TaskGroup() as group:
        for port, served in ((5000, app), (5001, provider)):
            config = Config()
            config.bind = [f"127.0.0.1:{port}"]
            forever = asyncio.Event().wait
            group.create_task(serve(served, config, shutdown_trigger=forever))


if __name__ == "__main__":
    os.environ.setdefault("no_proxy", "127.0.0.1")
    with TemporaryDirectory() as folder, suppress(KeyboardInterrupt):
        asyncio.run(main(folder))
