"""What a token storage is, and the two that need nothing."""

from __future__ import annotations

import asyncio
import inspect
import logging
import traceback
from abc import ABC, abstractmethod
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Iterator,
    Mapping,
)
from contextlib import asynccontextmanager
from contextvars import ContextVar
from enum import Enum
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from ...errors import OAuthError, StorageError, UserRequiredError
from ...oauth.oauth2 import clean
from ...oauth.token import PUBLIC, Token
from .waiting import is_cancelled

T = TypeVar("T")
_logger = logging.getLogger(__name__)


class Nobody(Enum):
    """The account of no user, asked for by name."""

    NOBODY = "nobody"


NOBODY = Nobody.NOBODY

#: Of each event loop, the locks that somebody holds or waits for.
_locks: WeakKeyDictionary[
    asyncio.AbstractEventLoop, WeakValueDictionary[object, asyncio.Lock]
] = WeakKeyDictionary()
#: The turns that whoever runs has already; see `turn`.
_turns: ContextVar[frozenset[asyncio.Lock]] = ContextVar(
    "quart_dance_turns", default=frozenset()
)


class Owner(Protocol):
    """The blueprint whose token it is: its name files the token."""

    name: str


class BaseStorage(ABC):
    """Knows where the tokens of a blueprint are kept.

    A storage needs three coroutines, `get`, `set` and `delete`. The other methods
    have defaults that fit a storage of one shared token. A storage that keeps tokens
    for users, or for visitors, overrides `account`: without it all wait for each
    other. One that several processes share overrides `refresh_lock` and `replace`.

    `user` and `user_id` reach `get`, `set` and `delete` only where somebody named an
    account explicitly (`blueprint.session_for`), so a storage without accounts need
    not accept them. `user_id=NOBODY` names the account of no user.
    """

    @abstractmethod
    async def get(self, blueprint: Owner) -> Token | None:
        """Return the token, or None; any dict may be returned."""

    @abstractmethod
    async def set(self, blueprint: Owner, token: Mapping[str, Any]) -> None:
        """Store a token in place of the one that is there."""

    @abstractmethod
    async def delete(self, blueprint: Owner) -> None:
        """Forget the token; fine if there is none."""

    async def account(
        self, blueprint: Owner, *, user: Any = None, user_id: Any = None
    ) -> str | None:
        """Return whose token `get` would return, None for nobody in particular.

        Raises:
            TypeError: A user is named, and this storage keeps no tokens for users.
        """
        if user is not None or user_id not in (None, NOBODY):
            raise TypeError(f"{type(self).__name__} keeps no tokens for users")
        return None

    def named(self, account: str | None) -> dict[str, Any]:
        """Return how to name an account, as `account` returns it, to `get` and others.

        A refresh keeps to the account that it began with, whoever is logged in when
        it ends. Nobody, None, is named by ``user_id=NOBODY``. The default names none:
        the account is asked for again, and a refresh fails if it is another by then.
        """
        return {}

    @asynccontextmanager
    async def refresh_lock(self, blueprint: Owner, **who: Any) -> AsyncIterator[None]:
        """Hold off every other refresh of this account, in this event loop."""
        account = await account_of(self, blueprint, **who)
        async with local_lock(self, blueprint.name, account):
            yield

    async def reread(self, blueprint: Owner, **who: Any) -> Token | None:
        """Return the token as `get` does, but past any cache."""
        return await self.get(blueprint, **who)

    async def replace(
        self,
        blueprint: Owner,
        old: Mapping[str, Any],
        new: Mapping[str, Any] | None,
        **who: Any,
    ) -> bool:
        """Store `new` if `old` is still what is stored; `new=None` deletes.

        One at a time does, in this process.

        Returns:
            Whether it was.
        """
        async with turn(self, blueprint, **who):
            if await self.reread(blueprint, **who) != old:
                return False
            if new is None:
                await self.delete(blueprint, **who)
            else:
                await self.set(blueprint, new, **who)
            return True

    def can_save(self) -> bool:
        """Say whether what is set here and now would be kept."""
        return True

    @property
    def _takes_turns(self) -> bool:
        """Whether one write to an account waits for another, in this process."""
        return True

    @property
    def keeps_accounts(self) -> bool:
        """Whether tokens are kept for users, as `account` is overridden to say."""
        return type(self).account is not BaseStorage.account

    @property
    def _holds(self) -> object:
        """What `aclose` closes; of storages that share it one is enough."""
        return self

    async def aclose(self) -> None:  # noqa: B027
        """Close what this storage holds open in the running event loop.

        Sync code does so at the end of the process; it opens again when it is used. A
        storage that wraps another one closes that.
        """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a class whose three methods are not coroutine functions.

        Raises:
            TypeError: One of them is a plain function; it would be called, and its
                result awaited, in the middle of somebody's login.
        """
        super().__init_subclass__(**kwargs)
        for name in ("get", "set", "delete"):
            method = inspect.unwrap(getattr(cls, name))
            if not inspect.iscoroutinefunction(method):
                raise TypeError(
                    f"{cls.__name__}.{name} must be a coroutine function: "
                    f"write `async def {name}(self, blueprint, …)`"
                )


class NullStorage(BaseStorage):
    """Keeps nothing: nobody is ever authorized. For tests."""

    async def get(self, blueprint: Owner) -> Token | None:
        return None

    async def set(self, blueprint: Owner, token: Mapping[str, Any]) -> None:
        return None

    async def delete(self, blueprint: Owner) -> None:
        return None


class MemoryStorage(BaseStorage):
    """Keeps one token a blueprint in memory, shared by everybody. For tests.

    Args:
        token: The token that every blueprint has at the start.
    """

    def __init__(self, token: Mapping[str, Any] | None = None) -> None:
        self._initial = _copy(token)
        self._tokens: dict[str, Token | None] = {}

    async def get(self, blueprint: Owner) -> Token | None:
        return _copy(self._tokens.get(blueprint.name, self._initial))

    async def set(self, blueprint: Owner, token: Mapping[str, Any]) -> None:
        self._tokens[blueprint.name] = _copy(token)

    async def delete(self, blueprint: Owner) -> None:
        self._tokens[blueprint.name] = None


def local_lock(owner: object, *key: object) -> asyncio.Lock:
    """Return the lock of this event loop for something of an object's."""
    locks = _locks.setdefault(asyncio.get_running_loop(), WeakValueDictionary())
    return locks.setdefault((id(owner), *key), asyncio.Lock())


