"""Token storages for sync code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ....consumer.storage import base
from ....consumer.storage.base import NOBODY
from ...storages import BaseStorage, SyncStorage

__all__ = ["NOBODY", "BaseStorage", "MemoryStorage", "NullStorage"]


class NullStorage(SyncStorage):
    """Keeps nothing: nobody is ever authorized. For tests."""

    waits = False

    def __init__(self) -> None:
        super().__init__(base.NullStorage())


class MemoryStorage(SyncStorage):
    """Keeps one token a blueprint in memory, shared by everybody. For tests.

    Args:
        token: The token that every blueprint has at the start.
    """

    waits = False

    def __init__(self, token: Mapping[str, Any] | None = None) -> None:
        super().__init__(base.MemoryStorage(token))
