"""GitHub (docs.github.com, "Authorizing OAuth apps")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from ..consumer import OAuth2ConsumerBlueprint
from ..consumer.base import preset_session
from ..consumer.options import BlueprintOptions

__all__ = ["github", "make_github_blueprint"]


def make_github_blueprint(
    client_id: str | None = None,
    client_secret: str | None = None,
    *,
    scope: str | Sequence[str] | None = None,
    name: str = "github",
    **options: Unpack[BlueprintOptions],
) -> OAuth2ConsumerBlueprint:
    """Make a blueprint for GitHub.

    Args:
        client_id: Else ``GITHUB_OAUTH_CLIENT_ID`` of the app config.
        client_secret: Else ``GITHUB_OAUTH_CLIENT_SECRET``.
        scope: What to ask for, such as ``["read:user", "repo"]``.
        name: The blueprint's name, for a second one in the same application.
        **options: See `BlueprintOptions`.
    """
    blueprint = OAuth2ConsumerBlueprint(
        name,
        __name__,
        client_id,
        client_secret,
        scope=scope,
        base_url="https://api.github.com/",
        authorization_url="https://github.com/login/oauth/authorize",
        token_url="https://github.com/login/oauth/access_token",
        token_endpoint_auth_method="client_secret_post",
        # Tokens of a GitHub App expire; those of an OAuth app have nothing to refresh.
        auto_refresh_url="https://github.com/login/oauth/access_token",
        **options,
    )
    blueprint.from_config["client_id"] = "GITHUB_OAUTH_CLIENT_ID"
    blueprint.from_config["client_secret"] = "GITHUB_OAUTH_CLIENT_SECRET"
    return blueprint


#: The session of the visitor at hand, at the application's one GitHub blueprint.
github = preset_session(__name__)
