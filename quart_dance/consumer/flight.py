"""One refresh: read again, exchange, save; for all who ask for it at the same time."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from ..errors import StorageError, TokenRequestError, TokenTooLargeError
from ..oauth.answer import read_token
from ..oauth.attempt import fingerprint
from ..oauth.oauth2 import refresh_form
from ..oauth.token import Token, is_expired, merge
from .consumer import Consumer, Who
from .http import post_form
from .runtime import Runtime
from .signals import oauth_refreshed, oauth_revoked
from .storage.base import account_of, saved
from .storage.locks import refresh_locked

E = TypeVar("E", bound=BaseException)
_logger = logging.getLogger(__name__)
#: In place of a token: the provider said that there is none any more.
REVOKED = Token()
#: Seconds that reading again may take: what is left of a lease must do for the
#: provider's answer and for the save.
SLACK = 10
#: Seconds in which a new token that could not be saved is tried to be saved again.
SAVING = 5
#: How providers say that a refresh token is dead: RFC 6749, 5.2, and GitHub.
_DEAD = ("invalid_grant", "bad_refresh_token")


def can_refresh(consumer: Consumer, token: Token) -> bool:
    """Say whether a token can be refreshed at all."""
    return bool(token.get("refresh_token") and consumer.auto_refresh_url)


def identity_of(token: Token) -> str:
    """Return what tells a token from all others; no secret."""
    # The access token as well: not every provider rotates refresh tokens.
    return fingerprint(f"{token['access_token']} {token['refresh_token']}")


@dataclass(frozen=True)
class Flight:
    """One refresh, for all who ask for it at the same time.

    Attributes:
        runtime: Of the application.
        consumer: The blueprint.
        account: Whose token it is.
        who: The same, as the storage's methods take it; empty if it cannot be named.
    """

    runtime: Runtime
    consumer: Consumer
    account: str | None
    who: Who

    def _key(self, old: Token) -> object:
        """Return what tells this refresh from all others.

        Who shares one has the same token: so neither do visitors whose tokens are in
        their sessions, nor tenants with a database each.
        """
        return self.consumer, self.account, identity_of(old)

    async def shared(self, old: Token) -> Token:
        """Fly, or wait for those who do already."""
        flights, key = self.runtime.here.flights, self._key(old)
        flight = flights.get(key)
        ours = flight is None
        if flight is None:
            flight = self.runtime.here.spawn(self._fly(old, key))
            flights[key] = flight
            flight.add_done_callback(lambda task: self._land(key, task))
            # If all who wait for it are gone, its error is nobody's business.
            flight.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.wait([flight])  # it goes on if we are cancelled
        if flight.cancelled():  # by a lock that somebody else has cancelled
            name = self.consumer.name
            raise self.consumer.about(
                StorageError(f"the refresh of {name!r} was broken off")
            )
        if (error := flight.exception()) is not None:
            raise _for_one(error, whole=ours)
        outcome: Token = flight.result()
        return outcome

    async def late(self, old: Token) -> Token | None:
        """Save what could not be saved when it came, and return what is then stored.

        That takes no lease: nobody is asked, and it may be ours still, if what keeps
        the leases was down as well.

        Returns:
            None if there is nothing, or nothing of use any more.
        """
        runtime, identity = self.runtime, identity_of(old)
        new: Token | None = runtime.unsaved.get(identity, runtime.clock())
        # While others are on their way, what they bring counts.
        if new is None or self._key(old) in runtime.here.flights or self._is_due(new):
            return None
        replaced = await self.replace(old, new)
        runtime.unsaved.forget(identity)
        if not replaced:
            return await self.load() or REVOKED
        await self._tell(old, new)
        return new

    def _is_due(self, token: Token) -> bool:
        """Say whether a token is to be refreshed, and can be."""
        expired = is_expired(token, self.runtime.clock())
        return expired and can_refresh(self.consumer, token)

    def _land(self, key: object, flight: asyncio.Task[Any] | None) -> None:
        if self.runtime.here.flights.get(key) is flight:
            del self.runtime.here.flights[key]

    async def _fly(self, old: Token, key: object) -> Token:
        """Read again, exchange, save; return the token that is then stored."""
        consumer, clock = self.consumer, asyncio.get_running_loop().time
        storage = consumer.async_storage
        async with refresh_locked(storage, consumer, **self.who):
            began = clock()
            stored = await self.load()
            if stored is None:
                return REVOKED  # logged out meanwhile
            if stored != old:
                if not self._is_due(stored):
                    return stored
                old = stored
            if clock() - began > SLACK:
                raise consumer.about(
                    StorageError(
                        f"reading the token of {consumer.name!r} took too long"
                    )
                )
            new = await self._renewed(old)
            end = min(clock() + SAVING, began + 2 * SLACK)
            if not await self._save(old, new, end):
                # Logged out, or in again, while the provider was asked: that counts.
                return await self.load() or REVOKED
        # A receiver that calls the API, and must refresh, may not wait for this flight.
        self._land(key, asyncio.current_task())
        await self._tell(old, new)
        return new

    async def _tell(self, old: Token, new: Token) -> None:
        """Call the receivers, with the new token or the one that is revoked."""
        name, signal = self.consumer.name, oauth_refreshed if new else oauth_revoked
        with self.runtime.here.notifying():
            try:
                await self.consumer.notify(signal, token=(new or old).copy())
            except Exception:
                _logger.exception("A receiver of a refresh of %r failed", name)

    async def load(self) -> Token | None:
        """Return the account's token, past any cache; see `_check`."""
        token = await self.consumer.load(past_cache=True, **self.who)
        await self._check()
        return token

    async def replace(self, old: Token, new: Token) -> bool:
        """Store a token in place of another one, an empty one deletes; see `_check`."""
        await self._check()
        replaced = self.consumer.async_storage.replace(
            self.consumer, old, new.copy() or None, **self.who
        )
        return await saved(replaced, old, new)

    async def _check(self) -> None:
        """See that a storage that cannot name the account still thinks of it.

        Raises:
            StorageError: It would read and write somebody else's token by now.
        """
        if not await self._is_same():
            raise self.consumer.about(
                StorageError(
                    f"while a token of {self.consumer.name!r} was refreshed somebody "
                    "logged in or out: ask again"
                )
            )

    async def _is_same(self) -> bool:
        storage = self.consumer.async_storage
        return await account_of(storage, self.consumer, **self.who) == self.account

    async def _renewed(self, old: Token) -> Token:
        """Return what the provider gives for a token, or what it gave already."""
        runtime = self.runtime
        new: Token | None = runtime.unsaved.get(identity_of(old), runtime.clock())
        if new is None:
            return await self._exchange(old)
        return await self._exchange(new) if self._is_due(new) else new

    async def _save(self, old: Token, new: Token, end: float) -> bool:
        """Store what the provider has given out, and will not give out again.

        A database that is failing over may be back in a moment; and as long as we have
        the lease nobody else spends the old token.

        Args:
            old: What it takes the place of.
            new: What is stored.
            end: Until when it is tried, by the event loop's clock.
        """
        identity, clock = identity_of(old), asyncio.get_running_loop().time
        runtime, wait = self.runtime, 0.1
        while True:
            try:
                replaced = await self.replace(old, new)
            except TokenTooLargeError:
                raise
            except StorageError:
                runtime.unsaved.put(identity, new, runtime.clock())
                if clock() + wait > end or not await self._is_same():
                    raise
            else:
                runtime.unsaved.forget(identity)
                runtime.refreshed.put(identity, new, runtime.clock())
                return replaced
            await asyncio.sleep(wait)
            wait = min(2 * wait, 1.0)

    async def _exchange(self, old: Token) -> Token:
        if self.runtime.here.ending:
            # Nobody would wait for the answer, and it cannot be had again.
            raise self.consumer.about(
                StorageError("the process ends: nothing is refreshed any more")
            )
        form = refresh_form(
            self.consumer.provider_url("auto_refresh_url"),
            self.consumer.client(),
            refresh_token=old["refresh_token"],
            params=self.consumer.auto_refresh_kwargs,
        )
        try:
            answer = await post_form(self.runtime, self.consumer, form)
            new = read_token(
                answer,
                now=self.runtime.clock(),
                secrets=form.secrets,
                token_types=self.consumer.token_types,
            )
        except TokenRequestError as error:
            if error.error in _DEAD:
                return REVOKED
            self.consumer.about(error)
            raise
        return merge(old, new)


def _for_one(error: E, *, whole: bool) -> E:
    """Return an error to raise in place of one that all who wait would raise.

    Each raises it in a traceback of their own, and may change what they catch.

    Args:
        error: The flight's.
        whole: Say where it was raised as well: for the one whose flight it is. What
            the frames there hold, such as a request, is no business of the others.
    """
    kind = base = cast(Any, type(error))
    while base.__module__ != "builtins":
        base = base.__base__
    # Not by the constructor of a subclass: that may take anything.
    made = base.__new__(kind, *error.args)
    base.__init__(made, *error.args)
    vars(made).update(vars(error))
    if notes := getattr(error, "__notes__", None):
        made.__notes__ = [*notes]
    if whole:
        made.__cause__, made.__context__ = error.__cause__, error.__context__
        made.__suppress_context__ = error.__suppress_context__
        made.__traceback__ = error.__traceback__
    return cast(E, made)
