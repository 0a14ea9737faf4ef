"""Writers of files that wait for each other, and what they keep from nobody else."""

from __future__ import annotations

import asyncio
import os
import time
from types import SimpleNamespace

import pytest
from filelock import FileLock

from quart_dance.consumer.storage.file import FileStorage
from quart_dance.errors import StorageError

OWNER = SimpleNamespace(name="dev")
OLD, NEW = {"access_token": "old"}, {"access_token": "new"}


@pytest.fixture
def storage(tmp_path):
    """Return a storage of users in a folder that is there, lock files included."""
    storage = FileStorage(tmp_path / "{user_id}.json")
    asyncio.run(storage.set(OWNER, OLD, user_id="0"))
    return storage


@pytest.fixture
def writer(storage, tmp_path):
    """Return the lock of a writer that has stopped in the middle, held."""
    with FileLock(tmp_path / ".locks" / "writing") as lock:
        yield lock


async def rest() -> None:
    """Let everything go on that can."""
    for _ in range(100):
        await asyncio.sleep(0)


async def test_threads_are_left_to_others(storage, writer):
    """S5: writers that wait take no thread from readers, nor from the application."""
    sets = [
        asyncio.create_task(storage.set(OWNER, NEW, user_id=number))
        for number in range(64)
    ]
    await rest()
    async with asyncio.timeout(5):
        assert await storage.get(OWNER, user_id="0") == OLD
        assert await asyncio.to_thread(lambda: "done") == "done"
    assert not any(task.done() for task in sets)
    writer.release()
    await asyncio.gather(*sets)
    assert await storage.get(OWNER, user_id="63") == NEW


async def test_in_turn(storage, writer):
    """S4: writers of one event loop write in the order in which they came."""
    sets = [
        asyncio.create_task(storage.set(OWNER, {"access_token": name}, user_id="0"))
        for name in "abcdefghij"
    ]
    await rest()
    writer.release()
    await asyncio.gather(*sets)
    assert await storage.get(OWNER, user_id="0") == {"access_token": "j"}


async def test_two_storages_of_one_folder(storage, tmp_path):
    """S4: of two storages over the same files, in one event loop, one swaps."""
    storages = [storage, FileStorage(tmp_path / "{user_id}.json")]
    swaps = [
        asyncio.create_task(one.replace(OWNER, OLD, NEW, user_id="0"))
        for one in storages * 10
    ]
    assert sorted(await asyncio.gather(*swaps)) == [False] * 19 + [True]


class Hasty(asyncio.SelectorEventLoop):
    """An event loop in which time passes ten times as fast."""

    def time(self) -> float:
        return 10 * time.monotonic()


def test_patience(storage, writer):
    """S4: whoever waits gives up after 10 seconds, however many wait as well."""

    async def main() -> None:
        began = asyncio.get_running_loop().time()
        sets = [
            asyncio.create_task(storage.set(OWNER, NEW, user_id="0")) for _ in range(3)
        ]
        done, _ = await asyncio.wait(sets, timeout=19)
        assert asyncio.get_running_loop().time() - began >= 10
        assert len(done) == 3
        for task in sets:
            with pytest.raises(StorageError, match="writing in .* for too long"):
                await task
        assert await storage.get(OWNER, user_id="0") == OLD
        writer.release()
        await storage.set(OWNER, NEW, user_id="0")
        assert await storage.get(OWNER, user_id="0") == NEW

    with asyncio.Runner(loop_factory=Hasty) as runner:
        runner.run(main())


async def test_cancelled_while_waiting(storage, writer):
    """S13: whoever is cancelled while it waits writes nothing, and holds up nobody."""
    first, second, third = (
        asyncio.create_task(storage.set(OWNER, NEW, user_id=number))
        for number in (1, 2, 3)
    )
    await rest()
    for task in (first, second):
        task.cancel()
    await asyncio.wait([first, second])
    assert first.cancelled() and second.cancelled()
    writer.release()
    await third
    found = [await storage.get(OWNER, user_id=number) for number in (1, 2, 3)]
    assert found == [None, None, NEW]


async def test_cancelled_while_writing(storage, tmp_path):
    """S13: whoever is cancelled while it writes has written when it ends."""
    path = tmp_path / "slow.json"
    os.mkfifo(path)
    swap = asyncio.create_task(storage.replace(OWNER, OLD, NEW, user_id="slow"))
    # Returns when somebody reads, who then waits for what is never written.
    pipe = await asyncio.to_thread(os.open, path, os.O_WRONLY)
    swap.cancel()
    await rest()
    assert not swap.done()
    os.write(pipe, b'{"access_token": "old"}')
    os.close(pipe)
    with pytest.raises(asyncio.CancelledError):
        await swap
    assert await storage.get(OWNER, user_id="slow") == NEW
