"""Token storages."""

from .base import NOBODY, BaseStorage, MemoryStorage, NullStorage

__all__ = ["NOBODY", "BaseStorage", "MemoryStorage", "NullStorage"]
