"""Sync storages, and the ways between them and those with coroutines."""

from __future__ import annotations

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar, cast

from ..consumer.storage import base
from ..consumer.storage.base import NOBODY, Owner
from ..consumer.storage.caller import in_caller
from ..consumer.storage.users import key_of
from ..consumer.storage.waiting import finished
from ..oauth.token import Token
from .bridge import at_once, close, run

T = TypeVar("T")
_METHODS = ("get", "set", "delete")


class BaseStorage(ABC):
    """Knows where the tokens of a blueprint are kept, for sync code.

    A storage needs three methods, `get`, `set` and `delete`. They are called in the
    thread of whoever needs a token. A storage may also have the other methods of the
    async `quart_dance.consumer.storage.BaseStorage`, as plain functions: `account`,
    `named`, `reread`, `replace`, `can_save`, and `refresh_lock`, a context manager.
    Where they are missing, that class's defaults take their place.
    """

    @abstractmethod
    def get(self, blueprint: Owner) -> Any:
        """Return the token, a dict, or None."""

    @abstractmethod
    def set(self, blueprint: Owner, token: Any) -> None:
        """Store a token in place of the one that is there."""

    @abstractmethod
    def delete(self, blueprint: Owner) -> None:
        """Forget the token; fine if there is none."""


class SyncStorage(BaseStorage):
    """An async storage in sync code: in Flask, in Flask-Dance, in a script.

    All async storages of a process share one event loop, in a thread of its own, and
    whoever calls waits. What the storage calls to learn who the user is is called in
    the caller's thread.

    Args:
        async_storage: The storage; its connections belong to that event loop, so that
            nothing else may use them.
        timeout: Seconds that a call may take; after that it is cancelled, and raises
            TimeoutError. The default is as long as the storage itself allows.

    Raises:
        TypeError: It is not an async storage.
    """

    #: Whether `get` waits for anything; without it no event loop is needed.
    waits: bool = True

    def __init__(
        self, async_storage: base.BaseStorage, *, timeout: float | None = None
    ) -> None:
        if not isinstance(async_storage, base.BaseStorage):
            raise TypeError(
                "SyncStorage takes a storage with coroutines, a subclass of "
                "quart_dance.consumer.storage.BaseStorage, not "
                f"{type(async_storage).__name__}"
            )
        self.async_storage = async_storage
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.async_storage!r}>"

    def get(self, blueprint: Owner, **who: Any) -> Token | None:
        """Return the token, or None.

        Raises:
            TimeoutError: It took longer than `timeout`; so do the other methods.
            RuntimeError: This thread runs an event loop; so do the other methods.
        """
        getting = self.async_storage.get(blueprint, **who)
        return self._run(getting) if self.waits else at_once(getting)

    def set(self, blueprint: Owner, token: Mapping[str, Any], **who: Any) -> None:
        """Store a token in place of the one that is there."""
        self._run(self.async_storage.set(blueprint, token, **who))

    def delete(self, blueprint: Owner, **who: Any) -> None:
        """Forget the token; fine if there is none."""
        self._run(self.async_storage.delete(blueprint, **who))

    def account(self, blueprint: Owner, **who: Any) -> str | None:
        """Return whose token `get` would return."""
        return self._run(self.async_storage.account(blueprint, **who))

    @property
    def keeps_accounts(self) -> bool:
        """Whether tokens are kept for users."""
        return self.async_storage.keeps_accounts

    def named(self, account: str) -> dict[str, Any]:
        """Return how to name an account to the other methods."""
        return self.async_storage.named(account)

    def reread(self, blueprint: Owner, **who: Any) -> Token | None:
        """Return the token as `get` does, but past any cache."""
        return self._run(self.async_storage.reread(blueprint, **who))

    def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        """Store `new` if `old` is still what is stored; `new=None` deletes."""
        return self._run(self.async_storage.replace(blueprint, old, new, **who))

    @contextmanager
    def refresh_lock(self, blueprint: Owner, **who: Any) -> Iterator[None]:
        """Hold off every other refresh of this account; however long one waits."""
        lock = self.async_storage.refresh_lock(blueprint, **who)
        run(lock.__aenter__(), self.async_storage)
        try:
            yield
        finally:
            run(lock.__aexit__(None, None, None), self.async_storage)

    def can_save(self) -> bool:
        """Say whether what is set here and now would be kept."""
        return self.async_storage.can_save()

    def close(self) -> None:
        """Close the connections that it holds open; the end of the process does, too.

        It opens them again when it is used.
        """
        close(self.async_storage)

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return run(coroutine, self.async_storage, self.timeout)


