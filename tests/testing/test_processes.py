"""What `SharedContract` asks of processes is done there, and comes back."""

from __future__ import annotations

import asyncio

import pytest
from odd import ERRORS, VaultError, odd

from quart_dance.testing.contract.core import ONE, TWO, token_of
from quart_dance.testing.processes import ProcessStorage


@pytest.fixture
def storage():
    """Give a storage in another process."""
    with odd() as (storage,):
        yield storage


@pytest.mark.parametrize(
    ("number", "kind", "text"), [(n, *e[1:]) for n, e in enumerate(ERRORS)]
)
async def test_an_error_comes_back_typed(storage, number, kind, text):
    """An error is of the same type here, or of the nearest known, and says where."""
    with pytest.raises(kind) as caught:
        await storage.get(ONE, user_id=number)
    assert type(caught.value) is kind
    assert str(caught.value).startswith(text)
    (note,) = caught.value.__notes__
    assert note.startswith("In another process:\n") and "in get\n" in note


async def test_what_cannot_be_sent_is_an_error(storage):
    """What cannot be pickled, here or there, raises, and the process goes on."""
    with pytest.raises(Exception, match=r"pickle|local object"):
        await storage.get(ONE, user_id="lambda")
    with pytest.raises(Exception, match=r"pickle|local object"):
        await storage.set(ONE, token_of("x", what=lambda: None))
    await storage.set(ONE, token_of("x"))
    assert await storage.get(ONE) == token_of("x")


@pytest.mark.parametrize(
    ("way", "why"),
    [("die", "it has ended; exit status 3"), ("unreadable", "not understood: .*")],
)
async def test_a_process_that_dies(storage, way, why):
    """All calls of a process that dies say so, and so do later ones."""
    hanging = [asyncio.create_task(storage.get(ONE, user_id="hang")) for _ in range(2)]
    await asyncio.sleep(0)
    assert await storage.account(ONE) == "it hangs"
    with pytest.raises(ConnectionError, match=why):
        await storage.get(ONE, user_id=way)
    ends = await asyncio.gather(*hanging, return_exceptions=True)
    assert [type(end) for end in ends] == [ConnectionResetError] * 2
    for call in (storage.can_save, lambda: storage.named("x")):
        with pytest.raises(ConnectionError, match=why):
            call()
    with pytest.raises(ConnectionError, match=why):
        async with storage.refresh_lock(ONE):
            pytest.fail("nobody holds it")
    storage.kill()  # else the end would say so, too


async def test_cancelling_reaches_the_process(storage):
    """A call that is cancelled has been cancelled in the process when it ends here."""
    task = asyncio.create_task(storage.get(ONE, user_id="hang"))
    await asyncio.sleep(0)
    assert await storage.account(ONE) == "it hangs"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await storage.account(ONE) == "it was cancelled"


@pytest.mark.parametrize("waits", [True, False])
async def test_cancelling_reaches_the_lock(storage, waits):
    """So has one that waits for the refresh lock, or holds it."""
    who = {"user_id": "hang"} if waits else {}
    held = asyncio.Event()

    async def hold():
        async with storage.refresh_lock(ONE, **who):
            held.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    if not waits:
        await held.wait()
    await asyncio.sleep(0)
    assert await storage.account(ONE) == ("it hangs" if waits else "nothing")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await storage.account(ONE) == "left with CancelledError"


async def test_the_lock_hears_how_it_is_left(storage):
    """What the body of the refresh lock raises is raised in the process."""
    async with storage.refresh_lock(ONE):
        pass
    assert await storage.account(ONE) == "left"
    with pytest.raises(VaultError, match="ours is shut"):
        async with storage.refresh_lock(ONE):
            raise VaultError("ours", "k")
    assert await storage.account(ONE) == "left with ValueError"


def test_any_loop_and_none():
    """A storage works in one event loop after the other, and where there is none."""
    with odd(2) as storages:
        storage = ProcessStorage.of(storages)
        for name in ("first", "second"):
            asyncio.run(storage.set(TWO, token_of(name)))
        got = [asyncio.run(storage.get(TWO)) for _ in storages]
        assert got == [token_of("first"), token_of("second")]  # they take turns
        assert storage.can_save() is True and storage.named("x") == {}
