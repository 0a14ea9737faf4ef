"""Sync storages as those with coroutines."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
)
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from contextvars import copy_context
from typing import Any, TypeVar, cast

from ..consumer.storage import base
from ..consumer.storage.base import NOBODY, Owner
from ..consumer.storage.caller import in_caller
from ..consumer.storage.users import key_of
from ..consumer.storage.waiting import finished
from ..oauth.token import Token
from .storages import METHODS, SyncStorage, is_changed

T = TypeVar("T")


class AsyncStorage(base.BaseStorage):
    """A sync storage, such as one written for Flask-Dance, under Quart.

    Its methods are called in a thread, with the ContextVars of whoever calls. Beyond
    `get`, `set` and `delete` it may have any of the methods that
    `quart_dance.flask.BaseStorage` names.

    Args:
        storage: The storage; its methods must bear being called in several threads at
            once. A `refresh_lock` is left in the thread that it was entered in.

    Raises:
        TypeError: It lacks one of the three methods, or has coroutines already.
    """

    def __init__(self, storage: Any) -> None:
        for name in METHODS:
            method = getattr(storage, name, None)
            if not callable(method) or inspect.iscoroutinefunction(method):
                raise TypeError(
                    f"a sync storage has the plain methods {', '.join(METHODS)}, and "
                    f"{type(storage).__name__} has no such {name}"
                )
        self.storage = storage

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.storage!r}>"

    async def get(self, blueprint: Owner, **who: Any) -> Token | None:
        return cast(Token | None, await self._call(self.storage.get, blueprint, **who))

    async def set(self, blueprint: Owner, token: Mapping[str, Any], **who: Any) -> None:
        # A copy, as the caller's may change; masked, as a traceback may show us.
        token = copy = Token(token).copy()

        def save() -> None:
            # Plain: libraries for JSON know dicts.
            self.storage.set(blueprint, dict(copy), **who)

        await self._call(save)

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

    def named(self, account: str | None) -> dict[str, Any]:
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
        async with AsyncExitStack() as stack:
            # Beside its own, which may let all of its process in, as files' locks do.
            # Those of an async storage hold off its tasks, and tell its visitors apart.
            if not isinstance(self.storage, SyncStorage):
                await stack.enter_async_context(super().refresh_lock(blueprint, **who))
            if hasattr(self.storage, "refresh_lock"):
                lock = await self._call(self.storage.refresh_lock, blueprint, **who)
                await stack.enter_async_context(self._held(lock))
            yield

    @asynccontextmanager
    async def _held(self, lock: AbstractContextManager[Any]) -> AsyncIterator[None]:
        """Hold a lock, in a thread of its own: those who wait for one need theirs."""
        entered = []

        def enter() -> None:
            lock.__enter__()
            entered.append(lock)

        def leave() -> None:
            while entered:
                entered.pop().__exit__(None, None, None)

        with self._thread(leave) as call:
            try:
                await call(enter)
                yield
            finally:
                if entered:
                    await call(leave)

    @contextmanager
    def _thread(
        self, last: Callable[[], Any]
    ) -> Iterator[Callable[[Callable[[], Any]], Awaitable[Any]]]:
        """Yield what calls functions, one after the other, in one and the same thread.

        That is not one of those that all share.

        Args:
            last: Is called there when all that was called before is done, even if
                nobody waits for that any more.
        """
        thread = ThreadPoolExecutor(1)
        context, loop = copy_context(), asyncio.get_running_loop()

        def call(function: Callable[[], Any]) -> Awaitable[Any]:
            return finished(loop.run_in_executor(thread, context.run, function))

        try:
            yield call
        finally:
            thread.submit(context.run, last)
            thread.shutdown(wait=False)

    def can_save(self) -> bool:
        can_save = getattr(self.storage, "can_save", None)
        return can_save is None or bool(can_save())

    def _method(self, name: str) -> Callable[..., Any] | None:
        """Return a method of the storage that is neither `get`, `set` nor `delete`.

        What these do in a subclass of `SyncStorage`, such as encrypting, its own other
        methods would go past.
        """
        if is_changed(self.storage):
            inherited = getattr(SyncStorage, name)
            if getattr(type(self.storage), name) is inherited:
                return None
        return getattr(self.storage, name, None)

    async def _call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        return await finished(asyncio.to_thread(method, *args, **kwargs))


class CallerStorage(AsyncStorage):
    """A sync storage as our coroutines use it under Flask: in the caller's thread."""

    @property
    def _takes_turns(self) -> bool:
        """Whether it stays out of the application's own transactions.

        Who waits for a turn there may hold what the one whose turn it is waits for,
        in the database.
        """
        return isinstance(self.storage, SyncStorage)

    @contextmanager
    def _thread(
        self, last: Callable[[], Any]
    ) -> Iterator[Callable[[Callable[[], Any]], Awaitable[Any]]]:
        yield in_caller

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
        if not is_changed(storage):
            return storage.async_storage  # without the detour
    return CallerStorage(storage)


def _named(user: Any, user_id: Any) -> dict[str, Any]:
    named = {"user": user, "user_id": user_id}
    return {name: value for name, value in named.items() if value is not None}