class AsyncStorage(base.BaseStorage):
    """A sync storage, such as one written for Flask-Dance, under Quart.

    Its methods are called in a thread, with the ContextVars of whoever calls. Beyond
    `get`, `set` and `delete` it may have any of the methods that
    `quart_dance.flask.BaseStorage` names.

    Args:
        storage: The storage; its methods must bear being called in several threads at
            once, and `refresh_lock` being left in another one than it was entered in.

    Raises:
        TypeError: It lacks one of the three methods, or has coroutines already.
    """

    def __init__(self, storage: Any) -> None:
        for name in _METHODS:
            method = getattr(storage, name, None)
            if not callable(method) or inspect.iscoroutinefunction(method):
                raise TypeError(
                    f"a sync storage has the plain methods {', '.join(_METHODS)}, and "
                    f"{type(storage).__name__} has no such {name}"
                )
        self.storage = storage

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.storage!r}>"

    async def get(self, blueprint: Owner, **who: Any) -> Token | None:
        return cast(Token | None, await self._call(self.storage.get, blueprint, **who))

    async def set(self, blueprint: Owner, token: Mapping[str, Any], **who: Any) -> None:
        # A plain copy: libraries for JSON know dicts, and the caller's may change.
        copy = dict(Token(token).copy())
        await self._call(self.storage.set, blueprint, copy, **who)

    async def delete(self, blueprint: Owner, **who: Any) -> None:
        await self._call(self.storage.delete, blueprint, **who)

    async def account(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        """Return whose token it is, None where the storage does not tell.

        Raises:
            TypeError: A user is named, and the storage keeps no tokens for users.
        """
        who = _named(user, user_id)
        if hasattr(self.storage, "account"):
            account = await self._call(self.storage.account, blueprint, **who)
            return cast(str | None, account)
        if not self.keeps_accounts:
            return await super().account(blueprint, **who)
        key = await in_caller(key_of, user) if user_id is None else user_id
        return None if key is None or key is NOBODY else str(key)

    @property
    def keeps_accounts(self) -> bool:
        """Whether it has an `account`, or takes a `user_id` as Flask-Dance's do."""
        if hasattr(self.storage, "account"):
            return bool(getattr(self.storage, "keeps_accounts", True))
        return "user_id" in inspect.signature(self.storage.get).parameters

    def named(self, account: str) -> dict[str, Any]:
        named = getattr(self.storage, "named", None)
        return dict(named(account)) if named else {}

    async def reread(self, blueprint: Owner, **who: Any) -> Token | None:
        method = self._method("reread") or self.storage.get
        return cast(Token | None, await self._call(method, blueprint, **who))

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        method = self._method("replace")
        if method is None:
            return await super().replace(blueprint, old, new, **who)
        return bool(await self._call(method, blueprint, old, new, **who))

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        if not hasattr(self.storage, "refresh_lock"):
            async with super().refresh_lock(blueprint, **who):
                yield
            return
        lock = await self._call(self.storage.refresh_lock, blueprint, **who)
        await self._call(lock.__enter__)
        try:
            yield
        finally:
            await self._call(lock.__exit__, None, None, None)

    def can_save(self) -> bool:
        can_save = getattr(self.storage, "can_save", None)
        return can_save is None or bool(can_save())

    def _method(self, name: str) -> Callable[..., Any] | None:
        """Return a method of the storage that is neither `get`, `set` nor `delete`.

        What these do in a subclass of `SyncStorage`, such as encrypting, its own other
        methods would go past.
        """
        if _is_changed(self.storage):
            inherited = getattr(SyncStorage, name)
            if getattr(type(self.storage), name) is inherited:
                return None
        return getattr(self.storage, name, None)

    async def _call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await finished(asyncio.to_thread(method, *args, **kwargs))


class CallerStorage(AsyncStorage):
    """A sync storage as our coroutines use it under Flask: in the caller's thread."""

    async def _call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await in_caller(method, *args, **kwargs)


def as_async(storage: Any) -> base.BaseStorage:
    """Return a storage, of either kind, as our coroutines use it.

    Raises:
        TypeError: It is neither.
    """
    if isinstance(storage, base.BaseStorage):
        return storage
    if isinstance(storage, SyncStorage) and storage.timeout is None:
        if not _is_changed(storage):
            return storage.async_storage  # without the detour
    return CallerStorage(storage)


def _is_changed(storage: Any) -> bool:
    """Say whether a subclass of `SyncStorage` does one of the three its own way."""
    return isinstance(storage, SyncStorage) and any(
        getattr(type(storage), name) is not getattr(SyncStorage, name)
        for name in _METHODS
    )


def _named(user: Any, user_id: Any) -> dict[str, Any]:
    named = {"user": user, "user_id": user_id}
    return {name: value for name, value in named.items() if value is not None}
