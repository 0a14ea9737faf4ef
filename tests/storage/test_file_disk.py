"""Files as they are on the disk: whose, and whole whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from limited import listed
from secrecy import assert_discreet

import quart_dance
from quart_dance.consumer.storage.file import FileStorage
from quart_dance.errors import StorageError

OWNER = SimpleNamespace(name="dev")
TOKEN = {"access_token": "t-1", "scope": ["ü", "✓"], "padding": "p" * 8000}
SCRIPT = Path(__file__).with_name("limited.py")


@pytest.fixture
def umask_0() -> Iterator[None]:
    """Let this process take no right away from what it creates."""
    before = os.umask(0)
    yield
    os.umask(before)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start limited.py."""
    mode, *rest = arguments
    command = [sys.executable, str(SCRIPT), mode, str(folder), *rest]
    env = {**os.environ, "PYTHONPATH": str(Path(quart_dance.__file__).parents[1])}
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def run(folder: Path, *arguments: str) -> Any:
    """Run limited.py and return what it saw."""
    with start(folder, *arguments) as process:
        said, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(said)


def mode(path: Path) -> int:
    """Return the rights of a file or folder."""
    return path.stat().st_mode & 0o777


async def test_rights(tmp_path, umask_0):
    """S1: files are 0600 and new folders 0700, at every depth, even with umask 0."""
    storage = FileStorage(tmp_path / "a" / "b" / "{bp.name}" / "token.json")
    await storage.set(OWNER, TOKEN)
    folder = tmp_path
    for name in ("a", "b", "dev"):
        folder /= name
        assert mode(folder) == 0o700
    assert mode(folder / "token.json") == 0o600


async def test_rights_of_a_file_that_was_there(tmp_path):
    """S1: what was written before, for all to read, is closed with the next token."""
    path = tmp_path / "token.json"
    path.write_text('{"access_token": "by hand"}')
    path.chmod(0o666)
    storage = FileStorage(path)
    assert await storage.get(OWNER) == {"access_token": "by hand"}
    await storage.set(OWNER, TOKEN)
    assert mode(path) == 0o600


async def test_order(tmp_path):
    """S1: the draft is on the disk before it is renamed, and then so is its name."""
    calls: list[str] = []

    def note(frame: Any, event: str, arg: Any) -> None:
        if event == "c_call" and arg.__name__ in ("fsync", "replace", "write"):
            calls.append(arg.__name__)

    def storing() -> None:
        asyncio.run(FileStorage(tmp_path / "token.json").set(OWNER, TOKEN))

    threading.setprofile(note)
    try:
        thread = threading.Thread(target=storing)
        thread.start()
        await asyncio.to_thread(thread.join)
    finally:
        threading.setprofile(None)
    assert calls[-4:] == ["write", "fsync", "replace", "fsync"]


@pytest.mark.parametrize(
    ("action", "values"),
    [
        ("set", {"old", "new"}),
        ("replace", {"old", "new"}),
        ("delete", {"old", None}),
    ],
)
def test_killed(tmp_path, action, values):
    """S1: killed before or after any system call, it leaves the old token or the new.

    What a killed process left beside it is for its owner only, and the next log-out
    removes it.
    """
    seen = run(tmp_path, "kill", action)
    assert len(seen) >= 10
    assert {token for token, _, _ in seen} == values
    for _, modes, left in seen:
        assert set(modes) <= {0o600}
        assert left == []


def test_disk_full(tmp_path):
    """S2: without space the error is typed, and the old file is as it was."""
    said, files = run(tmp_path, "full")
    assert said == "the token file tokens/dev.json cannot be used (EFBIG, " + (
        "File too large)"
    )
    assert files == ["dev.json"]
    stored = json.loads((tmp_path / "tokens" / "dev.json").read_text())
    assert stored["access_token"] == "old"


