"""Tokens: what is accepted, how they merge, when they expire."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import TokenRequestError

#: Seconds before its end from which a token counts as expired.
LEEWAY = 60
#: Lifetimes beyond this many seconds (some 300 years) are taken for nonsense.
MAX_LIFE = 10**10
#: The keys whose values are shown in a repr; everything else may be a secret.
PUBLIC = ("token_type", "scope", "expires_in", "expires_at")


class Token(dict[str, Any]):
    """A token as a JSON-able dict whose repr shows no secret."""

    def __repr__(self) -> str:
        shown = (f"{k}={self[k]!r}" if k in PUBLIC else f"{k}=***" for k in self)
        return f"<Token {' '.join(shown)}>"

    def __str__(self) -> str:
        return repr(self)

    def copy(self) -> Token:
        """Return a deep copy: what is done to it does not reach this token.

        Raises:
            TypeError: The token holds something that JSON cannot express.
        """
        return Token(json.loads(json.dumps(self)))


class Secrets(frozenset[str]):
    """Strings that must not be said; the repr says only how many there are."""

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


NO_SECRETS = Secrets()


def seconds(value: object) -> int | None:
    """Read a lifetime in seconds as providers write it.

    Returns:
        Whole seconds, 0 and above; None where the value is unknown: not a number,
        negative, not finite, absurdly large.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and "_" in value:  # Python's own way to write numbers
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or not 0 <= number <= MAX_LIFE:
        return None
    return int(number)


def with_expiry(token: Mapping[str, Any], now: float) -> Token:
    """Return a copy whose `expires_at` comes from our clock (RFC 6749, section 5.1).

    What the answer itself says of `expires_at` is dropped: its clock is not ours.
    An `expires_in` that is not a usable number is dropped too.

    Args:
        token: A token as the provider sent it.
        now: Seconds since the epoch, at the time of the answer.
    """
    result = Token(token).copy()
    life = seconds(result.pop("expires_in", None))
    result.pop("expires_at", None)
    if life is not None:
        result["expires_in"] = life
        result["expires_at"] = int(now) + life
    return result


def accept(
    answer: Mapping[str, Any], now: float, token_types: Collection[str] = ("bearer",)
) -> Token:
    """Turn the answer of a token endpoint into a token (RFC 6749, section 5.1).

    Args:
        answer: The decoded answer.
        now: Seconds since the epoch.
        token_types: Accepted values of `token_type`, in lower case; a missing one
            means bearer.

    Raises:
        TokenRequestError: It is not a token that could ever be used.
    """
    answer = Token(answer)  # masks itself, should a traceback show this frame
    if isinstance(token_types, str):
        token_types = (token_types,)
    if reason := _unusable(answer, token_types):
        raise TokenRequestError("invalid_response", reason)
    return with_expiry(answer, now)


def _unusable(answer: Mapping[str, Any], token_types: Collection[str]) -> str | None:
    """Say what is wrong with an answer, or None; raises nothing."""
    access_token = answer.get("access_token")
    if not isinstance(access_token, str) or not access_token:
        return "the answer holds no access_token"
    if not is_visible(access_token):
        return "the access_token holds characters that no header can carry"
    token_type = answer.get("token_type", "bearer")
    if not isinstance(token_type, str) or token_type.lower() not in token_types:
        return "the token_type is not one that this application can use"
    refresh_token = answer.get("refresh_token")
    if refresh_token is not None and not isinstance(refresh_token, str):
        return "the refresh_token is not a string"
    if not is_visible((refresh_token or "").replace(" ", "")):
        return "the refresh_token holds characters that no form can carry"
    return None


def has_access_token(token: Mapping[str, Any]) -> bool:
    """Say whether a token has an access token that a header can carry."""
    access_token = token.get("access_token")
    return (
        isinstance(access_token, str)
        and access_token != ""
        and is_visible(access_token)
    )


def is_visible(text: str) -> bool:
    """Say whether a string is visible ASCII (RFC 6749, appendix A: VSCHAR).

    Without the space, which no header carries.
    """
    return all("\x21" <= char <= "\x7e" for char in text)


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> Token:
    """Lay the answer of a refresh over the token it refreshed (RFC 6749, section 6).

    Refresh token, scope and all else that the answer lacks are kept; the expiry is
    always the new one's, even where that is unknown.
    """
    kept = {k: v for k, v in old.items() if k not in ("expires_in", "expires_at")}
    said = {k: v for k, v in new.items() if v is not None and v != ""}
    return Token({**kept, **said}).copy()


def complete(token: Mapping[str, Any], now: float) -> Token:
    """Copy a token that the application itself sets, filling in `expires_at`.

    Raises:
        TypeError: It is not a mapping.
        ValueError: It has no `access_token` that a header can carry.
    """
    kind, is_dict = type(token).__name__, isinstance(token, Mapping)
    # Masks itself, should a traceback show this frame.
    token = Token(token if is_dict else {})
    if not is_dict:
        raise TypeError(f"a token is a dict, not {kind}")
    if not has_access_token(token):
        raise ValueError(
            "a token needs a non-empty string 'access_token' of visible ASCII "
            "characters, without the end of the line that it was read from"
        )
    result = token.copy()
    life = seconds(result.get("expires_in"))
    if life is not None and seconds(result.get("expires_at")) is None:
        result["expires_at"] = int(now) + life
    return result


def is_expired(token: Mapping[str, Any], now: float) -> bool:
    """Say whether a token is over, or so nearly that it must not be relied on.

    The leeway is `LEEWAY` seconds, or half the token's life if that is shorter.
    A token without a known end never expires.
    """
    end = seconds(token.get("expires_at"))
    if end is None:
        return False
    life = seconds(token.get("expires_in"))
    leeway = LEEWAY if life is None else min(LEEWAY, life / 2)
    return now >= end - leeway
