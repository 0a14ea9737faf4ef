"""Tokens in files."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import random
import re
import string
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from ...errors import StorageError, UserRequiredError
from ...oauth.token import Token
from . import disk
from .base import (
    NOBODY,
    BaseStorage,
    Owner,
    account_of,
    local_lock,
)
from .caller import in_caller
from .users import chosen, key_of
from .waiting import finished, until

T = TypeVar("T")

#: Seconds that others may take to write, before somebody who waits gives up.
WRITE_DEADLINE = 10
#: Seconds, at most, from one look at the lock of writers to the next. Ever longer ones
#: would starve a process beside one that has many writers in line.
_PAUSE = 0.01
_PLAIN = re.compile(r"[0-9a-z][0-9a-z_-]{0,63}", re.ASCII)
#: Names that Windows keeps for devices, whatever their ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.ASCII)
#: What none of our names holds, so that it tells two of them apart.
_BOUNDARY = re.compile(r"[^0-9a-z_~-]", re.ASCII)


class FileStorage(BaseStorage):
    """Keeps each token as a file of JSON, readable by its owner only.

    A file is written beside its place and moved there when it is whole, off the event
    loop. Processes that share files never see half of one, and refresh a token once:
    lock files, in a folder ``.locks`` beside the tokens, hold them off each other.

    Args:
        filepath: Where; ``{bp.name}`` stands for the blueprint's name and
            ``{user_id}`` for the user's id, both as names that cannot leave their
            folder. Without ``{bp.name}`` a path serves one blueprint only.
        user: Whose token: a user object, a proxy, or a function or coroutine function
            that returns one.
        user_id: The same as an id; it wins over `user`.

    Raises:
        ValueError: `user` or `user_id` is given, and no ``{user_id}`` in the path, or
            the path has other fields, or nothing that tells the two fields apart.
    """

    def __init__(
        self, filepath: str | os.PathLike[str], user: Any = None, user_id: Any = None
    ) -> None:
        self.filepath = os.fspath(filepath)
        self.user = user
        self.user_id = user_id
        fields = _fields(self.filepath)
        if (user is not None or user_id is not None) and "user_id" not in fields:
            raise ValueError("tokens of users need a file each: put {user_id} in it")
        self._serves_many = "bp.name" in fields
        self._has_users = "user_id" in fields
        self._served: str | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.filepath}>"

    async def get(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> Token | None:
        """Return the token in the file, None if there is no file.

        Raises:
            StorageError: It cannot be read, or holds no token.
            UserRequiredError: No user is known.
        """
        path = await self._path(blueprint, user, user_id)
        return await _in_thread(path, partial(disk.read, path))

    async def set(
        self,
        blueprint: Owner,
        token: Mapping[str, Any],
        *,
        user: Any = None,
        user_id: Any = None,
    ) -> None:
        """Write the file anew, or leave it as it was.

        Raises:
            StorageError: It cannot be written.
            UserRequiredError: No user is known.
        """
        token = Token(token)  # masks itself, should a traceback show this frame
        token = token.copy()
        path = await self._path(blueprint, user, user_id)
        await self._write(disk.write, path, token)

    async def delete(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> None:
        """Delete the file; fine if there is none.

        Raises:
            StorageError: It cannot be deleted.
            UserRequiredError: No user is known.
        """
        path = await self._path(blueprint, user, user_id)
        await self._write(disk.delete, path)

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        """Write `new` if the file still holds `old`; None deletes."""
        # They mask themselves, should a traceback show this frame.
        old, new = Token(old), None if new is None else Token(new)
        new = None if new is None else new.copy()
        path = await self._path(blueprint, **who)
        return await self._write(disk.replace, path, old, new)

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        """Hold off every other refresh of this account, in all processes.

        Raises:
            StorageError: The lock file cannot be made.
        """
        account = await account_of(self, blueprint, **who)
        path = await self._path(
            blueprint, user_id=NOBODY if account is None else account
        )
        # One of each process is enough to ask for the file.
        async with local_lock(self, blueprint.name, account):
            lock = await _in_thread(path, partial(disk.lock_of, path))
            try:
                await until(partial(_in_thread, path, partial(_acquire, lock)))
                yield
            finally:
                lock.release()

    async def account(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        """Return whose token it is, None for nobody."""
        user, user_id = await chosen(self.user, self.user_id, user, user_id)
        if user_id is None:
            user_id = await in_caller(key_of, user)
        if user_id is None or user_id is NOBODY:
            return None
        if not self._has_users:
            raise TypeError("this FileStorage keeps no tokens for users: {user_id}")
        if user_id == "":
            raise ValueError("'' is no user id: pass None for nobody")
        return str(user_id)

    def named(self, account: str | None) -> dict[str, Any]:
        """Return how to name an account to the other methods."""
        if not self._has_users:
            return {}
        return {"user_id": NOBODY if account is None else account}

    async def _path(
        self, blueprint: Owner, user: Any = None, user_id: Any = None
    ) -> Path:
        account = await self.account(blueprint, user=user, user_id=user_id)
        if account is None and self._has_users and user_id is not NOBODY:
            raise UserRequiredError("no token file without a user: nobody is logged in")
        if not self._serves_many:
            self._served = self._served or blueprint.name
            if self._served != blueprint.name:
                raise StorageError(
                    f"{self.filepath} holds the token of {self._served!r}: to serve "
                    f"{blueprint.name!r} as well, put {{bp.name}} into the path"
                )
        # Nobody's name is none that `_file_name` returns.
        user_name = "~" if account is None else _file_name(account)
        bp = SimpleNamespace(name=_file_name(blueprint.name))
        return Path(self.filepath.format(bp=bp, user_id=user_name))

    async def _write(self, work: Callable[..., T], path: Path, *args: Any) -> T:
        """Do something while nobody else writes in the folder.

        Whoever waits takes no thread: readers need them, and so does the application.
        """
        now = asyncio.get_running_loop().time
        end = now() + WRITE_DEADLINE
        with suppress(TimeoutError):
            async with _turn(local_lock(self, "writing", path.parent), end):
                while now() < end:
                    with suppress(disk.Busy):
                        return await _in_thread(path, partial(work, path, *args))
                    await asyncio.sleep(_PAUSE * random.uniform(0.5, 1))
        raise StorageError(f"others have been writing in {path.parent} for too long")


@asynccontextmanager
async def _turn(lock: asyncio.Lock, end: float) -> AsyncIterator[None]:
    """Hold a lock; wait for it until a time of the event loop's, and no longer."""
    async with asyncio.timeout_at(end):
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()


