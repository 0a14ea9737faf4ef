"""What an OAuth session does, whatever its framework."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from ..errors import NotAuthorizedError, TokenExpiredError
from ..oauth.token import Token, is_expired
from .consumer import Consumer, Who
from .flight import can_refresh
from .http import URL, Cookies, Response
from .origins import is_base_origin, target
from .refresh import refreshed
from .runtime import Runtime
from .signals import oauth_revoked
from .storage.base import saved

_INVALID_TOKEN = re.compile(r'\berror\s*=\s*"?invalid_token\b')


class SessionFlow(ABC):
    """Calls a provider's API with a visitor's token.

    The coroutines wait for nothing but `_load`, `_refreshed`, `_delete` and `_send`.
    Where these do their work before they return, as under Flask, no coroutine here
    is ever suspended, and none needs an event loop.

    Args:
        blueprint: The blueprint; it is what all configuration is read from.
        app: The application, where there will be no application context.
        who: The account, as the storage's methods take it; empty for the visitor.
    """

    def __init__(
        self, blueprint: Consumer, *, app: Any = None, who: Who | None = None
    ) -> None:
        self.blueprint = blueprint
        self.cookies = Cookies()
        self._app = app
        self._who = dict(who or {})
        self.arrived: Token | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.blueprint.name!r}>"

    @property
    def base_url(self) -> str | None:
        """What relative URLs are joined to."""
        return self.blueprint.base_url

    @property
    def client_id(self) -> str | None:
        """As the provider issued it."""
        return self.blueprint.client_id

    @abstractmethod
    def _runtime(self) -> Runtime:
        """Return the runtime of the application at hand."""

    @abstractmethod
    def _app_context(self) -> AbstractAsyncContextManager[Any]:
        """Enter the context of the application, if it is not at hand."""

    @abstractmethod
    def _send(
        self,
        method: str,
        url: URL,
        token: Token | None,
        follow_redirects: bool,
        content: dict[str, Any],
    ) -> AbstractAsyncContextManager[Response]:
        """Make one call of the API."""

    # What waits

    async def _stored(self) -> Token | None:
        return await self.blueprint.load(**self._who)

    async def _refreshed(self, token: Token) -> Token:
        return await refreshed(self._runtime(), self.blueprint, token, self._who)

    async def _delete(self, token: Token) -> None:
        """Delete a token that the API has refused, if it is still the stored one."""
        storage = self.blueprint.async_storage
        deleting = storage.replace(self.blueprint, token, None, **self._who)
        if await saved(deleting, token):
            await self.blueprint.notify(oauth_revoked, token=token)

    # What does not

    async def _is_authorized(self) -> bool:
        async with self._context():
            token = await self._load()
            return token is not None and not self._is_over(token)

    async def _token(self) -> Token | None:
        async with self._context():
            return await self._load()

    async def _access_token(self) -> str | None:
        async with self._context():
            try:
                return str((await self._usable())["access_token"])
            except (NotAuthorizedError, TokenExpiredError):
                return None

    async def _require(self) -> None:
        async with self._context():
            token = await self._load()
            if token is None or self._is_over(token):
                error = NotAuthorizedError(f"not logged in with {self.blueprint.name}")
                raise self.blueprint.about(error)

    async def _load(self) -> Token | None:
        if self.arrived is not None:
            return self.arrived.copy()
        return await self._stored()

    def _is_expired(self, token: Token) -> bool:
        return is_expired(token, self._runtime().clock())

    def _can_refresh(self, token: Token) -> bool:
        # A token that is not stored yet cannot be replaced there.
        return self.arrived is None and can_refresh(self.blueprint, token)

    def _is_over(self, token: Token) -> bool:
        return self._is_expired(token) and not self._can_refresh(token)

    async def _usable(self) -> Token:
        """Return a token to call the API with.

        Raises:
            NotAuthorizedError: There is none.
            TokenExpiredError: It has expired and cannot be refreshed.
        """
        token = await self._load()
        name = self.blueprint.name
        if token is None:
            raise self.blueprint.about(NotAuthorizedError(f"not logged in with {name}"))
        if not self._is_expired(token):
            return token
        if not self._can_refresh(token):
            raise self.blueprint.about(
                TokenExpiredError(f"the token of {name!r} has expired; log in again")
            )
        return await self._refreshed(token)

    @asynccontextmanager
    async def _stream(
        self,
        method: str,
        url: str,
        content: dict[str, Any],
        *,
        withhold_token: bool,
        follow_redirects: bool | None,
    ) -> AsyncIterator[Response]:
        """Call the API, and once more if the token turns out to be invalid."""
        if follow_redirects is None:
            follow_redirects = method.upper() in ("GET", "HEAD")
        params = content.pop("params", None)
        async with self._context():
            token = None if withhold_token else await self._usable()
            for retry in (False, True):
                goal = target(self.blueprint, url, token, params)
                async with self._send(
                    method, goal, token, follow_redirects, content
                ) as response:
                    token = (
                        None if retry else await self._after(response, token, content)
                    )
                    if token is None:
                        yield response
                        return

    async def _after(
        self, response: Response, token: Token | None, content: dict[str, Any]
    ) -> Token | None:
        """Return another token if the call is to be made again with it, else None.

        Only the API's own word that the token is invalid counts (RFC 6750, 3.1).
        """
        if token is None or response.status_code != 401 or self.arrived is not None:
            return None
        challenge = response.headers.get("www-authenticate", "")
        if not _INVALID_TOKEN.search(challenge):
            return None
        if not is_base_origin(self.blueprint, response.url):
            return None
        if "Authorization" not in response.request.headers:
            return None  # lost on the way, in redirects: nobody has judged the token
        if not self.blueprint.async_storage.can_save():
            return None
        if self._can_refresh(token):
            new = await self._refreshed(token)
            return new if _can_be_sent_again(content) else None
        await self._delete(token)
        return None

    @asynccontextmanager
    async def _context(self) -> AsyncIterator[None]:
        if self._app is None:
            yield
            return
        async with self._app_context():
            try:
                yield
            except (NotAuthorizedError, TokenExpiredError) as error:
                if self._who:  # the visitor's own login would not help
                    error.blueprint = None
                raise


def _can_be_sent_again(content: dict[str, Any]) -> bool:
    body, data = content.get("content"), content.get("data")
    return (
        not content.get("files")
        and isinstance(body, str | bytes | None)
        and isinstance(data, Mapping | str | bytes | None)
    )
