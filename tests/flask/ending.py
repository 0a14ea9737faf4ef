"""A script whose main thread ends while the provider is asked for a new token.

Takes the folder of the tokens, and what asks: a "thread", or the "main" thread, which
is interrupted. The answer comes when the main thread has ended. Says whose token it is,
and at the end of the process whether the new one is stored.
"""

from __future__ import annotations

import asyncio
import atexit
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from rooms import make_flask_app

from quart_dance.flask.consumer.storage.file import FileStorage
from quart_dance.testing import DevProvider, faults

FOLDER, ASKS = Path(sys.argv[1]), sys.argv[2]
PROVIDER = DevProvider()
storage = FileStorage(FOLDER / "{bp.name}.json")
app, blueprint = make_flask_app(PROVIDER, storage=storage)


def ask() -> None:
    """Call the API, which needs a new token."""
    with app.app_context():
        print(blueprint.session.get("user").json()["login"], flush=True)


def release() -> None:
    """Let the provider answer, when the main thread has ended."""
    asyncio.run(PROVIDER.held())
    main = threading.main_thread()
    if ASKS == "main":
        assert main.ident is not None
        signal.pthread_kill(main.ident, signal.SIGINT)
    main.join()
    PROVIDER.release()


@atexit.register
def check() -> None:
    """When the refresh is done, say whether those who ask get the new token."""
    with app.app_context():
        blueprint.close()
        print([blueprint.token["access_token"]] == alive(), flush=True)


def alive() -> list[str]:
    """Return the access tokens that the provider knows."""
    return [token.access_token for token in PROVIDER.tokens]


def main() -> None:
    """Begin, and end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with app.app_context():
        blueprint.token = {**PROVIDER.issue_token("alice"), "expires_at": 1}
    PROVIDER.expire_access_tokens()
    PROVIDER.fault("token", faults.Hang(after=True))
    threading.Thread(target=release).start()
    if ASKS == "main":
        with suppress(KeyboardInterrupt):
            ask()
    else:
        threading.Thread(target=ask).start()


if __name__ == "__main__":
    main()
