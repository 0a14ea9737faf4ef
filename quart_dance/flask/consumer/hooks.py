"""Where Flask calls us, where we call the application, and where neither is there."""

from __future__ import annotations

import asyncio
from collections import UserDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import flask
from flask import Flask, Response, current_app

from ...consumer.consumer import Consumer
from ...consumer.hooks import answer, own_handler, put
from ...consumer.room import outside
from ...consumer.storage.session import mark_end
from ...errors import OAuthError


def install(app: Flask) -> None:
    """Put the hooks in place, once for each application of Flask's."""
    put(app, _mark_end, _handle)


def _mark_end(response: Response) -> Response:
    mark_end(flask.request.environ)
    return response


def _handle(error: OAuthError) -> Any:
    own = own_handler(flask)
    return ensure_sync(own)(error) if own else answer(flask, error)


def ensure_sync(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of the application's as a sync one, as Flask does.

    Flask's own cannot run coroutines where an event loop runs, as in an async view:
    there another thread does, with the same request at hand.
    """
    sync = current_app.ensure_sync(function)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return sync

    def call(*args: Any, **kwargs: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(copy_context().run, sync, *args, **kwargs).result()

    return sync if sync is function else call


class NobodysConfig(UserDict[str, Any]):
    """What `blueprint.config` is where nobody visits: empty, and it stays so."""

    def __init__(self, consumer: Consumer) -> None:
        super().__init__()
        self._consumer = consumer

    def __setitem__(self, key: str, item: Any) -> None:
        raise outside(self._consumer)