async def _in_thread(path: Path, work: Callable[[], T]) -> T:
    try:
        return await finished(asyncio.to_thread(work))
    except OSError as error:
        code = errno.errorcode.get(error.errno or 0, "error")
        problem = f"{code}, {error.strerror}"
    raise StorageError(f"the token file {path} cannot be used ({problem})")


def _acquire(lock: FileLock) -> bool:
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    return True


def _fields(path: str) -> set[str]:
    """Return the fields of a path, if two of them can never be taken for one another.

    Raises:
        ValueError: It has other fields, or conversions, or runs two together.
    """
    fields: list[str] = []
    for text, name, spec, conversion in string.Formatter().parse(path):
        if fields and name is not None and not _BOUNDARY.search(text):
            # "a-b" of "c" and "a" of "b-c" would be one file.
            raise ValueError(f"put '/' or '.' between {{{fields[-1]}}} and {{{name}}}")
        if name is not None:
            if name not in ("bp.name", "user_id") or spec or conversion:
                raise ValueError(f"unknown field {{{name}}} in the path")
            fields.append(name)
    return set(fields)


def _file_name(text: str) -> str:
    """Return a name of one path segment that only this text has, on any system."""
    if _PLAIN.fullmatch(text) and not _DEVICES.fullmatch(text):
        return text
    return "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]
