"""Sync storages, and those with coroutines as sync ones."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import (
    Coroutine,
    Iterator,
    Mapping,
)
from contextlib import contextmanager
from typing import Any, TypeVar

from ..consumer.storage import base
from ..consumer.storage.base import Owner
from ..oauth.token import Token
from .bridge import at_once, close, run

T = TypeVar("T")
METHODS = ("get", "set", "delete")


class BaseStorage(ABC):
    """Knows where the tokens of a blueprint are kept, for sync code.

    A storage needs three methods, `get`, `set` and `delete`. They are called in the
    thread of whoever needs a token. A storage may also have the other methods of the
    async `quart_dance.consumer.storage.BaseStorage`, as plain functions: `account`,
    `named`, `reread`, `replace`, `can_save`, and `refresh_lock`, a context manager.
    `named` is given None for nobody, and names them by ``user_id=NOBODY``.
    Where they are missing, that class's defaults take their place; but nothing holds
    off another thread between the two steps of the default `replace`, as either may be
    in a transaction of the application's.
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
            RuntimeError: This thread runs an event loop, or what it waited for has
                been cancelled by somebody else, or the process has ended; so do the
                other methods.
        """
        getting = self.async_storage.get(blueprint, **who)
        return self._run(getting) if self.waits else at_once(getting)

    def set(self, blueprint: Owner, token: Mapping[str, Any], **who: Any) -> None:
        """Store a token in place of the one that is there."""
        setting = self.async_storage.set(blueprint, token, **who)
        token = {}  # a traceback may show this frame
        self._run(setting)

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

    def named(self, account: str | None) -> dict[str, Any]:
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


def is_changed(storage: Any) -> bool:
    """Say whether a subclass of `SyncStorage` does one of the three its own way."""
    return isinstance(storage, SyncStorage) and any(
        getattr(type(storage), name) is not getattr(SyncStorage, name)
        for name in METHODS
    )
