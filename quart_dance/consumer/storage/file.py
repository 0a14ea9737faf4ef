"""Tokens in files."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import secrets
import string
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ...errors import StorageError, UserRequiredError
from ...oauth.token import Token
from .base import NOBODY, BaseStorage, Owner
from .users import key_of, resolve

T = TypeVar("T")

_PLAIN = re.compile(r"[0-9a-z][0-9a-z_-]{0,63}", re.ASCII)
#: Names that Windows keeps for devices, whatever their ending.
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.ASCII)


class FileStorage(BaseStorage):
    """Keeps each token as a file of JSON, readable by its owner only.

    A file is written beside its place and moved there when it is whole, off the event
    loop. Files are for one process; several that write one file must take turns.

    Args:
        filepath: Where; ``{bp.name}`` stands for the blueprint's name and
            ``{user_id}`` for the user's id, both as names that cannot leave their
            folder. Without ``{bp.name}`` a path serves one blueprint only.
        user: Whose token: a user object, a proxy, or a function or coroutine function
            that returns one.
        user_id: The same as an id; it wins over `user`.

    Raises:
        ValueError: `user` or `user_id` is given, and no ``{user_id}`` in the path, or
            the path has other fields.
    """

    def __init__(
        self, filepath: str | os.PathLike[str], user: Any = None, user_id: Any = None
    ) -> None:
        self.filepath = os.fspath(filepath)
        self.user = user
        self.user_id = user_id
        fields = {name for _, name, _, _ in string.Formatter().parse(self.filepath)}
        fields.discard(None)
        if unknown := fields - {"bp.name", "user_id"}:
            raise ValueError(f"unknown field {{{min(map(str, unknown))}}} in the path")
        if (user is not None or user_id is not None) and "user_id" not in fields:
            raise ValueError("tokens of users need a file each: put {user_id} in it")
        self._serves_many = "bp.name" in fields
        self._has_users = "user_id" in fields
        self._served: str | None = None
        self._lock = threading.Lock()

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
        return await self._in_thread(_read, path)

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
        path = await self._path(blueprint, user, user_id)
        await self._in_thread(_write, path, Token(token).copy())

    async def delete(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> None:
        """Delete the file; fine if there is none.

        Raises:
            StorageError: It cannot be deleted.
            UserRequiredError: No user is known.
        """
        path = await self._path(blueprint, user, user_id)
        await self._in_thread(_delete, path)

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        """Write `new` if the file still holds `old`; None deletes."""
        path = await self._path(blueprint, **who)
        return await self._in_thread(_replace, path, Token(old), new and Token(new))

    async def account(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        """Return whose token it is, None for nobody."""
        if user is None and user_id is None:
            user_id = await resolve(self.user_id)
            if user_id is None and self.user_id is None:
                user = await resolve(self.user)
        if user_id is None:
            user_id = key_of(user)
        if user_id is None or user_id is NOBODY:
            return None
        if not self._has_users:
            raise TypeError("this FileStorage keeps no tokens for users: {user_id}")
        if user_id == "":
            raise ValueError("'' is no user id: pass None for nobody")
        return str(user_id)

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
        path = self.filepath.replace("{user_id}", user_name)
        return Path(path.replace("{bp.name}", _file_name(blueprint.name)))

    async def _in_thread(self, work: Callable[..., T], *args: Any) -> T:
        def locked() -> T:
            with self._lock:
                return work(*args)

        try:
            return await asyncio.to_thread(locked)
        except OSError as error:
            code = errno.errorcode.get(error.errno or 0, "error")
            problem = f"{code}, {error.strerror}"
        raise StorageError(f"the token file {args[0]} cannot be used ({problem})")


def _file_name(text: str) -> str:
    """Return a name of one path segment that only this text has, on any system."""
    if _PLAIN.fullmatch(text) and not _DEVICES.fullmatch(text):
        return text
    return "~" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def _read(path: Path) -> Token | None:
    try:
        # A link may point to a file that somebody else can write or read.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        data = file.read()
    try:
        token = json.loads(data)
    except ValueError:
        token = None
    if not isinstance(token, dict):
        raise StorageError(f"{path} holds no token: delete it, or bring a copy back")
    return Token(token)


def _write(path: Path, token: Token) -> None:
    data = json.dumps(token).encode()
    folder = path.parent
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _refuse_links(path)
    beside = folder / f".{path.name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(beside, flags, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(folder)


def _refuse_links(path: Path) -> None:
    for place in (path, path.parent):
        if place.is_symlink():
            raise StorageError(f"{place} is a link; tokens are not written through one")


def _sync_folder(folder: Path) -> None:
    """Make a rename or a removal survive a power cut, where a folder can be synced."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delete(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        return
    _sync_folder(path.parent)


def _replace(path: Path, old: Token, new: Token | None) -> bool:
    if _read(path) != old:
        return False
    if new is None:
        _delete(path)
    else:
        _write(path, new)
    return True
