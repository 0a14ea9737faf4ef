"""The same work as worker.py's in an application of Flask's: a thread for each task."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flask import Flask
from opening import OAuth, opened
from sqlalchemy import create_engine

from quart_dance.consumer.runtime import runtime
from quart_dance.errors import NotAuthorizedError, OAuthError
from quart_dance.flask import SyncStorage
from quart_dance.flask.consumer import OAuth2ConsumerBlueprint
from quart_dance.flask.consumer.storage.sqla import SQLAlchemyStorage

#: The drivers of sync code, by those that have coroutines.
DRIVERS = {
    "postgresql+asyncpg": "postgresql+psycopg",
    "mysql+aiomysql": "mysql+pymysql",
    "sqlite+aiosqlite": "sqlite",
}


async def work(job: Any, transport: Any, ready: Any) -> list[str]:
    """Let all tasks of a job call the API at once.

    Args:
        job: See `worker.Job`.
        transport: Carries every request in place of the network, or None.
        ready: Is called when the work may begin; it returns when it does.
    """
    if job["framework"] == "flask sync":
        place = job["place"]
        driver, _, rest = place["url"].partition("://")
        engine = create_engine(f"{DRIVERS[driver]}://{rest}")
        storage = SQLAlchemyStorage(OAuth, engine)
        storage.async_storage.lease_seconds = place["lease_seconds"]  # type: ignore[attr-defined]
        try:
            return await asyncio.to_thread(in_threads, job, storage, transport, ready)
        finally:
            engine.dispose()
    async with opened(**job["place"]) as inner:
        wrapped = SyncStorage(inner)
        try:
            return await asyncio.to_thread(in_threads, job, wrapped, transport, ready)
        finally:
            await asyncio.to_thread(wrapped.close)


def in_threads(job: Any, storage: Any, transport: Any, ready: Any) -> list[str]:
    """Do the work; this thread, and those that it starts, run no event loop."""
    app = Flask(__name__)
    options = job["options"]
    blueprint = OAuth2ConsumerBlueprint("dev", __name__, storage=storage, **options)
    app.register_blueprint(blueprint)
    runtime(app).clock = lambda: time.time() + job["skew"]
    runtime(app).transport = transport

    def call(user_id: int) -> str:
        try:
            session = blueprint.session_for(user_id=user_id, app=app)
            return str(session.get("user").json()["login"])
        except NotAuthorizedError:
            return "log in again"
        except OAuthError as error:
            return f"{type(error).__name__}: {error}"

    ready()
    with ThreadPoolExecutor(len(job["users"])) as pool:
        said = list(pool.map(call, job["users"]))
    blueprint.close(app)
    return said
