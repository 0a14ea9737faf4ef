"""The older name of `quart_dance.consumer.storage`."""

from ..storage import BaseStorage as BaseBackend
from ..storage import MemoryStorage, NullStorage

__all__ = ["BaseBackend", "MemoryStorage", "NullStorage"]
