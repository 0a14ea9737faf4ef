"""SessionStorage on sessions that Quart-Session keeps in Redis."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from quart import jsonify, session
from quart_session import Session
from redises import connected
from support import Visitor, make_app

from quart_dance.consumer import oauth_authorized
from quart_dance.consumer.runtime import runtime
from quart_dance.testing import faults

# Of what redis-py has given up Quart-Session still calls some.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
LONG = "".join(chr(ord("a") + n * n % 26) for n in range(8000))


@asynccontextmanager
async def process(provider, url, prefix):
    """Give an application, and its blueprint, as one process of several has it."""
    app, blueprint = make_app(provider)
    app.config.update(SESSION_TYPE="redis", SESSION_URI=url, SESSION_KEY_PREFIX=prefix)
    Session(app)

    @app.get("/token")
    async def token():
        return jsonify(await blueprint.session.token)

    @app.get("/logout")
    async def logout():
        await blueprint.delete_token()
        return ""

    async with app.test_app():
        yield app, blueprint
    await app.session_interface.backend.aclose()


@pytest_asyncio.fixture
async def here(dev_provider, redis_url, redis_prefix):
    """Give an application."""
    async with process(dev_provider, redis_url, redis_prefix) as here:
        yield here


@pytest_asyncio.fixture
async def there(dev_provider, redis_url, redis_prefix):
    """Give the same application in another process."""
    async with process(dev_provider, redis_url, redis_prefix) as there:
        yield there


@pytest_asyncio.fixture
async def redis(redis_url):
    """Give a client that looks into the Redis of the test."""
    async with connected(redis_url) as client:
        yield client


async def token_of(visitor):
    """Return a visitor's token."""
    return await (await visitor.get("/token")).get_json()


async def who(visitor):
    """Return who somebody is at the provider."""
    return await (await visitor.get("/me")).get_data(as_text=True)


def elsewhere(visitor, app):
    """Return the same browser at another process."""
    other = Visitor(app, visitor.host)
    other.client.cookie_jar = visitor.client.cookie_jar
    return other


async def kept(redis, prefix):
    """Return all that the sessions hold, as text."""
    keys = await redis.keys(prefix + "*")
    return [(await redis.get(key)).decode() for key in keys]


async def test_login_refresh_logout(here, dev_provider, redis, redis_prefix):
    """T13, L6: A token of any size is kept, and nothing of it in the browser."""
    app, blueprint = here
    dev_provider.fault("token", faults.Altered({"id_token": LONG}))
    visitor = Visitor(app)
    assert (await visitor.login(dev_provider)).status_code == 302
    token = await token_of(visitor)
    assert token["id_token"] == LONG
    sent = "".join(f"{name}={value}" for name, value in visitor.cookies.items())
    assert len(sent) < 200
    for secret in (token["access_token"], token["refresh_token"], LONG):
        assert secret[:8] not in sent
    runtime(app).clock = lambda: time.time() + 3600
    dev_provider.expire_access_tokens()
    assert await who(visitor) == "alice"
    assert dev_provider.count("token") == 2
    newest = dev_provider.tokens[-1]
    assert (await token_of(visitor))["refresh_token"] == newest.refresh_token
    (text,) = await kept(redis, redis_prefix)
    assert newest.access_token in text and LONG in text
    await visitor.get("/logout")
    assert await token_of(visitor) is None
    assert newest.access_token not in "".join(await kept(redis, redis_prefix))


async def test_two_processes(here, there, dev_provider):
    """S12: What one process does to a session the other one sees at once."""
    visitor = Visitor(here[0])
    await visitor.login(dev_provider)
    other = elsewhere(visitor, there[0])
    assert await who(other) == "alice"
    runtime(there[0]).clock = lambda: time.time() + 3600
    dev_provider.expire_access_tokens()
    assert await who(other) == "alice"
    assert await who(visitor) == "alice"
    assert dev_provider.count("token") == 2
    await visitor.get("/logout")
    assert await who(other) == "nobody"
    assert await who(Visitor(here[0])) == "nobody"


async def test_requests_at_once(here, dev_provider):
    """F5: Requests of one browser at once, at one process, refresh its token once."""
    app, _ = here
    visitor = Visitor(app)
    await visitor.login(dev_provider)
    runtime(app).clock = lambda: time.time() + 3600
    dev_provider.expire_access_tokens()
    assert await asyncio.gather(*(who(visitor) for _ in range(20))) == ["alice"] * 20
    assert dev_provider.count("token") == 2
    assert await who(visitor) == "alice"
    assert dev_provider.reuse_detected == []


async def test_two_processes_at_once(here, there, dev_provider):
    """F5: Processes do not wait for each other: each refreshes, and all succeed.

    All of that if the provider takes a refresh token more than once.
    """
    dev_provider.policy.rotate_refresh_tokens = False
    visitor = Visitor(here[0])
    await visitor.login(dev_provider)
    other = elsewhere(visitor, there[0])
    for app, _ in (here, there):
        runtime(app).clock = lambda: time.time() + 3600
    dev_provider.expire_access_tokens()
    dev_provider.fault("token", faults.Hang(), times=2)
    asked = asyncio.gather(who(visitor), who(other))
    await dev_provider.held(2)
    dev_provider.release()
    assert await asked == ["alice", "alice"]
    assert dev_provider.count("token") == 3
    assert await who(visitor) == await who(other) == "alice"


async def test_a_session_that_somebody_else_began(here, dev_provider):
    """C21: With a new id at login, who planted the old one gets nothing."""
    app, blueprint = here

    @app.get("/begin")
    async def begin():
        session["seen"] = True
        return ""

    attacker, victim = Visitor(app), Visitor(app)
    await attacker.get("/begin")
    for cookie in attacker.client.cookie_jar:
        victim.client.cookie_jar.set_cookie(cookie)

    async def renew(sender, token):
        session.sid = secrets.token_urlsafe(32)

    with oauth_authorized.connected_to(renew, blueprint):
        await victim.login(dev_provider)
    assert await who(victim) == "alice"
    assert await who(attacker) == "nobody"
    # Without it the session is the attacker's, too.
    victim.client.cookie_jar = attacker.client.cookie_jar
    await victim.login(dev_provider)
    assert await who(attacker) == "alice"


@pytest.mark.parametrize("garbage", ["", "nonsense", "[]", '{"dev_oauth_token": 7}'])
async def test_garbage(here, dev_provider, redis, redis_prefix, garbage):
    """S12: A session that does not hold a token authorizes nobody."""
    visitor = Visitor(here[0])
    await visitor.login(dev_provider)
    (key,) = await redis.keys(redis_prefix + "*")
    await redis.set(key, garbage)
    assert await who(visitor) == "nobody"
    await visitor.login(dev_provider)
    assert await who(visitor) == "alice"


async def test_down_and_up(own_redis, dev_provider):
    """S12: Without Redis there is no session: a page fails, nobody is let in."""
    async with process(dev_provider, own_redis.url, "session:") as (app, _):
        visitor = Visitor(app)
        await visitor.login(dev_provider)
        await asyncio.to_thread(own_redis.kill)
        app.testing = True  # then Quart answers in place of the server
        assert (await visitor.get("/me")).status_code == 500
        app.testing = False
        await asyncio.to_thread(own_redis.start)
        assert await who(visitor) == "nobody"  # it was in memory only
        await visitor.login(dev_provider)
        assert await who(visitor) == "alice"
