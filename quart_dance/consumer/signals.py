"""The signals of a blueprint; receivers may be functions or coroutine functions.

The sender is always the blueprint.
"""

from __future__ import annotations

from blinker import Namespace

_signals = Namespace()

#: ``(blueprint, token=)``: a token has arrived. A receiver that returns False, or a
#: response, keeps us from storing it; the response is sent. What only a view may
#: return (text, bytes, a tuple, a list, a dict) is a failed login.
oauth_authorized = _signals.signal("oauth-authorized")
#: ``(blueprint, url=)``: the visitor is about to be sent to `url`.
oauth_before_login = _signals.signal("oauth-before-login")
#: ``(blueprint, error=, error_description=, error_uri=)``: a login failed. A response
#: of a receiver is sent in place of our page.
oauth_error = _signals.signal("oauth-error")
#: ``(blueprint, exception=)``: the same, with the typed error.
oauth_login_failed = _signals.signal("oauth-login-failed")
#: ``(blueprint, token=)``: a token was refreshed and stored.
oauth_refreshed = _signals.signal("oauth-refreshed")
#: ``(blueprint, token=)``: a token was deleted because the provider no longer accepts
#: it, or because it was revoked on request.
oauth_revoked = _signals.signal("oauth-revoked")
