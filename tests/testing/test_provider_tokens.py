"""What DevProvider has granted: rotation, revocation, policy, secrecy."""

from __future__ import annotations

import logging

import pytest
from by_hand import (
    Clock,
    call,
    code_form,
    exchange,
    new_code,
    new_token,
    post,
    refresh_form,
)

from quart_dance.testing import DevProvider, Person, faults

REVOKE = "https://provider.test/revoke"


async def test_rotation_and_reuse(dev_provider):
    """A spent refresh token that comes back kills the family (RFC 9700, 4.14.2)."""
    first = await new_token(dev_provider)
    response = await exchange(dev_provider, refresh_form(first["refresh_token"]))
    second = response.json()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await call(dev_provider, second["access_token"])).status_code == 200
    assert dev_provider.reuse_detected == []
    stolen = await exchange(dev_provider, refresh_form(first["refresh_token"]))
    assert stolen.json()["error"] == "invalid_grant"
    assert [t.refresh_token for t in dev_provider.reuse_detected] == [
        first["refresh_token"]
    ]
    assert (await call(dev_provider, second["access_token"])).status_code == 401
    last = await exchange(dev_provider, refresh_form(second["refresh_token"]))
    assert last.json()["error"] == "invalid_grant"


async def test_unknown_refresh_token(dev_provider):
    """A refresh token that was never issued is an invalid grant, and no reuse."""
    response = await exchange(dev_provider, refresh_form("guessed"))
    assert response.json()["error"] == "invalid_grant"
    assert dev_provider.reuse_detected == []


async def test_without_rotation():
    """Without rotation one refresh token serves again and again."""
    provider = DevProvider(rotate_refresh_tokens=False)
    token = await new_token(provider)
    for _ in range(3):
        form = refresh_form(token["refresh_token"])
        refreshed = (await exchange(provider, form)).json()
        assert "refresh_token" not in refreshed
    assert len(provider.tokens) == 4


async def test_refresh_scope(dev_provider):
    """A refresh may ask for less, not for more (RFC 6749, section 6)."""
    code = await new_code(dev_provider, scope="profile email")
    token = (await exchange(dev_provider, code_form(code))).json()
    more = refresh_form(token["refresh_token"], scope="profile admin")
    assert (await exchange(dev_provider, more)).json()["error"] == "invalid_scope"
    less = refresh_form(token["refresh_token"], scope="email")
    assert (await exchange(dev_provider, less)).json()["scope"] == "email"


async def test_policy(dev_provider):
    """What is granted may be changed while the provider runs."""
    dev_provider.policy.issue_refresh_token = False
    dev_provider.policy.expires_in = None
    assert sorted(await new_token(dev_provider)) == [
        "access_token",
        "scope",
        "token_type",
    ]
    dev_provider.policy.expires_in = 0
    token = await new_token(dev_provider)
    assert token["expires_in"] == 0
    assert (await call(dev_provider, token["access_token"])).status_code == 401


async def test_revocation(dev_provider):
    """An access token dies alone, a refresh token with its family (RFC 7009)."""
    token = await new_token(dev_provider)
    credentials = {"client_id": "dev-client-id", "client_secret": "dev-client-secret"}
    form = {"token": token["access_token"], "token_type_hint": "refresh_token"}
    assert (await post(dev_provider, REVOKE, form)).status_code == 401
    assert (await post(dev_provider, REVOKE, form | credentials)).status_code == 200
    assert (await call(dev_provider, token["access_token"])).status_code == 401
    form = refresh_form(token["refresh_token"])
    token = (await exchange(dev_provider, form)).json()
    form = {"token": token["refresh_token"], **credentials}
    assert (await post(dev_provider, REVOKE, form)).status_code == 200
    assert (await call(dev_provider, token["access_token"])).status_code == 401
    assert dev_provider.tokens == []
    unknown = {"token": "unknown", **credentials}
    assert (await post(dev_provider, REVOKE, unknown)).status_code == 200


async def test_controls():
    """A test lets tokens expire, and withdraws them, of one person or of all."""
    clock = Clock()
    provider = DevProvider(clock=clock)
    alice, bob = provider.issue_token(), provider.issue_token("bob", scope="email")
    assert bob["scope"] == "email"
    clock.now += 3599
    assert (await call(provider, bob["access_token"])).status_code == 200
    provider.expire_access_tokens("alice")
    assert (await call(provider, alice["access_token"])).status_code == 401
    assert (await call(provider, bob["access_token"])).status_code == 200
    clock.now += 1
    assert (await call(provider, bob["access_token"])).status_code == 401
    assert len(provider.tokens) == 2
    provider.revoke_tokens("bob")
    assert [token.person.login for token in provider.tokens] == ["alice"]
    provider.revoke_tokens()
    assert provider.tokens == []
    with pytest.raises(KeyError):
        provider.expire_access_tokens("nobody")


async def test_nothing_shared():
    """A token of one provider is nothing to another one."""
    one, two = DevProvider(), DevProvider(people=[Person(7, "eve", "Eve", "e@x.test")])
    token = await new_token(one)
    assert (await call(two, token["access_token"])).status_code == 401
    assert two.tokens == []
    assert len(two.calls) == 1


@pytest.mark.parametrize("url", ["provider.test", "https://p.test/oauth", "https://"])
def test_url_is_an_origin(url):
    """A provider lives at an origin."""
    with pytest.raises(ValueError, match="Not an origin"):
        DevProvider(url=url)


async def test_no_secret_is_shown(dev_provider, caplog):
    """Neither a repr nor a log line shows a token, a code or a secret."""
    caplog.set_level(logging.DEBUG, logger="authlib")
    code = await new_code(dev_provider)
    token = (await exchange(dev_provider, code_form(code))).json()
    await exchange(dev_provider, refresh_form(token["refresh_token"]))
    dev_provider.fault("token", faults.Answer.json({"access_token": "in-a-fault"}))
    shown = [
        repr(thing)
        for thing in (
            dev_provider,
            dev_provider.calls,
            dev_provider.tokens,
            dev_provider.policy,
            faults.Answer.json({"access_token": "in-a-fault"}),
        )
    ]
    text = "\n".join([*shown, caplog.text])
    assert "Issue token" in text
    secrets = [t.access_token for t in dev_provider.tokens]
    secrets += [token["access_token"], token["refresh_token"]]
    for secret in [*secrets, code, "dev-client-secret", "in-a-fault"]:
        assert secret not in text
