"""One token in one file: whole at any moment, whatever process dies in the middle."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ...errors import StorageError
from ...oauth.token import Token

#: The folder of the lock files, beside the tokens.
LOCKS = ".locks"
#: The lock of those who write, and how the names of those who refresh end. A token
#: file may have any name: with the ending no name is that of the lock of writers.
_WRITING, _REFRESHING = "writing", ".refreshing"


class Busy(Exception):
    """Somebody else writes in the folder."""


def write(path: Path, token: Token) -> None:
    """Put a token into a file, or leave it as it was."""
    with _writing(path.parent):
        _put(path, token)


def delete(path: Path) -> None:
    """Delete a file, and what killed processes may have left of it."""
    if path.parent.exists():
        with _writing(path.parent):
            _drop(path)


def replace(path: Path, old: Token, new: Token | None) -> bool:
    """Put a token in place of another one, None deletes; say whether it was there."""
    if not path.exists():
        return False
    with _writing(path.parent):
        if read(path) != old:
            return False
        if new is None:
            _drop(path)
        else:
            _put(path, new)
        return True


def read(path: Path) -> Token | None:
    """Return the token in a file, None if there is no file."""
    _refuse_link(path.parent)
    try:
        # A link may point to a file that somebody else can write or read.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        token = _parsed(file.read())
    if token is None:
        raise StorageError(f"{path} holds no token: delete it, or bring a copy back")
    return token


def _parsed(data: bytes) -> Token | None:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return Token(found) if isinstance(found, dict) else None


def _put(path: Path, token: Token) -> None:
    folder = path.parent
    _refuse_link(path)
    beside = folder / f"{_beside(path)}{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(beside, flags, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            # No variable holds the text: a traceback would show the token in it.
            file.write(json.dumps(token).encode())
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _beside(path: Path) -> str:
    """Return how the names of a file's drafts begin."""
    return f".{path.name}~draft-"


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, for nobody else to enter."""
    if folder.exists():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _sync_folder(folder.parent)


def _refuse_link(place: Path) -> None:
    if place.is_symlink():
        raise StorageError(f"{place} is a link, and tokens are kept behind none")


def _sync_folder(folder: Path) -> None:
    """Make what happened in a folder survive a power cut, where that can be had."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    with suppress(OSError):  # it has happened, and not every file system can do this
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _drop(path: Path) -> None:
    folder = path.parent
    path.unlink(missing_ok=True)
    # A process that was killed may have left a draft, with a token in it.
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(_beside(path)):
            Path(entry.path).unlink(missing_ok=True)
    _sync_folder(folder)


def lock_of(path: Path) -> FileLock:
    """Return the lock of those who refresh the token in a file.

    Between processes, and it ends with its holder, however that ends.
    """
    return _lock(path.parent, path.name + _REFRESHING)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Hold off all others who write in a folder, or compare and then write.

    Raises:
        Busy: One of them is at it. Nobody waits here: that would take a thread.
    """
    _refuse_link(folder)
    lock = _lock(folder, _WRITING)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Busy from None
    try:
        yield
    finally:
        lock.release()


def _lock(folder: Path, name: str) -> FileLock:
    _make_folder(folder / LOCKS)
    return FileLock(folder / LOCKS / name, mode=0o600, thread_local=False)
