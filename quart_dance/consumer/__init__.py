"""OAuth blueprints for Quart, and their signals."""

from .oauth2 import OAuth2ConsumerBlueprint
from .signals import (
    oauth_authorized,
    oauth_before_login,
    oauth_error,
    oauth_login_failed,
    oauth_refreshed,
    oauth_revoked,
)

__all__ = [
    "OAuth2ConsumerBlueprint",
    "oauth_authorized",
    "oauth_before_login",
    "oauth_error",
    "oauth_login_failed",
    "oauth_refreshed",
    "oauth_revoked",
]
