"""Closing a blueprint of Flask's."""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest
from rooms import make_flask_app

from quart_dance.consumer import oauth_refreshed, oauth_revoked
from quart_dance.flask.consumer.storage import MemoryStorage


@pytest.mark.parametrize("signal", [oauth_refreshed, oauth_revoked])
def test_a_receiver_that_closes(dev_provider, signal):
    """S14: a receiver of a refresh may close the blueprint that waits for it."""
    token = {**dev_provider.issue_token("alice"), "expires_at": 1}
    app, blueprint = make_flask_app(dev_provider, storage=MemoryStorage(token))
    if signal is oauth_revoked:
        dev_provider.revoke_tokens()
    said: list[Any] = []

    @signal.connect_via(blueprint)
    def close(sender: Any, token: Any) -> None:
        sender.close()
        said.append("closed")

    def visit() -> None:
        said.append(app.test_client().get("/me").status_code)

    # One that nobody has to wait for, were it to hang.
    thread = Thread(target=visit, daemon=True)
    thread.start()
    thread.join(60)
    assert said == ["closed", 302 if signal is oauth_revoked else 200]
