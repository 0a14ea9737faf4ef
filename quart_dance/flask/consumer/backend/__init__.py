"""The older name of `quart_dance.flask.consumer.storage`."""

from ..storage import BaseStorage as BaseBackend
from ..storage import MemoryStorage, NullStorage

__all__ = ["BaseBackend", "MemoryStorage", "NullStorage"]
