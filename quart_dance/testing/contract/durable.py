"""What a storage that outlives the process promises."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from ...consumer.storage.base import BaseStorage
from ...errors import OAuthError
from .core import ONE, TOKENS, TWO, StorageContract, token_of

Reopen = Callable[[], Awaitable[BaseStorage]]


class DurableContract(StorageContract):
    """The promises of a storage whose tokens outlive the process.

    A subclass also gives a fixture ``reopen``: a coroutine function that returns
    another storage at the same place, which knows nothing of the first one::

        class TestFileStorage(DurableContract):
            @pytest.fixture
            def storage(self, tmp_path):
                return FileStorage(tmp_path / "{bp.name}.json")

            @pytest.fixture
            def reopen(self, tmp_path):
                async def reopen():
                    return FileStorage(tmp_path / "{bp.name}.json")

                return reopen
    """

    async def test_what_is_set_endures(
        self, storage: BaseStorage, reopen: Reopen
    ) -> None:
        """What was set is there after a restart."""
        await storage.set(ONE, TOKENS["unicode"], **self.who)
        await storage.set(TWO, token_of("old"), **self.who)
        assert await storage.replace(TWO, token_of("old"), token_of("new"), **self.who)
        again = await reopen()
        assert await again.get(ONE, **self.who) == TOKENS["unicode"]
        assert await again.get(TWO, **self.who) == token_of("new")

    async def test_what_is_deleted_stays_away(
        self, storage: BaseStorage, reopen: Reopen
    ) -> None:
        """What was deleted is gone after a restart, too."""
        await storage.set(ONE, token_of("old"), **self.who)
        await storage.delete(ONE, **self.who)
        await storage.set(TWO, token_of("old"), **self.who)
        assert await storage.replace(TWO, token_of("old"), None, **self.who)
        again = await reopen()
        assert await again.get(ONE, **self.who) is None
        assert await again.get(TWO, **self.who) is None

    async def test_a_failed_set_does_no_lasting_harm(
        self, storage: BaseStorage, reopen: Reopen
    ) -> None:
        """After a set that failed the old token endures."""
        await storage.set(ONE, token_of("old"), **self.who)
        with pytest.raises((TypeError, ValueError, OAuthError)):
            await storage.set(ONE, token_of("new", what=object()), **self.who)
        again = await reopen()
        assert await again.get(ONE, **self.who) == token_of("old")
        await again.set(ONE, token_of("new"), **self.who)
        assert await again.get(ONE, **self.who) == token_of("new")
