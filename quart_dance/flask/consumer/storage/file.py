"""Tokens in files, for sync code."""

from __future__ import annotations

import os
from typing import Any

from ....consumer.storage import file
from ...storages import SyncStorage


class FileStorage(SyncStorage):
    """Keeps each token as a file of JSON, readable by its owner only.

    Args:
        filepath: As `quart_dance.consumer.storage.file.FileStorage` takes it.
        user: Whose token: a user object, a proxy such as Flask-Login's
            `current_user`, or a function that returns one.
        user_id: The same as an id; it wins over `user`.

    Raises:
        ValueError: The path and the users do not fit each other.
    """

    def __init__(
        self, filepath: str | os.PathLike[str], user: Any = None, user_id: Any = None
    ) -> None:
        super().__init__(file.FileStorage(filepath, user, user_id))
