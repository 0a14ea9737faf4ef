"""The default storage: the visitor's own session."""

from __future__ import annotations

from typing import Any, ClassVar

import flask

from ....consumer.storage import session
from ...storages import SyncStorage


class SessionStorage(SyncStorage):
    """Keeps the token in `flask.session`: one visitor, one browser, one token.

    What `quart_dance.consumer.storage.session.SessionStorage` says of cookies holds
    here too.

    Args:
        key: The session key; ``{bp.name}`` stands for the blueprint's name.
        refresh_tokens: Whether refresh tokens are kept too.
    """

    waits = False

    def __init__(
        self, key: str = "{bp.name}_oauth_token", *, refresh_tokens: bool = True
    ) -> None:
        super().__init__(_FlaskSession(key, refresh_tokens=refresh_tokens))


class _FlaskSession(session.SessionStorage):
    web: ClassVar[Any] = flask

    def _scope(self) -> Any:
        return flask.request.environ

    def _has_session(self) -> bool:
        return flask.has_request_context()
