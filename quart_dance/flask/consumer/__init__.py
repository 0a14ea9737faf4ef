"""OAuth blueprints for Flask, and their signals."""

from ...consumer.signals import (
    oauth_authorized,
    oauth_before_login,
    oauth_error,
    oauth_login_failed,
    oauth_refreshed,
    oauth_revoked,
)
from .oauth2 import OAuth2ConsumerBlueprint

__all__ = [
    "OAuth2ConsumerBlueprint",
    "oauth_authorized",
    "oauth_before_login",
    "oauth_error",
    "oauth_login_failed",
    "oauth_refreshed",
    "oauth_revoked",
]
