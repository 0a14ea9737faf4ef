"""What a storage that several processes share promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import permutations
from typing import Any, ClassVar

import pytest

from ..processes import ProcessStorage, opened
from .core import ONE, TOKENS, TWO, token_of
from .durable import DurableContract, Reopen


class SharedContract(DurableContract):
    """The promises of a storage that several processes share.

    Every promise that is inherited is held by processes that take turns: what one of
    them was asked to set, the next one is asked to get. A subclass gives no
    ``storage``, but says how a process opens one, and gives a fixture ``place`` of
    keyword arguments that mean an empty place for each test::

        # stores.py
        @asynccontextmanager
        async def open_store(url):
            engine = create_async_engine(url)
            yield SQLAlchemyStorage(OAuth, engine)
            await engine.dispose()

        # test_stores.py
        class TestStore(SharedContract):
            opens = "stores:open_store"

            @pytest.fixture
            def place(self, empty_database):
                return {"url": empty_database}

    Attributes:
        opens: Module and name of a function that returns the storage, an awaitable of
            it, or an asynchronous context manager; new processes must find it.
        processes: How many processes there are.
        lease: Seconds for which a process that was killed may keep the refresh lock.
            One test waits for them: open the storage with a short lease if it can.
        patience: Seconds after which a promise that is not kept is taken for broken.
    """

    opens: ClassVar[str]
    processes: ClassVar[int] = 2
    lease: ClassVar[float] = 0
    patience: ClassVar[float] = 30

    @pytest.fixture
    def storages(self, place: Mapping[str, Any]) -> Iterator[list[ProcessStorage]]:
        """Give one storage for each process."""
        with opened(self.opens, place, self.processes) as storages:
            yield storages

    @pytest.fixture
    def storage(self, storages: Sequence[ProcessStorage]) -> ProcessStorage:
        """Give the storage of them all, who take turns."""
        return ProcessStorage.of(storages)

    @pytest.fixture
    def reopen(self, place: Mapping[str, Any]) -> Iterator[Reopen]:
        """Give a coroutine function that lets the processes open other storages."""
        with ExitStack() as stack:

            async def reopen() -> ProcessStorage:
                again = opened(self.opens, place, self.processes)
                return ProcessStorage.of(stack.enter_context(again))

            yield reopen

    async def test_what_one_does_all_see(
        self, storages: Sequence[ProcessStorage]
    ) -> None:
        """What one process sets, replaces or deletes all others read at once."""
        for writer, reader in permutations(storages, 2):
            first, second = token_of("first"), TOKENS["unicode"]
            await writer.set(ONE, first, **self.who)
            await self._all_read(storages, first)
            await reader.set(ONE, second, **self.who)
            await self._all_read(storages, second)
            assert not await writer.replace(ONE, first, None, **self.who)
            assert await writer.replace(ONE, second, first, **self.who)
            await self._all_read(storages, first)
            await reader.delete(ONE, **self.who)
            await self._all_read(storages, None)
            await writer.set(ONE, second, **self.who)
            await self._all_read(storages, second)
            assert await reader.replace(ONE, second, None, **self.who)
            await self._all_read(storages, None)

    async def test_one_process_of_all_replaces(
        self, storages: Sequence[ProcessStorage]
    ) -> None:
        """Of replaces in all processes at the same time exactly one is told so."""
        for round_ in range(3):
            old = token_of(f"old{round_}")
            await storages[0].set(ONE, old, **self.who)
            new = [token_of(f"new{round_}.{n}") for n in range(10 * len(storages))]
            won = await asyncio.gather(
                *(
                    storages[n % len(storages)].replace(ONE, old, token, **self.who)
                    for n, token in enumerate(new)
                )
            )
            assert won.count(True) == 1, f"{won.count(True)} were told so"
            await self._all_read(storages, new[won.index(True)])

    async def test_every_process_gets_the_refresh_lock(
        self, storages: Sequence[ProcessStorage]
    ) -> None:
        """One task of all processes holds the refresh lock; each one does in time."""
        inside: list[int] = []
        entered = 0

        async def refresh(number: int, storage: ProcessStorage) -> None:
            nonlocal entered
            async with storage.refresh_lock(ONE, **self.who):
                inside.append(number)
                await storage.reread(ONE, **self.who)
                assert inside == [number], "another process holds it, too"
                inside.remove(number)
                entered += 1

        async with asyncio.timeout(2 * self.patience), asyncio.TaskGroup() as group:
            for number in range(20 * len(storages)):
                storage = storages[number % len(storages)]
                group.create_task(refresh(number, storage))
        assert entered == 20 * len(storages)

    async def test_a_holder_that_is_killed(
        self, storages: Sequence[ProcessStorage]
    ) -> None:
        """Whoever is killed while it refreshes holds up the others for the lease only.

        They may have waited already, or come later, and find the token as it was.
        """
        victim, *others = storages
        await victim.set(ONE, token_of("old"), **self.who)

        async def refresh(storage: ProcessStorage) -> None:
            async with storage.refresh_lock(ONE, **self.who):
                assert await storage.reread(ONE, **self.who) == token_of("old")

        async with asyncio.timeout(self.lease + self.patience):
            async with asyncio.TaskGroup() as group:
                with pytest.raises(ConnectionError):
                    async with victim.refresh_lock(ONE, **self.who):
                        for storage in others:
                            group.create_task(refresh(storage))
                            await storage.get(ONE, **self.who)  # the task waits now
                        victim.kill()
                for storage in others:
                    async with storage.refresh_lock(TWO, **self.who):
                        group.create_task(refresh(storage))
        assert await others[0].replace(ONE, token_of("old"), None, **self.who)

    async def test_a_writer_that_is_killed(
        self, storages: Sequence[ProcessStorage]
    ) -> None:
        """Whoever is killed while it sets tokens leaves a whole one, and no lock."""
        victim, *others = storages
        tokens = [token_of(f"t{n}", more="x" * 2000) for n in range(50)]
        await victim.set(ONE, tokens[0], **self.who)
        sets = [
            asyncio.ensure_future(victim.set(ONE, token, **self.who))
            for token in tokens
        ]
        await asyncio.wait(sets, return_when=asyncio.FIRST_COMPLETED)
        victim.kill()
        ends = await asyncio.gather(*sets, return_exceptions=True)
        assert all(end is None or isinstance(end, ConnectionError) for end in ends)
        new = token_of("new")
        async with asyncio.timeout(self.patience):
            assert await others[0].reread(ONE, **self.who) in tokens
            for storage in others:
                await storage.set(ONE, new, **self.who)
                # A server may still carry out what the victim has asked for.
                while (found := await storage.reread(ONE, **self.who)) != new:
                    assert found in tokens
                    await storage.set(ONE, new, **self.who)

    async def _all_read(
        self, storages: Sequence[ProcessStorage], token: object
    ) -> None:
        for number, storage in enumerate(storages):
            # Twice: what the first one has put into a cache the second one finds.
            for read in (storage.get, storage.get, storage.reread):
                got = await read(ONE, **self.who)
                assert got == token, f"process {number} sees another token"