def test_read_only(tmp_path):
    """S2: where nothing may be written the error is typed, and the old file stays."""
    said, files = run(tmp_path, "read-only")
    assert said.startswith("the token file tokens/dev.json cannot be used (EACCES")
    assert files == ["dev.json"]
    stored = json.loads((tmp_path / "tokens" / "dev.json").read_text())
    assert stored["access_token"] == "old"


async def test_link(tmp_path):
    """S2: a link in place of the file is neither read nor written through."""
    elsewhere = tmp_path / "elsewhere.json"
    elsewhere.write_text('{"access_token": "of somebody else"}')
    path = tmp_path / "token.json"
    path.symlink_to(elsewhere)
    storage = FileStorage(path)
    with pytest.raises(StorageError, match="ELOOP"):
        await storage.get(OWNER)
    with pytest.raises(StorageError, match=r"token\.json is a link"):
        await storage.set(OWNER, TOKEN)
    await storage.delete(OWNER)
    assert listed(tmp_path) == ["elsewhere.json"]
    assert elsewhere.read_text() == '{"access_token": "of somebody else"}'


async def test_linked_folder(tmp_path):
    """S2: a link in place of the folder is not followed by anything."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "dev.json").write_text('{"access_token": "of somebody else"}')
    (tmp_path / "tokens").symlink_to(other)
    storage = FileStorage(tmp_path / "tokens" / "{bp.name}.json")
    calls = [storage.get(OWNER), storage.set(OWNER, TOKEN), storage.delete(OWNER)]
    calls.append(storage.replace(OWNER, {"access_token": "of somebody else"}, None))
    for call in calls:
        with pytest.raises(StorageError, match="tokens is a link"):
            await call
    assert (other / "dev.json").read_text() == '{"access_token": "of somebody else"}'


async def test_hard_link(tmp_path):
    """S2: another name of the old file never comes to show the new token."""
    path, other = tmp_path / "token.json", tmp_path / "other.json"
    other.write_text('{"access_token": "old"}')
    other.chmod(0o666)
    os.link(other, path)
    await FileStorage(path).set(OWNER, TOKEN)
    assert other.read_text() == '{"access_token": "old"}'
    assert (mode(path), path.stat().st_nlink) == (0o600, 1)


SECRET = "Sesame0penSesame0pen"
SHUT = {"access_token": SECRET, "more": {"refresh_token": f"{SECRET}-r"}}


@pytest.mark.parametrize(
    ("name", "content", "token"),
    [
        ("folder", None, SHUT),
        ("link", None, SHUT),
        ("half.json", json.dumps(SHUT)[:-9], SHUT),
        ("list.json", json.dumps([SHUT]), SHUT),
        ("zero\0", None, SHUT),
        ("odd.json", json.dumps(SHUT), {**SHUT, "more": object()}),
    ],
    ids=["folder", "link", "half", "list", "zero", "odd"],
)
async def test_secrets(tmp_path, name, content, token):
    """L2: no frame of a `set`, `replace` or `get` that fails shows a token."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    if content is not None:
        (tmp_path / name).write_text(content)
    storage = FileStorage(tmp_path / name)
    failed = 0
    for call in (
        lambda: storage.get(OWNER),
        lambda: storage.replace(OWNER, SHUT, token),
        lambda: storage.replace(OWNER, token, None),
        lambda: storage.set(OWNER, token),
    ):
        try:
            await call()
        except Exception as error:
            failed += 1
            assert_discreet(error, SECRET)
    assert failed >= 1


async def test_two_processes(tmp_path):
    """S4: two processes that write one file never show half of a token."""
    storage = FileStorage(tmp_path / "tokens" / "{user_id}.json")
    with start(tmp_path, "write", "one") as one, start(tmp_path, "write", "two") as two:
        seen = set()
        while one.poll() is None or two.poll() is None:
            token = await storage.get(OWNER, user_id="both")
            seen.add(token and len(token["padding"]))
    assert (one.returncode, two.returncode) == (0, 0)
    assert seen <= {None, 5000}
    for name in ("one", "two"):
        token = await storage.get(OWNER, user_id=name)
        assert token is not None and token["access_token"] == f"{name}-49"