async def account_of(storage: BaseStorage, blueprint: Owner, **who: Any) -> str | None:
    """Return whose token it is; see `saved` for what is raised."""
    return await saved(storage.account(blueprint, **who), named=bool(who))


@asynccontextmanager
async def turn(
    storage: BaseStorage, blueprint: Owner, **who: Any
) -> AsyncIterator[None]:
    """Write to an account one after the other, in this event loop.

    It makes the default `replace` a compare-and-swap; it is never held while a
    provider is asked. A storage's `get` may itself delete a token that is broken, so
    whoever has the turn gets it again at once.
    """
    if not storage._takes_turns:
        yield
        return
    account = await account_of(storage, blueprint, **who)
    lock, mine = local_lock(storage, "turn", blueprint.name, account), _turns.get()
    if lock in mine:
        yield
        return
    async with lock:
        had = _turns.set(mine | {lock})
        try:
            yield
        finally:
            _turns.reset(had)


async def saved(saving: Awaitable[T], *tokens: Token | None, named: bool = False) -> T:
    """Wait for a storage, letting no error through that may hold a token.

    Args:
        saving: What the storage does.
        tokens: The tokens that it knows.
        named: Whether somebody named an account, and should hear what is wrong with
            the name: a TypeError or a ValueError.

    Raises:
        StorageError: The storage failed; the message says how, without a token.
        UserRequiredError: It keeps tokens for users, and nobody is known.
    """
    try:
        return await saving
    except (OAuthError, UserRequiredError):
        raise
    except (Exception, asyncio.CancelledError) as caught:
        if named and isinstance(caught, TypeError | ValueError):
            raise
        # A connection that callers share may be cancelled with one of them.
        if isinstance(caught, asyncio.CancelledError) and is_cancelled():
            raise
        problem = type(caught).__name__ + _said(caught, tokens)
        where = "".join(traceback.format_tb(caught.__traceback__))  # code, no values
    _logger.error("A storage failed: %s\n%s", problem, where)
    # Outside of the handler: a database's error may hold the statement's values.
    raise StorageError(f"the storage failed ({problem})")


def _said(error: BaseException, tokens: tuple[Token | None, ...]) -> str:
    """Return what an error says, nothing if that may be a token."""
    # Without the statement and its values, that SQLAlchemy adds.
    said = str(getattr(error, "orig", None) or error)
    # Databases repeat what they were given, and cut it short: a beginning counts.
    if any(secret[:8] in said for secret in _secrets(tokens)):
        return ""
    return f": {clean(said)}"


def _secrets(value: object) -> Iterator[str]:
    """Return the strings in a token, at any depth, that are long enough to matter."""
    if isinstance(value, str) and len(value) >= 8:
        yield value
    elif isinstance(value, Mapping):
        for key in value.keys() - PUBLIC:
            yield from _secrets(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _secrets(item)


def _copy(token: Mapping[str, Any] | None) -> Token | None:
    return None if token is None else Token(token).copy()
