"""What the token endpoint answers, and what it means (RFC 6749, section 5)."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from ..errors import TokenRequestError
from .oauth2 import clean
from .token import NO_SECRETS, Secrets, Token, accept, seconds

#: Levels of nesting that an answer may have.
_MAX_DEPTH = 32
_FORM_TYPES = ("application/x-www-form-urlencoded", "text/plain")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, read to its end.

    Attributes:
        status: The HTTP status.
        headers: With lower-case names.
        body: Decompressed.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> int | None:
        """Seconds to wait, or None; an HTTP date is not read."""
        value = self.headers.get("retry-after", "").strip()
        return seconds(value) if value.isdigit() else None


def read_token(
    answer: Answer,
    *,
    now: float,
    secrets: Secrets = NO_SECRETS,
    token_types: Collection[str] = ("bearer",),
) -> Token:
    """Return the token in an answer of the token endpoint.

    Args:
        answer: What the endpoint said.
        now: Seconds since the epoch, when it said so.
        secrets: What may not be repeated in an error.
        token_types: See `accept`.

    Raises:
        TokenRequestError: There is no usable token in it.
    """
    fields = check(answer, secrets=secrets)
    try:
        return accept(fields, now, token_types)
    except TokenRequestError as error:
        error.status_code = answer.status
        raise


def check(answer: Answer, *, secrets: Secrets = NO_SECRETS) -> Token:
    """Return the fields of a successful answer; empty if the body holds none.

    Raises:
        TokenRequestError: The endpoint refused, or failed.
    """
    fields = _decode(answer)
    if problem := _problem(answer, fields, secrets):
        raise problem
    return fields or Token()


def _problem(
    answer: Answer, fields: Token | None, secrets: Secrets
) -> TokenRequestError | None:
    status = answer.status
    fields = fields or Token()
    error, text = fields.get("error"), fields.get("error_description")
    if status >= 500 or status == 429:
        code, text = "server_error", f"the provider answered with status {status}"
    elif error is not None:
        # Facebook's is an object.
        code = clean(error if isinstance(error, str) else "", 64, secrets) or "error"
        text = clean(text if isinstance(text, str) else "", secrets=secrets)
        text = text or f"the provider refused, status {status}"
    elif 200 <= status < 300:
        return None
    elif 300 <= status < 400:
        code, text = "invalid_response", "the endpoint redirects; that is not followed"
    else:
        code, text = "invalid_response", f"status {status} without an OAuth error"
    return TokenRequestError(
        code, text, status_code=status, retry_after=answer.retry_after
    )


def _decode(answer: Answer) -> Token | None:
    """Return the fields of a JSON object or of a form; None if it is neither."""
    try:
        text = answer.body.decode("utf-8-sig")
        if text.lstrip()[:1] == "{":
            fields = json.loads(
                text,
                object_pairs_hook=_unique,
                parse_constant=lambda _: None,
                parse_float=_finite,
            )
            return Token(fields) if _is_shallow(fields) else None
        if answer.media_type in _FORM_TYPES:
            # GitHub's and Facebook's older endpoints answer like this.
            pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True)
            return Token(_unique(pairs))
    except (ValueError, RecursionError):
        pass
    return None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _is_shallow(value: object) -> bool:
    """Say whether a decoded value is nested so little that all code can walk it."""
    level: list[object] = [value]
    for _ in range(_MAX_DEPTH):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
    return not level
