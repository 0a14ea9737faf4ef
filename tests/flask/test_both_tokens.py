"""What happens to stored tokens, under Quart and under Flask."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from accounts import OLD, table
from rooms import Room, both, now

from quart_dance.consumer import oauth_refreshed, oauth_revoked
from quart_dance.errors import ForeignOriginError
from quart_dance.testing import faults

storages = pytest.mark.parametrize("where", ["session", "memory"])
REFUSED = faults.Answer.json({"error": "invalid_grant"}, 400)


def make_room(kind: str, provider: Any, where: str = "session", **options: Any) -> Room:
    """Return a room whose tokens are in the session, or one for all in memory."""
    room = Room(kind, provider, **options)
    if where == "memory":
        room.blueprint.storage = room.storages.MemoryStorage()

    async def call() -> str:
        return str((await now(room.blueprint.session.get("user"))).status_code)

    async def leave() -> str:
        await now(room.blueprint.revoke_token())
        return "bye"

    room.page("/call", call)
    room.page("/leave", leave, "POST")
    return room


def grants(provider: Any) -> list[str]:
    """Return what the token endpoint was asked for."""
    asked = [call for call in provider.calls if call.endpoint == "token"]
    return [call.form["grant_type"] for call in asked]


@both
@storages
async def test_refresh(dev_provider, kind, where):
    """F3: an expired token is refreshed, its rotated successor is stored and used."""
    room = make_room(kind, dev_provider, where)
    visitor, heard = room.visitor(), []
    await room.login(visitor)
    [first] = dev_provider.tokens

    def refreshed(sender: Any, token: Any) -> None:
        heard.append(token["access_token"])

    with oauth_refreshed.connected_to(refreshed, room.blueprint):
        for life in (1, 2, 3):
            room.now += 3700
            dev_provider.expire_access_tokens()
            assert (await visitor.get("/me")).text == "alice"
            assert (await visitor.get("/me")).text == "alice"
            assert grants(dev_provider) == [
                "authorization_code",
                *["refresh_token"] * life,
            ]
    [last] = dev_provider.tokens
    assert heard[-1] == last.access_token != first.access_token and len(heard) == 3
    assert dev_provider.reuse_detected == []


@both
async def test_one_refresh_for_all(dev_provider, kind, tmp_path):
    """F5: ten requests with one expired token make one refresh, and all succeed."""
    async with table(kind, tmp_path) as storage:
        room = make_room(kind, dev_provider, storage=storage)
        visitors = [room.visitor() for _ in range(10)]
        for visitor in visitors:
            await visitor.get("/be/ada")
        await room.login(visitors[0])
        room.now += 3700
        dev_provider.expire_access_tokens()
        dev_provider.fault("token", faults.Hang())
        waiting = [asyncio.ensure_future(v.get("/me")) for v in visitors]
        await dev_provider.held()
        dev_provider.release()
        pages = await asyncio.gather(*waiting)
    assert [page.text for page in pages] == ["alice"] * 10
    assert grants(dev_provider) == ["authorization_code", "refresh_token"]


@both
@storages
async def test_refresh_fails(dev_provider, kind, where):
    """F2: a provider that fails is a 502; the token stays for the next request."""
    room = make_room(kind, dev_provider, where)
    visitor = room.visitor()
    await room.login(visitor)
    room.now += 3700
    dev_provider.expire_access_tokens()
    for fault in (faults.SERVER_ERROR, faults.HTML_PAGE, faults.Answer.json({})):
        dev_provider.fault("token", fault)
        page = await visitor.get("/me")
        assert page.status == 502 and "<h1>" in page.text
    assert (await visitor.get("/me")).text == "alice"


@both
@storages
async def test_refresh_is_refused(dev_provider, kind, where):
    """F1: a dead refresh token is deleted, and its receivers are told once."""
    room = make_room(kind, dev_provider, where)
    visitor, heard = room.visitor(), []
    await room.login(visitor)
    [issued] = dev_provider.tokens
    room.now += 3700
    dev_provider.revoke_tokens()

    def revoked(sender: Any, token: Any) -> None:
        heard.append(token["access_token"])

    with oauth_revoked.connected_to(revoked, room.blueprint):
        page = await visitor.get("/me", {"Accept": "text/html"})
        assert (page.status, page.location) == (302, "/login/dev?next=/me")
        assert (await visitor.get("/me")).text == "nobody"
    assert heard == [issued.access_token]
    assert grants(dev_provider) == ["authorization_code", "refresh_token"]


@both
@storages
async def test_expired_without_a_refresh_token(dev_provider, kind, where):
    """F9: an expired token that cannot be refreshed is no authorization."""
    dev_provider.policy.issue_refresh_token = False
    room = make_room(kind, dev_provider, where)
    visitor = room.visitor()
    await room.login(visitor)
    assert (await visitor.get("/me")).text == "alice"
    room.now += 3700
    page = await visitor.get("/me")
    assert (page.status, page.text) == (401, "nobody")
    assert grants(dev_provider) == ["authorization_code"]


@both
@storages
@pytest.mark.parametrize("refreshable", [True, False])
async def test_invalid_token(dev_provider, kind, where, refreshable):
    """A 401 that says so means one refresh and one more call, else the end."""
    dev_provider.policy.issue_refresh_token = refreshable
    room = make_room(kind, dev_provider, where)
    visitor = room.visitor()
    await room.login(visitor)
    [issued] = dev_provider.tokens
    issued.revoked = True
    assert (await visitor.get("/call")).text == ("200" if refreshable else "401")
    known = await visitor.get("/me")
    assert known.text == ("alice" if refreshable else "nobody")
    assert dev_provider.count("user") == (3 if refreshable else 1)


@both
@storages
async def test_any_other_401(dev_provider, kind, where):
    """F1: a 401 without `invalid_token` deletes nothing and refreshes nothing."""
    room = make_room(kind, dev_provider, where)
    visitor = room.visitor()
    await room.login(visitor)
    dev_provider.fault("user", faults.Answer.json({"message": "no"}, 401))
    assert (await visitor.get("/call")).text == "401"
    assert (await visitor.get("/me")).text == "alice"
    assert grants(dev_provider) == ["authorization_code"]


@both
@storages
async def test_revocation(dev_provider, kind, where):
    """`revoke_token` has the provider forget; when it fails the token stays."""
    room = make_room(kind, dev_provider, where)
    visitor = room.visitor()
    await room.login(visitor)
    dev_provider.fault("revoke", faults.SERVER_ERROR)
    assert (await visitor.get("/leave", method="POST")).status == 502
    assert (await visitor.get("/me")).text == "alice"
    assert (await visitor.get("/leave", method="POST")).text == "bye"
    assert (await visitor.get("/me")).text == "nobody"
    assert dev_provider.tokens == []


@both
@storages
async def test_set_and_delete(dev_provider, kind, where):
    """`set_token` replaces the whole token, `delete_token` forgets it."""
    room = make_room(kind, dev_provider, where)

    async def change() -> Any:
        await now(room.blueprint.set_token({**OLD, "extra": "1"}))
        await now(room.blueprint.set_token(OLD))
        found = dict(await now(room.blueprint.token))
        await now(room.blueprint.delete_token())
        await now(room.blueprint.delete_token())
        return {"found": found, "left": await now(room.blueprint.token)}

    room.page("/change", change)
    page = await room.visitor().get("/change")
    assert '"extra"' not in page.text and '"an-older-token"' in page.text
    assert '"left":null' in page.text.replace(" ", "")


@both
async def test_users(dev_provider, kind, tmp_path):
    """Each user has a token; a stranger has none; an account can be named."""
    async with table(kind, tmp_path) as storage:
        room = make_room(kind, dev_provider, storage=storage)

        async def named() -> Any:
            session = room.blueprint.session_for(user_id="bob")
            return (await now(session.get("user"))).json()["login"]

        room.page("/bob", named)
        ada, bob, stranger = (room.visitor() for _ in range(3))
        await ada.get("/be/ada")
        await bob.get("/be/bob")
        await room.login(ada, "alice")
        assert (await bob.get("/me")).text == "nobody"
        await room.login(bob, "bob")
        found = [(await visitor.get("/me")).text for visitor in (ada, bob, stranger)]
        assert found == ["alice", "bob", "nobody"]
        assert (await room.login(stranger)).status == 500
        assert (await stranger.get("/bob")).text == "bob"


@both
@pytest.mark.parametrize(
    "url",
    [
        "https://evil.test/",
        "//evil.test/",
        "http://provider.test/api/user",
        "https://provider.test:8443/api/user",
        "https://provider.test@evil.test/",
        "https://provider.test.evil.test/",
        "../user",
        "/users/\n",
        "/users/\0",
        pytest.param("/users/" + "a" * 70_000, id="long"),
        pytest.param("/" + "a" * 65_534, id="long below base_url"),
    ],
)
async def test_foreign_origin(dev_provider, kind, url):
    """R6: the token is not sent elsewhere; nothing is."""
    room = make_room(kind, dev_provider)

    async def astray() -> str:
        with pytest.raises(ForeignOriginError) as raised:
            await now(room.blueprint.session.get(url))
        return type(raised.value).__name__

    room.page("/astray", astray)
    visitor = room.visitor()
    await room.login(visitor)
    before = len(dev_provider.calls)
    assert (await visitor.get("/astray")).text == "ForeignOriginError"
    assert len(dev_provider.calls) == before
