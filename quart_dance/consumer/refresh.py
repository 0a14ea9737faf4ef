"""Refreshing a token: once, whoever asks, and without losing the new one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, TypeVar, cast

from ..errors import (
    NotAuthorizedError,
    StorageError,
    TokenExpiredError,
    TokenRequestError,
)
from ..oauth.answer import read_token
from ..oauth.attempt import fingerprint
from ..oauth.oauth2 import refresh_form
from ..oauth.token import Token, is_expired, merge
from .consumer import Consumer, Who
from .http import post_form
from .runtime import Runtime, depth
from .signals import oauth_refreshed, oauth_revoked
from .storage.base import account_of, saved
from .storage.locks import refresh_locked

E = TypeVar("E", bound=BaseException)
_logger = logging.getLogger(__name__)
#: In place of a token: the provider said that there is none any more.
_REVOKED = Token()
#: Seconds that reading again may take: what is left of a lease must do for the
#: provider's answer and for the save.
SLACK = 10
#: How providers say that a refresh token is dead: RFC 6749, 5.2, and GitHub.
_DEAD = ("invalid_grant", "bad_refresh_token")


def can_refresh(consumer: Consumer, token: Token) -> bool:
    """Say whether a token can be refreshed at all."""
    return bool(token.get("refresh_token") and consumer.auto_refresh_url)


async def refreshed(
    runtime: Runtime, consumer: Consumer, old: Token, who: Who
) -> Token:
    """Return the token that takes the place of one that is over (RFC 6749, section 6).

    Whoever asks for the same account at the same time gets the same answer; the
    provider is asked once. The exchange and the save go on if the caller is
    cancelled.

    Args:
        runtime: Of the application.
        consumer: The blueprint.
        old: The token as it was read.
        who: The account, as the storage's methods take it.

    Raises:
        TokenExpiredError: The new token could not be saved here and now.
        TokenRequestError: The provider failed; the old token is kept.
        NotAuthorizedError: The provider no longer knows the old one; it is deleted.
    """
    if not consumer.async_storage.can_save():
        raise consumer.about(
            TokenExpiredError(
                f"the token of {consumer.name!r} has expired, and a new one could not "
                "be saved here: a session is saved with the response to a request"
            )
        )
    if depth() > 1:
        # The receiver of a refresh has refreshed, and its receiver refreshes: no end.
        raise consumer.about(
            TokenExpiredError(f"the token of {consumer.name!r} expires on arrival")
        )
    account = await account_of(consumer.async_storage, consumer, **who)
    if account is not None and not who:
        who = consumer.async_storage.named(account)
    # Without accounts a token is its holder's: two visitors never share a flight.
    key = (consumer, _identity(old) if account is None else account, account is None)
    new: Token | None = None
    if key not in runtime.here.flights:
        # A late request may still hold a token that was refreshed a moment ago; to
        # spend its refresh token again would look like theft (RFC 9700, 4.14.2).
        new = runtime.refreshed.get(_identity(old), runtime.clock())
    known = new is not None
    if new is None:
        new = await _shared_flight(runtime, consumer, old, who, key)
    if known or account is None:
        # A flight saves for the one who started it. Whoever else holds the old token
        # in a storage of their own, such as a session, saves for themselves.
        replaced = consumer.async_storage.replace(
            consumer, old, new.copy() or None, **who
        )
        if not await saved(replaced, old, new) and known:
            # Logged out, or in again, since then: that counts.
            new = await consumer.load(past_cache=True, **who) or _REVOKED
    if not new:
        raise consumer.about(NotAuthorizedError(f"log in with {consumer.name} again"))
    return new.copy()


async def _shared_flight(
    runtime: Runtime, consumer: Consumer, old: Token, who: Who, key: object
) -> Token:
    flights = runtime.here.flights
    flight = flights.get(key)
    ours = flight is None
    if flight is None:
        flight = runtime.here.spawn(_fly(runtime, consumer, old, who, key))
        flights[key] = flight
        flight.add_done_callback(lambda task: _land(flights, key, task))
        # If all who wait for it are gone, its error is nobody's business.
        flight.add_done_callback(lambda task: task.cancelled() or task.exception())
    await asyncio.wait([flight])  # it goes on if we are cancelled
    if flight.cancelled():  # by a lock that somebody else has cancelled
        name = consumer.name
        raise consumer.about(StorageError(f"the refresh of {name!r} was broken off"))
    if (error := flight.exception()) is not None:
        raise _for_one(error, whole=ours)
    outcome: Token = flight.result()
    return outcome


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
    args = base.__reduce__(error)[1]
    made = base.__new__(kind, *args)
    base.__init__(made, *args)
    vars(made).update(vars(error))
    if notes := getattr(error, "__notes__", None):
        made.__notes__ = [*notes]
    if whole:
        made.__cause__, made.__context__ = error.__cause__, error.__context__
        made.__suppress_context__ = error.__suppress_context__
        made.__traceback__ = error.__traceback__
    return cast(E, made)


def _land(flights: dict[object, asyncio.Task[Any]], key: object, flight: Any) -> None:
    if flights.get(key) is flight:
        del flights[key]


def _identity(token: Token) -> str:
    # The access token as well: not every provider rotates refresh tokens.
    return fingerprint(f"{token['access_token']} {token['refresh_token']}")


async def _fly(
    runtime: Runtime, consumer: Consumer, old: Token, who: Who, key: object
) -> Token:
    """Read again, exchange, save; return the token that is then stored."""
    storage, clock = consumer.async_storage, asyncio.get_running_loop().time
    async with refresh_locked(storage, consumer, **who):
        began = clock()
        stored = await consumer.load(past_cache=True, **who)
        if stored is None:
            return _REVOKED  # logged out meanwhile
        if stored != old:
            if not is_expired(stored, runtime.clock()):
                return stored
            if not can_refresh(consumer, stored):
                return stored
            old = stored
        if clock() - began > SLACK:
            raise consumer.about(
                StorageError(f"reading the token of {consumer.name!r} took too long")
            )
        new = await _exchange(runtime, consumer, old)
        runtime.refreshed.put(_identity(old), new, runtime.clock())
        replaced = storage.replace(consumer, old, new.copy() or None, **who)
        if not await saved(replaced, old, new):
            # Logged out, or in again, while the provider was asked: that counts.
            return await consumer.load(past_cache=True, **who) or _REVOKED
    # A receiver that calls the API, and has to refresh, may not wait for this flight.
    _land(runtime.here.flights, key, asyncio.current_task())
    signal = oauth_refreshed if new else oauth_revoked
    with runtime.here.notifying():
        try:
            await consumer.notify(signal, token=(new or old).copy())
        except Exception:
            _logger.exception("A receiver of a refresh of %r failed", consumer.name)
    return new


async def _exchange(runtime: Runtime, consumer: Consumer, old: Token) -> Token:
    form = refresh_form(
        consumer.provider_url("auto_refresh_url"),
        consumer.client(),
        refresh_token=old["refresh_token"],
        params=consumer.auto_refresh_kwargs,
    )
    try:
        answer = await post_form(runtime, consumer, form)
        new = read_token(
            answer,
            now=runtime.clock(),
            secrets=form.secrets,
            token_types=consumer.token_types,
        )
    except TokenRequestError as error:
        if error.error in _DEAD:
            return _REVOKED
        consumer.about(error)
        raise
    return merge(old, new)
