"""The OAuth 2.0 blueprint for Quart."""

from __future__ import annotations

from typing import Any, Unpack, cast

from quart import Response, current_app
from quart.typing import ResponseReturnValue

from .base import BaseOAuthConsumerBlueprint
from .dance import OAuth2Dance
from .options import OAuth2Options
from .room import dress
from .visit import Reply


class OAuth2ConsumerBlueprint(BaseOAuthConsumerBlueprint, OAuth2Dance):
    """A blueprint that logs visitors in with an OAuth 2.0 provider.

    Args:
        name: The blueprint's name; storages file tokens under it.
        import_name: As `quart.Blueprint` takes it.
        client_id: As the provider issued it.
        client_secret: Likewise.
        **options: See `OAuth2Options`.

    Raises:
        ConfigurationError: An option contradicts the protocol.
    """

    def __init__(
        self,
        name: str,
        import_name: str,
        client_id: str | None = None,
        client_secret: str | None = None,
        **options: Unpack[OAuth2Options],
    ) -> None:
        given = {"client_id": client_id, "client_secret": client_secret, **options}
        super().__init__(name, import_name, given)

    async def login(self, **view_args: Any) -> ResponseReturnValue:
        """Send the visitor to the provider; the view of the route ``login``."""
        return await self._respond(await self.begin(self._visit(view_args)))

    async def authorized(self, **view_args: Any) -> ResponseReturnValue:
        """Take the visitor back; the view of the route ``authorized``."""
        return await self._respond(await self.finish(self._visit(view_args)))

    async def _respond(self, reply: Reply) -> Response:
        made = await current_app.make_response(cast(Any, self._content(reply)))
        dress(made, reply)
        return cast(Response, made)
