"""The processes of `SharedContract` end when they must, and not before."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from odd import odd

from quart_dance.errors import StorageError
from quart_dance.testing.contract.core import ONE
from quart_dance.testing.processes import opened

ROOT = Path(__file__).parents[2]


def test_a_death_that_nobody_noticed():
    """A process that has died by itself is an error in the end."""
    with pytest.raises(ConnectionError, match="exit status 3"), odd() as (storage,):
        storage.begin("call", "get", (ONE.name,), {"user_id": "die"})


def test_the_killed_one_is_replaced():
    """A process that was killed is replaced by a new one, the others are kept."""
    with odd(2) as storages:
        victim, other = [process for s in storages for process, _ in s._openings]
        storages[0].kill()
    with odd(2) as storages:
        kept, new = [process for s in storages for process, _ in s._openings]
    assert kept is other and new is not victim
    assert new.alive and not victim.alive


async def test_what_is_left_behind_ends(tmp_path):
    """What a test has not ended is cancelled, and then the storage is closed."""
    with odd(opener="in_context", folder=tmp_path) as (storage,):
        call = storage.begin("call", "hang", (), {})
        assert await storage.account(ONE) == "it hangs"
        assert not (tmp_path / "end").exists()
    assert (tmp_path / "end").read_text() == "it was cancelled"
    assert "cancelled" in str(call.ended.exception())


def test_the_end_fails(tmp_path):
    """A storage that cannot be closed raises in the end, and the others are closed."""
    (tmp_path / "fail").touch()
    with pytest.raises(StorageError, match="it cannot be closed"):
        with odd(opener="in_context", folder=tmp_path):
            with odd(opener="awaited") as (storage,):
                assert storage.can_save()
    with odd(opener="awaited") as (storage,):
        assert storage.can_save()


@pytest.mark.parametrize(
    ("opens", "why"),
    [
        ("no_such_module:open", "No module named 'no_such_module'"),
        (f"{odd.__module__}:no_such_name", "no attribute 'no_such_name'"),
        ("not a name", "invalid format"),
    ],
)
def test_what_cannot_be_imported(opens, why):
    """An `opens` that a process cannot import is named, and why; others still work."""
    with pytest.raises(ImportError, match=why) as caught, opened(opens, {}, 2):
        pytest.fail("it was opened")
    assert f"cannot import opens = {opens!r}" in str(caught.value)
    with odd(2) as storages:
        assert len(storages) == 2


def run(folder, *command):
    """Run Python, strictly, and return when all that holds its output has ended."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "testing")])
    return subprocess.run(
        [sys.executable, "-W", "error", *command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


SCRIPT = """
import asyncio, os, signal
from quart_dance.testing.processes import opened

with opened("quart_dance.consumer.storage:MemoryStorage", {}, 2) as storages:
    print([storage.can_save() for storage in storages])
    how
"""


@pytest.mark.parametrize(
    ("how", "status"), [("pass", 0), ("os.kill(os.getpid(), 9)", -signal.SIGKILL)]
)
def test_no_process_is_left_over(tmp_path, how, status):
    """Processes end with the one that started them, silently, however it ends."""
    done = run(tmp_path, "-u", "-c", SCRIPT.replace("how", how))
    assert (done.returncode, done.stdout) == (status, "[True, True]\n")
    assert done.stderr == ""


#: pytest-asyncio wants to be told, or it warns.
LOOP = "asyncio_default_fixture_loop_scope=function"
MODULE = """
import pytest
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.testing.contract import SharedContract


def open_store(folder):
    return FileStorage(folder / "{bp.name}.json")


class TestStore(SharedContract):
    opens = f"{__name__}:open_store"

    @pytest.fixture
    def place(self, tmp_path):
        return {"folder": tmp_path}
"""


@pytest.mark.parametrize("package", [False, True])
def test_any_test_module(tmp_path, package):
    """A test module may open its storages itself, in a package or outside of one."""
    folder = tmp_path / "checks"
    folder.mkdir()
    (folder / "test_store.py").write_text(MODULE)
    if package:
        (folder / "__init__.py").touch()
    options = "-q -p no:cacheprovider -k what_one_does_all_see".split()
    done = run(tmp_path, "-m", "pytest", *options, "-o", LOOP)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert done.stderr == ""
