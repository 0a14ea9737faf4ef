"""A storage that does odd things in another process, and how one opens it."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager

from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import AccessDenied, LoginError, StorageError
from quart_dance.testing.processes import opened


class VaultError(ValueError):
    """An error that only this module knows, and that takes more than a text."""

    def __init__(self, vault, key):
        super().__init__(f"{vault} is shut")
        self.cannot_be_pickled = lambda: key


#: What a storage raises, and what of it arrives.
ERRORS = [
    (StorageError("the disk is full"), StorageError, "the disk is full"),
    (KeyError("name"), KeyError, "'name'"),
    (KeyError("two", "things"), KeyError, "('two', 'things')"),
    (FileNotFoundError(2, "gone"), FileNotFoundError, "[Errno 2] gone"),
    (VaultError("ours", "k"), ValueError, "VaultError: ours is shut"),
    (AccessDenied("denied", "no", None), LoginError, "AccessDenied: no"),
    (ExceptionGroup("all", [KeyError()]), Exception, "ExceptionGroup: all (1 sub-"),
    (asyncio.InvalidStateError("no"), Exception, "InvalidStateError: no"),
]


class Unreadable:
    """Something that can be pickled, but not unpickled."""

    def __reduce__(self):
        return int, ("no number",)


class OddStorage(MemoryStorage):
    """Does what an account is called, and says in `account` what has happened."""

    def __init__(self, folder=None):
        super().__init__()
        self.happened = "nothing"

    async def get(self, blueprint, *, user_id=None):
        print("whatever a storage prints is for people")
        if user_id == "hang":
            return await self.hang()
        if user_id == "die":
            os._exit(3)
        odd = {"lambda": lambda: None, "unreadable": Unreadable()}
        if user_id in odd:
            return odd[user_id]
        if user_id is not None:
            raise ERRORS[user_id][0]
        return await super().get(blueprint)

    async def hang(self):
        self.happened = "it hangs"
        try:
            await asyncio.Event().wait()
        finally:
            self.happened = "it was cancelled"

    async def account(self, blueprint, **who):
        return self.happened

    @asynccontextmanager
    async def refresh_lock(self, blueprint, *, user_id=None):
        try:
            if user_id == "hang":
                await self.hang()
            yield
        except BaseException as error:
            self.happened = f"left with {type(error).__name__}"
            raise
        self.happened = "left"


@asynccontextmanager
async def in_context(folder):
    """Write what happens to the storage in the end, and fail then if told to."""
    storage = OddStorage()
    yield storage
    (folder / "end").write_text(storage.happened)
    if (folder / "fail").exists():
        raise StorageError("it cannot be closed")


async def awaited(folder):
    """Return a storage, later."""
    return OddStorage()


def odd(number=1, opener="OddStorage", folder=None):
    """Let some processes open storages."""
    return opened(f"{__name__}:{opener}", {"folder": folder}, number)
