"""The few pages that a visitor gets to see of us: plain, escaped, never cached."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import escape

from ..errors import (
    AccessDenied,
    LoginError,
    StorageError,
    TokenRequestError,
    UserRequiredError,
)

#: Of every page and redirect of a login (RFC 9700, section 4.2).
HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
}

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 15vh auto;
  padding: 0 1.5rem; }}
h1 {{ font-size: 1.6rem; line-height: 1.25; }}
a {{ display: inline-block; padding: .5rem 1.2rem; border: 1px solid; color: inherit;
  border-radius: .4rem; text-decoration: none; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{text}</p>
<p><a href="{url}">{link}</a></p>
</body>
</html>
"""


def _page(title: str, text: str, url: str, link: str) -> str:
    return _PAGE.format(
        title=escape(title), text=escape(text), url=escape(url), link=escape(link)
    )


def login_failed(provider: str, reason: str, login_url: str) -> str:
    """Return the page after a login that failed."""
    return _page("The login failed", reason, login_url, f"Log in with {provider} again")


def confirm_login(provider: str, login_url: str) -> str:
    """Return the page that asks whether a login begun elsewhere is meant."""
    return _page(
        f"Log in with {provider}?",
        "Another site has sent you here. If you go on, your account here is connected "
        f"with the account that you use at {provider}.",
        login_url,
        "Go on",
    )


def not_authorized(provider: str, login_url: str) -> str:
    """Return the page for a request that cannot be sent to the login and back."""
    return _page(
        f"Log in with {provider}",
        f"This needs your permission at {provider}. Log in, then do it again.",
        login_url,
        f"Log in with {provider}",
    )


def provider_failed(provider: str, url: str) -> str:
    """Return the page for a provider that fails in the middle of something."""
    return _page(
        f"{provider} does not answer",
        f"What you asked for needs {provider}, which fails at the moment. You are "
        "still logged in; please try again in a little while.",
        url,
        "Go on",
    )


def explain(error: Exception) -> tuple[str, str | None, str]:
    """Return an error's code, its description, and what the visitor is told."""
    if isinstance(error, AccessDenied):
        shown = error.description
        if error.error == "access_denied":
            shown = "The permission was not given."
        return error.error, error.error_description, shown
    if isinstance(error, LoginError):
        return error.error, error.description, error.description
    if isinstance(error, TokenRequestError):
        shown = "The provider does not answer as it should. Please try again."
        return error.error, error.description, shown
    shown = "Your login could not be kept. Please try again later."
    if isinstance(error, StorageError):
        return "storage_error", str(error), shown
    if isinstance(error, UserRequiredError):
        return "user_required", str(error), shown
    return "login_failed", str(error), shown  # a receiver's
