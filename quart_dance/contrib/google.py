"""Google (developers.google.com, "Using OAuth 2.0 for Web Server Applications")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from ..consumer import OAuth2ConsumerBlueprint
from ..consumer.base import preset_session
from ..consumer.options import BlueprintOptions

__all__ = ["google", "make_google_blueprint"]


def make_google_blueprint(
    client_id: str | None = None,
    client_secret: str | None = None,
    *,
    scope: str | Sequence[str] | None = None,
    offline: bool = False,
    reprompt_consent: bool = False,
    reprompt_select_account: bool = False,
    hosted_domain: str | None = None,
    name: str = "google",
    **options: Unpack[BlueprintOptions],
) -> OAuth2ConsumerBlueprint:
    """Make a blueprint for Google.

    Args:
        client_id: Else ``GOOGLE_OAUTH_CLIENT_ID`` of the app config.
        client_secret: Else ``GOOGLE_OAUTH_CLIENT_SECRET``.
        scope: What to ask for; the default is the user's profile.
        offline: Ask for a refresh token. Google sends one with the first consent
            only, unless `reprompt_consent` is set too.
        reprompt_consent: Ask for the consent again.
        reprompt_select_account: Ask for the account again.
        hosted_domain: Offer accounts of this Workspace domain. This is a hint: it
            keeps nobody else from logging in.
        name: The blueprint's name, under which tokens are filed; another one for a
            second blueprint of Google in one application.
        **options: See `BlueprintOptions`.
    """
    prompts = {"consent": reprompt_consent, "select_account": reprompt_select_account}
    params = {
        "access_type": "offline" if offline else None,
        "prompt": " ".join(name for name, asked in prompts.items() if asked) or None,
        "hd": hosted_domain,
    }
    blueprint = OAuth2ConsumerBlueprint(
        name,
        __name__,
        client_id,
        client_secret,
        scope=scope or ["https://www.googleapis.com/auth/userinfo.profile"],
        base_url="https://www.googleapis.com/",
        authorization_url="https://accounts.google.com/o/oauth2/v2/auth",
        authorization_url_params={k: v for k, v in params.items() if v},
        token_url="https://oauth2.googleapis.com/token",
        token_endpoint_auth_method="client_secret_post",
        auto_refresh_url="https://oauth2.googleapis.com/token",
        revocation_url="https://oauth2.googleapis.com/revoke",
        **options,
    )
    blueprint.from_config["client_id"] = "GOOGLE_OAUTH_CLIENT_ID"
    blueprint.from_config["client_secret"] = "GOOGLE_OAUTH_CLIENT_SECRET"
    return blueprint


#: The session of the visitor at hand, at the application's one Google blueprint.
google = preset_session(__name__)
