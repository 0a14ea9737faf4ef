"""Refreshing a stored token: what replaces it, what deletes it, what leaves it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from world import ACCOUNTS, KINDS, stored, text, world

from quart_dance.consumer import oauth_refreshed, oauth_revoked
from quart_dance.consumer.storage.session import SessionStorage
from quart_dance.testing import faults

ALL = pytest.mark.parametrize("kind", KINDS)


@ALL
async def test_invalid_grant(kind, tmp_path):
    """F1: a refresh token that the provider knows no more ends the login, once."""
    async with world(kind, tmp_path) as here:
        visitor = await here.login()
        old, revoked = await stored(visitor), []

        @oauth_revoked.connect_via(here.blueprint)
        def note(sender: Any, token: Any) -> None:
            revoked.append(token)

        here.clock.now += 3600
        here.provider.revoke_tokens()
        assert await text(visitor, "/authorized") == "true\n"
        response = await visitor.get("/user")
        assert response.location == "/login/dev?next=/user"
        assert revoked == [old]
        assert await stored(visitor) is None
        assert await text(visitor, "/authorized") == "false\n"
        assert here.provider.count("token") == 2
        await visitor.login(here.provider)
        assert await text(visitor) == "alice"


@pytest.mark.parametrize("kind", ACCOUNTS)
async def test_invalid_grant_after_a_change(kind, tmp_path):
    """F1: if the stored token has changed meanwhile, that one is used, and stays."""
    async with world(kind, tmp_path) as here:
        visitor = await here.login()
        here.clock.now += 3600
        again = here.provider.issue_token("bob")
        again["expires_at"] = here.clock.now + 3600
        here.provider.fault("token", faults.Hang())
        asked = asyncio.create_task(text(visitor))
        await here.provider.held()
        here.provider.revoke_tokens("alice")
        await here.storage.set(here.blueprint, again, user_id="1")
        here.provider.release()
        assert await asked == "bob"
        assert await stored(visitor) == again


@ALL
async def test_invalid_token(kind, tmp_path):
    """F1: a 401 `invalid_token` of the API leads to one refresh and one more call."""
    async with world(kind, tmp_path) as here:
        visitor = await here.login()
        here.provider.expire_access_tokens()
        assert await text(visitor) == "alice"
        assert (here.provider.count("token"), here.provider.count("user")) == (2, 2)


@ALL
async def test_invalid_token_without_refresh(kind, tmp_path):
    """F1: where nothing can be refreshed, it deletes the token; nothing is retried."""
    async with world(kind, tmp_path) as here:
        here.provider.policy.issue_refresh_token = False
        visitor, revoked = await here.login(), []

        @oauth_revoked.connect_via(here.blueprint)
        def note(sender: Any, token: Any) -> None:
            revoked.append(token["access_token"])

        old = await stored(visitor)
        here.provider.revoke_tokens()
        await visitor.get("/user")
        assert await stored(visitor) is None
        assert revoked == [old["access_token"]]
        assert (here.provider.count("token"), here.provider.count("user")) == (1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        faults.Answer.json({}, 401),
        faults.Answer.json({}, 401, {"WWW-Authenticate": 'Bearer realm="x"'}),
        faults.Answer.json({}, 403, {"WWW-Authenticate": 'Bearer error="x"'}),
        faults.Answer.json({"error": "invalid_token"}, 500),
    ],
    ids=lambda answer: str(answer.status),
)
async def test_no_other_answer_deletes(answer, tmp_path):
    """F1: no other answer of an API refreshes or deletes anything."""
    async with world("sqla", tmp_path) as here:
        here.provider.policy.issue_refresh_token = False
        visitor = await here.login()
        old = await stored(visitor)
        here.provider.fault("user", answer)
        await visitor.get("/user")
        assert await stored(visitor) == old
        assert here.provider.count("token") == 1


FAILURES = [
    faults.SERVER_ERROR,
    faults.BAD_GATEWAY,
    faults.TOO_MANY_REQUESTS,
    faults.HTML_PAGE,
    faults.EMPTY,
    faults.TRUNCATED,
    faults.Answer.json({"error": "invalid_client"}, 401),
    faults.Answer.json([1]),
]


@pytest.mark.parametrize("kind", ACCOUNTS)
async def test_failure_keeps_the_token(kind, tmp_path):
    """F2: any other failure keeps the token, and the next request tries again."""
    async with world(kind, tmp_path) as here:
        visitor = await here.login()
        old = await stored(visitor)
        here.clock.now += 3600
        for number, failure in enumerate(FAILURES):
            here.provider.fault("token", failure)
            assert (await visitor.get("/user")).status_code == 502
            assert await stored(visitor) == old
            assert here.provider.count("token") == number + 2
        assert await text(visitor) == "alice"
        assert here.busy() == 0


@ALL
async def test_stored_before_it_is_used(kind, tmp_path):
    """F3: the rotated token is stored, and the old one gone, before the first use."""
    async with world(kind, tmp_path) as here:
        visitor, seen = await here.login(), []
        old = await stored(visitor)

        @oauth_refreshed.connect_via(here.blueprint)
        async def note(sender: Any, token: Any) -> None:
            assert await sender.storage.reread(sender) == token
            seen.append((token, here.provider.calls[-1].endpoint))

        here.clock.now += 3600
        assert await text(visitor) == "alice"
        ((new, last),) = seen
        assert last == "token"
        assert await stored(visitor) == new
        assert new["refresh_token"] != old["refresh_token"]
        assert new["expires_at"] == here.clock.now + 3600


@ALL
@pytest.mark.parametrize("same", [False, True])
async def test_refresh_token_that_stays(kind, same, tmp_path):
    """F3: an answer without a refresh token, or with the same one, keeps the old one.

    Scope and unknown keys are kept too; the expiry never is.
    """
    async with world(kind, tmp_path) as here:
        here.provider.policy.rotate_refresh_tokens = False
        extra = faults.Altered({"tenant": "acme"})
        here.provider.fault("token", extra)
        visitor = await here.login()
        old = await stored(visitor)
        changes = {"refresh_token": old["refresh_token"]} if same else {}
        without = ["scope", "expires_in"]
        here.provider.fault("token", faults.Altered(changes, without))
        here.clock.now += 3600
        assert await text(visitor) == "alice"
        new = await stored(visitor)
        assert new.pop("access_token") != old.pop("access_token")
        assert (old.pop("expires_in"), old.pop("expires_at")) == (
            3600,
            here.clock.now,
        )
        assert new == old
        assert new["tenant"] == "acme"


@ALL
async def test_answer_without_a_token(kind, tmp_path):
    """F4: a 200 without an access token is an error, and the old token stays."""
    async with world(kind, tmp_path) as here:
        here.provider.policy.rotate_refresh_tokens = False
        visitor = await here.login()
        old = await stored(visitor)
        here.clock.now += 3600
        here.provider.fault("token", faults.Altered(without=["access_token"]))
        assert (await visitor.get("/user")).status_code == 502
        assert await stored(visitor) == old
        assert await text(visitor) == "alice"


@pytest.mark.parametrize("kind", [*ACCOUNTS, "memory"])
@pytest.mark.parametrize("spent", [False, True])
async def test_logout_in_flight(kind, spent, tmp_path):
    """F6: who logs out while the provider is asked stays logged out."""
    async with world(kind, tmp_path) as here:
        visitor = await here.login()
        here.clock.now += 3600
        here.provider.fault("token", faults.Hang(after=spent))
        asked = asyncio.create_task(visitor.get("/user"))
        await here.provider.held()
        await visitor.get("/logout")
        here.provider.release()
        assert (await asked).location == "/login/dev?next=/user"
        assert await stored(visitor) is None
        assert await text(visitor, "/authorized") == "false\n"


@pytest.mark.parametrize("kind", [*ACCOUNTS, "memory"])
@pytest.mark.parametrize("spent", [False, True])
async def test_login_in_flight(kind, spent, tmp_path):
    """F6: a new login while the provider is asked wins over the refreshed token."""
    async with world(kind, tmp_path) as here:
        visitor = await here.login()
        here.clock.now += 3600
        here.provider.fault("token", faults.Hang(after=spent))
        asked = asyncio.create_task(text(visitor))
        await here.provider.held()
        assert (await visitor.login(here.provider, "bob")).status_code == 302
        again = await stored(visitor)
        here.provider.release()
        assert await asked == "bob"
        assert await stored(visitor) == again
        assert await text(visitor) == "bob"


@ALL
async def test_expired_without_refresh_token(kind, tmp_path):
    """F9: expired and not refreshable is not authorized; a view sends to the login."""
    async with world(kind, tmp_path) as here:
        here.provider.policy.issue_refresh_token = False
        visitor = await here.login()
        assert await text(visitor, "/authorized") == "true\n"
        here.clock.now += 3600
        assert await text(visitor, "/authorized") == "false\n"
        response = await visitor.get("/user")
        assert (response.status_code, response.location) == (
            302,
            "/login/dev?next=/user",
        )
        assert here.provider.count("token") == 1


async def test_refresh_switched_off(tmp_path):
    """F9: with `auto_refresh_url=None` a refresh token is never used."""
    async with world("sqla", tmp_path, auto_refresh_url=None) as here:
        visitor = await here.login()
        here.clock.now += 3600
        assert await text(visitor, "/authorized") == "false\n"
        assert (await visitor.get("/user")).location == "/login/dev?next=/user"
        assert here.provider.count("token") == 1


@pytest.mark.parametrize(
    ("life", "passed", "refreshes"),
    [
        (3600, 3539, 0),
        (3600, 3540, 1),
        (3600, 3600, 1),
        (3600, 10**6, 1),
        (100, 49, 0),
        (100, 50, 1),
        (None, 10**9, 0),
    ],
)
async def test_leeway(life, passed, refreshes, tmp_path):
    """F10: a token is over 60 s before its end, or after half of a shorter life."""
    async with world("file", tmp_path) as here:
        here.provider.policy.expires_in = life
        visitor = await here.login()
        here.clock.now += passed
        assert await text(visitor) == "alice"
        assert here.provider.count("token") - 1 == refreshes


@ALL
@pytest.mark.parametrize("skew", [-300, 300])
async def test_skew(kind, skew, tmp_path):
    """F10: with clocks five minutes apart, either way, every call succeeds."""
    async with world(kind, tmp_path, skew=skew) as here:
        visitor = await here.login()
        for _ in range(20):
            assert await text(visitor) == "alice"
            here.clock.now += 600
        assert here.provider.reuse_detected == []


async def test_session_without_refresh_tokens(tmp_path):
    """L6: the default session can be read by the browser; refresh tokens may stay out.

    Where they do, a token that has expired means another login.
    """
    async with world("session", tmp_path) as here:
        visitor = await here.login()
        assert SessionStorage.__doc__ is not None
        assert "readable by whoever" in SessionStorage.__doc__
        with_one = await stored(visitor)
        here.blueprint.storage = SessionStorage(refresh_tokens=False)
        visitor = await here.login()
        token = await stored(visitor)
        assert set(with_one) - set(token) == {"refresh_token"}
        here.clock.now += 3600
        assert (await visitor.get("/user")).location == "/login/dev?next=/user"
        assert here.provider.count("token") == 2
