"""Several applications in one process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from quart import Quart
from support import Transport, Visitor, make_client_app, query

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.testing import DevProvider

TOKEN = {"access_token": "at-1", "token_type": "bearer"}


def make_apps(
    *providers: DevProvider, **options: Any
) -> tuple[OAuth2ConsumerBlueprint, list[Quart]]:
    """Return one blueprint in as many applications, one for each provider."""
    given = {**providers[0].options(), "client_id": None, **options}
    blueprint = OAuth2ConsumerBlueprint("dev", __name__, **given)
    blueprint.from_config["client_id"] = "DEV_CLIENT_ID"
    apps = []
    for number, provider in enumerate(providers):
        app = Quart(f"app{number}")
        app.secret_key = f"the secret key of app {number}"
        app.config["DEV_CLIENT_ID"] = provider.options()["client_id"]
        app.register_blueprint(blueprint, url_prefix=f"/in{number}")
        provider.install(app)
        apps.append(app)

        @app.get("/me")
        async def me() -> Any:
            return (await blueprint.session.get("user")).json()["login"]

    return blueprint, apps


async def test_one_blueprint_in_two_applications() -> None:
    """S15: each application has its own config, URLs, tokens and connections."""
    providers = [DevProvider(client_id="one"), DevProvider(client_id="two")]
    blueprint, apps = make_apps(*providers)
    before = dict(vars(blueprint)["_given"])
    visitors = [Visitor(app) for app in apps]
    people = ("alice", "bob")
    for number, (visitor, provider) in enumerate(zip(visitors, providers, strict=True)):
        path = f"/in{number}/dev"
        sent = query(await visitor.start(path))
        assert sent["client_id"] == ("one", "two")[number]
        assert sent["redirect_uri"] == f"https://app.test{path}/authorized"
        response = await visitor.login(provider, people[number], path)
        assert response.status_code == 302
    for visitor, person in zip(visitors, people, strict=True):
        assert await (await visitor.get("/me")).get_data() == person.encode()
    assert [provider.count("user") for provider in providers] == [1, 1]
    assert vars(blueprint)["_given"] == before


async def test_an_attempt_belongs_to_its_application() -> None:
    """C8, S15: an attempt that one application began is nothing to another."""
    provider = DevProvider()
    _, apps = make_apps(provider, provider)
    first, second = (Visitor(app) for app in apps)
    callback = await provider.approve(await first.start("/in0/dev"))
    second.client.cookie_jar = first.client.cookie_jar
    response = await second.get(callback.replace("/in0/", "/in1/"))
    assert response.status_code == 400
    assert provider.count("token") == 0
    assert (await first.get(callback)).status_code == 302


async def test_states_are_used_up_by_each_application_for_itself() -> None:
    """S15: clocks, used states, tasks and pools live in `app.extensions`."""
    _, apps = make_apps(DevProvider(), DevProvider())
    first, second = map(runtime, apps)
    assert first is not second
    assert first is runtime(apps[0])
    assert first.used_states is not second.used_states
    assert first.refreshed is not second.refreshed
    assert first.here is not second.here


async def test_two_applications_with_blueprints_of_one_name() -> None:
    """S15: the same name in two applications is two blueprints, and two sessions."""
    transports = [Transport(), Transport()]
    pairs = [
        make_client_app(transport, storage=MemoryStorage({"access_token": f"at-{n}"}))
        for n, transport in enumerate(transports)
    ]

    async def call(app: Quart, blueprint: Any) -> None:
        async with app.app_context():
            await blueprint.session.get("/user")

    await asyncio.gather(*(call(*pair) for pair in pairs * 3))
    for number, transport in enumerate(transports):
        seen = [request.headers["Authorization"] for request in transport.requests]
        assert seen == [f"Bearer at-{number}"] * 3


class Pool(Transport):
    """Knows whether it was closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1


async def test_pools_are_closed_when_an_application_stops() -> None:
    """S14: connections are opened at first use and closed when serving ends."""
    transports = [Pool(), Pool()]
    (first, one), (second, two) = (
        make_client_app(transport, storage=MemoryStorage(TOKEN))
        for transport in transports
    )
    async with second.app_context():
        await two.session.get("/user")
        async with first.test_app():
            async with first.app_context():
                await one.session.get("/user")
            assert [transport.closed for transport in transports] == [0, 0]
        assert [transport.closed for transport in transports] == [1, 0]
        assert (await two.session.get("/user")).status_code == 200
        await two.aclose()
    assert [transport.closed for transport in transports] == [1, 1]


async def test_a_script_closes_one_blueprint() -> None:
    """`aclose` closes the connections of its own blueprint, and may be repeated."""
    transport = Pool()
    app, blueprint = make_client_app(transport, storage=MemoryStorage(TOKEN))
    async with app.app_context():
        await blueprint.aclose()
        await blueprint.session.get("/user")
        await blueprint.aclose()
        await blueprint.aclose()
        assert transport.closed == 1
        await blueprint.session.get("/user")
    await blueprint.aclose(app)
    assert transport.closed == 2


def test_an_application_in_two_event_loops() -> None:
    """S14: each event loop has its own connections."""
    transport = Pool()
    app, blueprint = make_client_app(transport, storage=MemoryStorage(TOKEN))

    async def work() -> int:
        async with app.app_context():
            response = await blueprint.session.get("/user")
            await blueprint.aclose()
            return response.status_code

    assert [asyncio.run(work()) for _ in range(2)] == [200, 200]
    assert transport.closed == 2


@pytest.mark.parametrize("count", [1, 2])
async def test_one_set_of_hooks(count: int) -> None:
    """Hooks are installed once for each application, however many blueprints."""
    app = Quart(__name__)
    for number in range(count):
        app.register_blueprint(
            OAuth2ConsumerBlueprint(f"dev{number}", __name__),
            url_prefix=f"/{number}",
        )
    assert len(app.after_serving_funcs) == 1
    assert len(app.after_request_funcs[None]) == 1
