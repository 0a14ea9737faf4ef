"""Every promise of `SharedContract` catches a storage that breaks it.

The storages of `broken` are files, as those that pass in
tests/processes/test_processes_contract.py, but for one flaw each: only what a flaw
breaks is red, which these tests take for granted.
"""

from __future__ import annotations

from typing import ClassVar

import pytest

from quart_dance.errors import StorageError
from quart_dance.testing.contract import DurableContract, SharedContract

pytestmark = pytest.mark.slow


class Broken(SharedContract):
    """A storage with a flaw.

    Attributes:
        breaks: The tests that must fail, without "test\\_".
    """

    opens = "broken:opened"
    patience = 3
    breaks: ClassVar[set[str]]

    @pytest.fixture
    def place(self, tmp_path):
        """Give an empty folder."""
        kind = type(self).__name__.removeprefix("Test")
        return {"kind": kind, "folder": str(tmp_path)}

    @pytest.fixture(autouse=True)
    def red(self, request):
        """Expect a promise to be broken, by what a storage does and nothing else."""
        if request.function.__name__.removeprefix("test_") in self.breaks:
            how = AssertionError, ExceptionGroup, StorageError, TimeoutError
            request.applymarker(pytest.mark.xfail(raises=how, strict=True))


class TestLocalLock(Broken):
    breaks = {"every_process_gets_the_refresh_lock", "refresh_lock_excludes"}


class TestRefusingLock(Broken):
    breaks = {
        "every_process_gets_the_refresh_lock",
        "a_holder_that_is_killed",
        "refresh_lock_excludes",
    }


class TestLastingLock(Broken):
    breaks = {"a_holder_that_is_killed"}


class TestLastingWriteLock(Broken):
    breaks = {"a_writer_that_is_killed"}


class TestWrittenInPlace(Broken):
    breaks = {"a_writer_that_is_killed"}


class TestLostUpdates(Broken):
    breaks = {"one_process_of_all_replaces", "one_of_many_replaces_wins"}


class TestOwnCache(Broken):
    breaks = {
        "what_one_does_all_see",
        "set_replaces",
        "delete_twice",
        "concurrent_sets",
        "replace_replaces",
        "a_failed_set_does_no_lasting_harm",
    }


class TestEmptyStart(Broken):
    breaks = {"what_is_set_endures", "a_failed_set_does_no_lasting_harm"}


class TestOldStart(Broken):
    breaks = {"what_is_deleted_stays_away"}


@pytest.mark.parametrize("contract", [SharedContract, DurableContract])
def test_every_promise_is_broken_once(contract):
    """There is a broken storage for each promise that processes are there for."""
    promises = {name for name in vars(contract) if name.startswith("test_")}
    broken = {
        f"test_{name}" for kind in Broken.__subclasses__() for name in kind.breaks
    }
    assert promises - broken == set()
