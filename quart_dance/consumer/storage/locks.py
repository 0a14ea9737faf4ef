"""Holding a storage's refresh lock, which may be an application's own, and may fail."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ...errors import OAuthError, UserRequiredError
from .base import BaseStorage, Owner, saved

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def refresh_locked(
    storage: BaseStorage, blueprint: Owner, **who: Any
) -> AsyncIterator[None]:
    """Hold a storage's refresh lock.

    What was done under it is done, and what has failed has failed, whatever happens
    when it is given back: such an error is logged.

    Args:
        storage: The storage.
        blueprint: The blueprint.
        **who: The account, as the storage's methods take it.

    Raises:
        StorageError: The lock cannot be taken.
        UserRequiredError: The storage keeps tokens for users, and nobody is known.
    """

    async def take() -> AbstractAsyncContextManager[Any]:
        lock = storage.refresh_lock(blueprint, **who)
        await lock.__aenter__()
        return lock

    lock = await saved(take())
    try:
        yield
    except BaseException as error:
        await _give_back(lock, blueprint, error)
        raise
    await _give_back(lock, blueprint, None)


async def _give_back(
    lock: AbstractAsyncContextManager[Any],
    blueprint: Owner,
    error: BaseException | None,
) -> None:
    told: Any = (None, None, None)
    if error is not None:
        told = type(error), error, error.__traceback__
    try:
        await saved(lock.__aexit__(*told))
    except (OAuthError, UserRequiredError) as failed:
        if failed is not error:
            _logger.error(
                "The refresh lock of %r was not given back: %s", blueprint.name, failed
            )
