"""One login attempt, sealed into a cookie of its own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

#: Seconds that a login may take.
LIFE = 600
#: Attempts of one browser at one blueprint that may be open at once.
MAX_OPEN = 5

_PREFIX = "qd_"
_SALT = b"quart_dance login attempt"
#: Changes with the fields of `Attempt`: what an older release sealed is not opened.
_FORMAT = b"1"


@dataclass(frozen=True)
class Attempt:
    """What a login must remember until its callback.

    Attributes:
        started: Seconds since the epoch.
        blueprint: The name of the blueprint that started it.
        state: What the provider must send back (RFC 6749, section 10.12).
        code_verifier: The PKCE secret (RFC 7636), or None without PKCE.
        redirect_uri: To be repeated to the letter (RFC 6749, section 4.1.3).
        next: The path that the visitor wanted, or None.
        account: The account that was logged in, or None.
    """

    started: int
    blueprint: str
    state: str = field(repr=False)
    code_verifier: str | None = field(repr=False)
    redirect_uri: str
    next: str | None
    account: str | None


def fingerprint(secret: str) -> str:
    """Return a short hash that names a secret without giving it away."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def cookie_name(state: str) -> str:
    """Return the name of the cookie of the attempt with this state."""
    return _PREFIX + fingerprint(state)


def is_cookie_name(name: str) -> bool:
    """Say whether a cookie's name looks like an attempt's."""
    return name.startswith(_PREFIX) and len(name) == len(_PREFIX) + 24


class Seal:
    """Seals attempts with keys derived from an application's secret keys.

    Args:
        secret_keys: The key that seals, then older ones that still open.
    """

    def __init__(self, secret_keys: Sequence[str | bytes]) -> None:
        self._fernet = MultiFernet([_derive(key) for key in secret_keys])

    def close(self, attempt: Attempt) -> str:
        """Return an attempt as a cookie value that nobody else can read or make."""
        values = [
            attempt.blueprint,
            attempt.state,
            attempt.code_verifier,
            attempt.redirect_uri,
            attempt.next,
            attempt.account,
        ]
        data = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
        return self._fernet.encrypt_at_time(data.encode(), attempt.started).decode()

    def open(self, value: str, now: float) -> Attempt | None:
        """Return the attempt in a cookie value; None if it is forged or too old."""
        try:
            data = self._fernet.decrypt_at_time(value, LIFE, int(now))
            started = self._fernet.extract_timestamp(value)
        except (InvalidToken, ValueError):  # the latter for what is not even ASCII
            return None
        return Attempt(started, *json.loads(data))

    def find(self, state: str, value: str | None, now: float) -> Attempt | None:
        """Return the attempt in a cookie value if it is the one of this state."""
        attempt = self.open(value, now) if value else None
        if attempt is None or not _equal(attempt.state, state):
            return None
        return attempt


def _equal(first: str, second: str) -> bool:
    # As bytes: compare_digest refuses str beyond ASCII.
    return hmac.compare_digest(first.encode(), second.encode("utf-8", "surrogatepass"))


def _derive(secret_key: str | bytes) -> Fernet:
    key = secret_key.encode() if isinstance(secret_key, str) else secret_key
    hkdf = HKDF(SHA256(), length=32, salt=_SALT, info=_FORMAT)
    return Fernet(base64.urlsafe_b64encode(hkdf.derive(key)))
