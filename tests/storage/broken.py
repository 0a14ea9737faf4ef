"""Storages in files that several processes share, each of which breaks a promise."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from quart_dance.consumer.storage import BaseStorage
from quart_dance.consumer.storage.base import local_lock
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.errors import StorageError


class LocalLock(FileStorage):
    """Holds off refreshes in its own process only."""

    refresh_lock = BaseStorage.refresh_lock


class RefusingLock(FileStorage):
    """Fails where another process holds the lock, rather than to wait for it."""

    @asynccontextmanager
    async def refresh_lock(self, blueprint):
        async with local_lock(self, blueprint.name):
            async with lock_file(self, blueprint, wait=False):
                await asyncio.sleep(0.3)  # long enough for the others to come
                yield


class LastingLock(FileStorage):
    """Forgets that who holds the refresh lock may be killed."""

    def refresh_lock(self, blueprint):
        return lock_file(self, blueprint)


class LastingWriteLock(FileStorage):
    """Forgets that who writes may be killed."""

    async def set(self, blueprint, token):
        async with local_lock(self, blueprint.name), lock_file(self, blueprint):
            await slowly(token)
            await super().set(blueprint, token)


class WrittenInPlace(FileStorage):
    """Has half a token in the file while it writes; who reads looks again, in vain."""

    async def set(self, blueprint, token):
        text = json.dumps(token)
        async with local_lock(self, blueprint.name):
            path_of(self, blueprint).write_text(text[: len(text) // 2])
            await slowly(token)
            await super().set(blueprint, token)

    async def get(self, blueprint):
        for _ in range(30):
            with suppress(StorageError):
                return await super().get(blueprint)
            await asyncio.sleep(0.01)
        return await super().get(blueprint)


class LostUpdates(FileStorage):
    """Compares and writes in two steps, with nobody but its own process held off."""

    replace = BaseStorage.replace

    async def set(self, blueprint, token):
        await asyncio.sleep(0.05)
        await super().set(blueprint, token)


class OwnCache(FileStorage):
    """Remembers what it has read, whoever changes it meanwhile."""

    def __init__(self, filepath):
        super().__init__(filepath)
        self.known = {}

    async def get(self, blueprint):
        if blueprint.name not in self.known:
            self.known[blueprint.name] = await super().get(blueprint)
        return self.known[blueprint.name]

    async def reread(self, blueprint):
        return await super().get(blueprint)

    async def set(self, blueprint, token):
        self.known.pop(blueprint.name, None)
        await super().set(blueprint, token)

    async def delete(self, blueprint):
        self.known.pop(blueprint.name, None)
        await super().delete(blueprint)

    async def replace(self, blueprint, old, new):
        self.known.pop(blueprint.name, None)
        return await super().replace(blueprint, old, new)


class EmptyStart(FileStorage):
    """Begins with nothing, whatever is there."""

    def __init__(self, filepath):
        super().__init__(filepath)
        for path in Path(filepath).parent.glob("*.json"):
            path.unlink()


class OldStart(FileStorage):
    """Begins with what was there once, though it has been deleted."""

    def __init__(self, filepath):
        super().__init__(filepath)
        for path in Path(filepath).parent.glob("*.json.old"):
            if not path.with_suffix("").exists():
                path.with_suffix("").write_bytes(path.read_bytes())

    async def set(self, blueprint, token):
        await super().set(blueprint, token)
        path_of(self, blueprint, ".old").write_text(json.dumps(token))


def opened(kind, folder):
    """Return one of these storages."""
    return globals()[kind](f"{folder}/{{bp.name}}.json")


@asynccontextmanager
async def lock_file(storage, blueprint, *, wait=True):
    """Hold a file, or the name of one: it outlives a holder that is killed."""
    lock = path_of(storage, blueprint, ".lock")
    while not made(lock):
        if not wait:
            raise StorageError("somebody else refreshes")
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        os.unlink(lock)


def made(path):
    """Make a file; say whether there was none."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def path_of(storage, blueprint, ending=""):
    """Return where a token is, or something beside it."""
    return Path(storage.filepath.format(bp=blueprint) + ending)


async def slowly(token):
    """Take the longer the longer a token is."""
    await asyncio.sleep(len(json.dumps(token)) / 10_000)
