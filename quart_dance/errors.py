"""The errors of quart_dance: one tree, data instead of secrets.

::

    Exception
    ├── OAuthError                  carries .blueprint
    │   ├── ConfigurationError      the application is not set up; says what to set
    │   ├── LoginError              a login that failed before a token was asked for
    │   │   ├── StateMismatch       no attempt for this state in this browser
    │   │   ├── InvalidCallback     the callback's parameters contradict each other
    │   │   ├── AccessDenied        the provider answered ``error=``
    │   │   └── AccountChanged      another account is logged in than at the start
    │   ├── ReceiverError           a receiver's page is no response; also a TypeError
    │   ├── TokenRequestError       the token or revocation endpoint failed
    │   ├── TokenExpiredError       the token has expired and cannot be refreshed now
    │   ├── NotAuthorizedError      there is no token
    │   ├── ForeignOriginError      the URL is not one that may see the token
    │   └── StorageError            the storage could not read or keep a token
    │       ├── TokenTooLargeError  the token does not fit into the session cookie
    │       └── UpgradeError        a table of tokens cannot be upgraded as it is
    └── ValueError
        └── UserRequiredError       the storage keeps tokens for users; nobody is known
"""

from __future__ import annotations

from typing import Any, ClassVar


class OAuthError(Exception):
    """Base of everything that goes wrong between us and a provider.

    Attributes:
        blueprint: The blueprint concerned, or None: none was at hand, or an account
            was named (`session_for`), and no login of the visitor would help.
        status: The HTTP status that a visitor gets to see for it.
    """

    status: ClassVar[int] = 500
    blueprint: Any = None


class ConfigurationError(OAuthError):
    """The application is not set up for this; the message says what to set."""


class LoginError(OAuthError):
    """A login failed before a token was asked for.

    Attributes:
        error: A short code: the provider's own (RFC 6749, section 4.1.2.1) for
            `AccessDenied`, else one of ours.
        description: One sentence for people, cleaned of control characters.
    """

    status = 400
    error = "login_failed"

    def __init__(self, description: str = "The login failed.") -> None:
        super().__init__(description)
        self.description = description


class StateMismatch(LoginError):
    """No login attempt of this browser fits the callback (RFC 6749, section 10.12)."""

    error = "state_mismatch"


class InvalidCallback(LoginError):
    """The callback's parameters are repeated, missing or contradict each other."""

    error = "invalid_callback"


class AccountChanged(LoginError):
    """Another account is logged in than the one that started the login."""

    error = "account_changed"


class AccessDenied(LoginError):
    """The provider answered with an error (RFC 6749, section 4.1.2.1).

    Attributes:
        error_uri: The page that the provider names, or None; never followed by us.
    """

    def __init__(self, error: str, description: str | None, error_uri: str | None):
        super().__init__(description or f"The provider answered: {error}.")
        self.error = error
        self.error_description = description
        self.error_uri = error_uri


class ReceiverError(OAuthError, TypeError):
    """A receiver of `oauth_authorized` returned a page that is not a response yet."""


class TokenRequestError(OAuthError):
    """The token or revocation endpoint failed or gave no usable answer.

    Attributes:
        error: The provider's code (RFC 6749, section 5.2), or one of ours:
            ``unreachable``, ``timeout``, ``invalid_response``, ``server_error``.
        description: One sentence for people, cleaned, without secrets.
        status_code: The HTTP status of the answer, or None if there was none.
        retry_after: Seconds to wait, where the provider said so.
    """

    status = 502

    def __init__(
        self,
        error: str,
        description: str,
        *,
        status_code: int | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status_code = status_code
        self.retry_after = retry_after


class TokenExpiredError(OAuthError):
    """The token has expired and cannot be refreshed here and now."""

    status = 401


class NotAuthorizedError(OAuthError):
    """There is no token: the visitor has not logged in with the provider."""

    status = 401


class ForeignOriginError(OAuthError):
    """The URL is of an origin that may not see the token, or none; nothing was sent."""


class StorageError(OAuthError):
    """The storage could not read or keep a token; what was stored before stays."""


class TokenTooLargeError(StorageError):
    """The token would push the session cookie over what browsers accept."""


class UpgradeError(StorageError):
    """A table of tokens cannot be upgraded as it is; the message says what to do."""


class UserRequiredError(ValueError):
    """The storage keeps tokens for users, and no user is known."""
