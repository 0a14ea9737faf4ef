"""Where a secret might show: in an error, in what it came from, in our own frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2

import quart_dance

HOUSE = Path(quart_dance.__file__).parent
KEY, CLIENT = "the secret key of the tests", "dev-client-secret"


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Return an error with all that it came from."""
    if error is not None:
        yield error
        yield from chain(error.__cause__)
        yield from chain(error.__context__)


def assert_discreet(error: BaseException, *secrets: str) -> None:
    """Neither its text, nor what it holds, nor our frames show a secret."""
    for link in chain(error):
        assert not isinstance(link, httpx2.HTTPError)
        shown = [str(link), repr(link), *map(repr, vars(link).values())]
        shown += getattr(link, "__notes__", [])
        trace = link.__traceback__
        while trace:
            code = trace.tb_frame.f_code
            path = Path(code.co_filename)
            if path.is_relative_to(HOUSE) and "testing" not in path.parts:
                for name, value in trace.tb_frame.f_locals.items():
                    shown.append(f"{path.name} {code.co_name} {name}: {value!r}")
            trace = trace.tb_next
        for text in shown:
            for secret in (*secrets, CLIENT, KEY):
                assert secret not in text, text
