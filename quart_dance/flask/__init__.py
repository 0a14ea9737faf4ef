"""The same under Flask: `quart_dance.flask.consumer` mirrors `quart_dance.consumer`.

Beside it there are the ways between sync and async storages.
"""

from .async_storages import AsyncStorage
from .storages import BaseStorage, SyncStorage

__all__ = ["AsyncStorage", "BaseStorage", "SyncStorage"]
