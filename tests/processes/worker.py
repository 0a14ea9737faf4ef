"""A process of an application with several: calls an API for one user, many times.

Reads one job a line as JSON; see `Job`. Says ``ready``, waits for another line, and
says as JSON what each call came to.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import warnings
from typing import Any, TypedDict

import flask_worker
import httpx2
from opening import opened
from quart import Quart

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.errors import NotAuthorizedError, OAuthError


class Job(TypedDict):
    """What a process is to do.

    Attributes:
        options: Of the blueprint.
        place: Where the tokens are; see `opening.opened`.
        users: The user of each task, by id.
        skew: Seconds by which this process's clock is ahead.
        die: When the process kills itself, around a refresh: "before" it asks,
            "after" it has the answer, or never.
        framework: "quart", "flask" with `SyncStorage`, or "flask sync" with a storage
            over a sync driver.
    """

    options: dict[str, Any]
    place: dict[str, Any]
    users: list[int]
    skew: float
    die: str
    framework: str


class Deadly(httpx2.AsyncHTTPTransport):
    """A network on which this process dies."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        refreshing = request.method == "POST"
        if refreshing and self.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        response = await super().handle_async_request(request)
        await response.aread()
        if refreshing and self.when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return response


def ready() -> None:
    """Say that the work may begin, and wait until it does."""
    print("ready", flush=True)
    sys.stdin.readline()


async def work(job: Job) -> list[str]:
    """Let all tasks of a job call the API at once."""
    transport = Deadly(job["die"]) if job["die"] else None
    if job["framework"] != "quart":
        return await flask_worker.work(job, transport, ready)
    app = Quart(__name__)
    blueprint = OAuth2ConsumerBlueprint("dev", __name__, **job["options"])
    app.register_blueprint(blueprint)
    runtime(app).clock = lambda: time.time() + job["skew"]
    runtime(app).transport = transport

    async def call(user_id: int) -> str:
        try:
            session = blueprint.session_for(user_id=user_id, app=app)
            return str((await session.get("user")).json()["login"])
        except NotAuthorizedError:
            return "log in again"
        except OAuthError as error:
            return f"{type(error).__name__}: {error}"

    async with opened(**job["place"]) as storage:
        blueprint.storage = storage
        await asyncio.to_thread(ready)
        said = await asyncio.gather(*(call(user_id) for user_id in job["users"]))
        await blueprint.aclose(app)
    return said


if __name__ == "__main__":
    warnings.simplefilter("error")
    for line in iter(sys.stdin.readline, ""):
        print(json.dumps(asyncio.run(work(json.loads(line)))), flush=True)
