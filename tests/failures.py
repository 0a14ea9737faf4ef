"""What the tests of failures share: failed logins, and all that is said of them."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from quart import Quart
from support import Visitor, make_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint, oauth_login_failed
from quart_dance.testing import DevProvider


def everything_said(error: BaseException) -> str:
    """Return all that an exception, its causes and our frames' locals would show."""
    said: list[str] = []
    errors: list[BaseException | None] = [error]
    seen: set[int] = set()
    while errors:
        current = errors.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        said += [str(current), repr(current), repr(vars(current))]
        for frame, line in traceback.walk_tb(current.__traceback__):
            module = frame.f_globals.get("__name__", "")
            if module.startswith("quart_dance."):
                said += [
                    f"{module}:{line}: {name} = {value!r}"
                    for name, value in frame.f_locals.items()
                ]
        errors += [current.__cause__, current.__context__]
    return "\n".join(said)


class Failures(list[Any]):
    """The typed errors of the logins that failed; `said` is what they show."""

    said = ""


@contextmanager
def failures_of(blueprint: OAuth2ConsumerBlueprint) -> Iterator[Failures]:
    """Collect the errors of failed logins, and what their receivers can see of them."""
    failures = Failures()

    async def note(sender: object, exception: Exception) -> None:
        failures.append(exception)
        failures.said += everything_said(exception)

    with oauth_login_failed.connected_to(note, sender=blueprint):
        yield failures


def make_stage(
    provider: DevProvider, **options: Any
) -> tuple[Quart, OAuth2ConsumerBlueprint]:
    """Return `make_app`, with a page that shows the visitor's token."""
    app, blueprint = make_app(provider, **options)

    @app.get("/stored")
    async def stored() -> Any:
        return {"token": await blueprint.token}

    return app, blueprint


async def stored_token(visitor: Visitor) -> Any:
    """Return the token that is stored for a visitor, or None."""
    return (await (await visitor.get("/stored")).get_json())["token"]


def secrets_of(provider: DevProvider, callback: str) -> set[str]:
    """Return what nobody may see of a login: the last call's and every token's."""
    sent = provider.calls[-1]
    assert sent.endpoint == "token"
    secrets = {query(callback)["state"], query(callback)["code"]}
    secrets |= {sent.form["code"], sent.form["code_verifier"]}
    secrets |= {sent.headers.get("Authorization", "").rpartition(" ")[2]}
    secrets |= {sent.form.get("client_secret", ""), "dev-client-secret", "leak-me"}
    for token in provider.tokens:
        secrets |= {token.access_token, token.refresh_token or ""}
    return secrets - {""}


async def failed_login(
    visitor: Visitor,
    provider: DevProvider,
    blueprint: OAuth2ConsumerBlueprint,
    *,
    person: str = "alice",
) -> Any:
    """Go through a login that fails after one token request; return the typed error.

    Nothing secret may be in the page, in the error, nor in anything that hangs on it.
    """
    requests = provider.count("token")
    callback = await provider.approve(await visitor.start(), person=person)
    with failures_of(blueprint) as failures:
        response = await visitor.get(callback)
    page = await response.get_data(as_text=True)
    assert provider.count("token") == requests + 1
    assert len(failures) == 1, page
    error = failures[0]
    assert error.blueprint is blueprint
    assert response.status_code == error.status
    assert "The login failed" in page
    assert response.headers["Cache-Control"] == "no-store"
    shown = f"{page} {response.headers} {failures.said}"
    assert [text for text in secrets_of(provider, callback) if text in shown] == []
    assert "quart_dance.consumer.dance" in failures.said  # the frames were seen
    return error
