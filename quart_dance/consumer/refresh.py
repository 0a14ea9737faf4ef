"""Refreshing a token: once, whoever asks, and without losing the new one."""

from __future__ import annotations

from ..errors import NotAuthorizedError, TokenExpiredError
from ..oauth.token import Token
from .consumer import Consumer, Who
from .flight import REVOKED, Flight, identity_of
from .runtime import Runtime, depth
from .storage.base import BaseStorage, account_of, saved


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
    storage = consumer.async_storage
    if not storage.can_save():
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
    account = await account_of(storage, consumer, **who)
    # Whoever logs in while the token is on its way must not get it.
    who = who or await saved(_named(storage, account))
    flight = Flight(runtime, consumer, account, who)
    # A late request may still hold a token that was refreshed a moment ago; to spend
    # its refresh token again would look like theft (RFC 9700, 4.14.2).
    new: Token | None = runtime.refreshed.get(identity_of(old), runtime.clock())
    known = new is not None
    if new is None:
        new = await flight.late(old)
    if new is None:
        new = await flight.shared(old)
    if known or account is None:
        # A flight saves for the one who started it. Whoever else holds the old token
        # in a storage of their own, such as a session, saves for themselves.
        if not await flight.replace(old, new) and known:
            # Logged out, or in again, since then: that counts.
            new = await flight.load() or REVOKED
    if not new:
        raise consumer.about(NotAuthorizedError(f"log in with {consumer.name} again"))
    return new.copy()


async def _named(storage: BaseStorage, account: str | None) -> Who:
    return storage.named(account)
