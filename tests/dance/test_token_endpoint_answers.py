"""What a token endpoint may answer, and how we say who we are."""

from __future__ import annotations

import base64
import gzip
import math
import zlib
from secrets import token_urlsafe

import pytest
from failures import failed_login, make_stage, stored_token
from support import Visitor

from quart_dance.consumer.runtime import runtime
from quart_dance.consumer.storage import MemoryStorage
from quart_dance.errors import ConfigurationError, TokenTooLargeError
from quart_dance.testing import DevProvider
from quart_dance.testing.faults import Altered, Answer, FormEncoded

NOW = 1_800_000_000.0
JSON = {"Content-Type": "application/json"}


async def token_after(fault, **options):
    """Log somebody in with a fault and return the token that is stored then."""
    provider = DevProvider(clock=lambda: NOW)
    app, _ = make_stage(provider, **options)
    runtime(app).clock = lambda: NOW
    visitor = Visitor(app)
    provider.fault("token", fault)
    response = await visitor.login(provider)
    assert response.status_code == 302, await response.get_data(as_text=True)
    assert provider.count("token") == 1
    return await stored_token(visitor)


async def test_form_encoded_answer():
    """T3: a form is read like JSON, its numbers too; we did ask for JSON."""
    provider = DevProvider()
    app, _ = make_stage(provider)
    visitor = Visitor(app)
    provider.fault("token", FormEncoded())
    await visitor.login(provider)
    token = await stored_token(visitor)
    assert token["token_type"] == "Bearer"
    assert token["expires_in"] == 3600
    assert provider.calls[-1].headers["Accept"] == "application/json"
    assert await (await visitor.get("/me")).get_data(as_text=True) == "alice"


@pytest.mark.parametrize("token_type", ["Bearer", "BEARER", "bEARER"])
async def test_bearer_in_any_case(token_type):
    """T5: the type is compared without case and stored as told."""
    token = await token_after(Altered({"token_type": token_type}))
    assert token["token_type"] == token_type


async def test_a_missing_type_means_bearer():
    """T5: a token without a type is used as a bearer token; none is made up."""
    assert "token_type" not in await token_after(Altered(without=["token_type"]))


async def test_another_type_on_request():
    """T5: a blueprint may say which types it can use."""
    fault = Altered({"token_type": "mac"})
    token = await token_after(fault, token_types=("bearer", "mac"))
    assert token["token_type"] == "mac"


@pytest.mark.parametrize(
    ("value", "expires_in"), [(3600, 3600), ("3600", 3600), (3600.7, 3600), (0, 0)]
)
async def test_life_of_a_token(value, expires_in):
    """T6 T7: the end is computed from our clock, whatever the provider says of it."""
    token = await token_after(Altered({"expires_in": value, "expires_at": 1}))
    assert token["expires_in"] == expires_in
    assert token["expires_at"] == 1_800_000_000 + expires_in


@pytest.mark.parametrize(
    "value",
    [-1, "abc", "", [1], {}, None, math.nan, math.inf, -math.inf, 1e30, 10**400, True],
)
@pytest.mark.parametrize("end", [1, "soon", 9_999_999_999])
async def test_unknown_life_of_a_token(value, end):
    """T6 T7: nonsense means that the end is unknown; the provider's own is ignored."""
    token = await token_after(Altered({"expires_in": value, "expires_at": end}))
    assert token["access_token"]
    assert "expires_in" not in token
    assert "expires_at" not in token


@pytest.mark.parametrize("value", [0, "0", 0.9])
async def test_a_life_of_nothing_has_ended(value):
    """T6: expires_in 0 means expired, not for ever: nobody could use it."""
    provider = DevProvider(issue_refresh_token=False)
    app, _ = make_stage(provider)
    visitor = Visitor(app)
    provider.fault("token", Altered({"expires_in": value}))
    assert (await visitor.login(provider)).status_code == 502
    assert (await visitor.get("/me")).status_code == 401


@pytest.mark.parametrize("size", [999_999, 1_000_000])
async def test_a_large_answer(size):
    """T8: a million bytes pass."""
    start = b'{"access_token":"a","x":"'
    content = start + b"x" * (size - len(start) - 2) + b'"}'
    assert len(content) == size
    token = await token_after(Answer(200, content, JSON), storage=MemoryStorage())
    assert len(token["x"]) == size - 27


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("gzip", gzip.compress), ("GZip ", gzip.compress), ("deflate", zlib.compress)],
)
async def test_a_compressed_answer(encoding, compress):
    """T8: we ask for no compression, and read it if it comes all the same."""
    content = compress(b'{"access_token":"squeezed"}')
    fault = Answer(200, content, {**JSON, "Content-Encoding": encoding})
    assert (await token_after(fault))["access_token"] == "squeezed"


@pytest.mark.parametrize("scope", ["", "profile", "profile admin", ["a"], None])
async def test_scope_is_stored_as_told(scope):
    """T12: an empty, narrower, wider or odd scope is what the application sees."""
    token = await token_after(Altered({"scope": scope}), scope="profile email")
    assert token["scope"] == scope


async def test_a_missing_scope_is_not_made_up():
    """T12: where the provider is silent about the scope, so are we."""
    token = await token_after(Altered(without=["scope"]), scope="profile email")
    assert "scope" not in token


@pytest.mark.parametrize("storage", [MemoryStorage, None])
async def test_unknown_members_are_kept(storage):
    """T13: whatever else is in the answer is stored."""
    extra = {"id_token": "e30.e30.", "ünknown": {"deep": ["✓", None, 1.5]}}
    token = await token_after(Altered(extra), storage=storage)
    assert {name: token[name] for name in extra} == extra


async def test_large_tokens_in_a_storage_on_the_server():
    """T13: 4 kB of access token and 8 kB of ID token are kept as they are."""
    large = {"access_token": "a" * 4096, "id_token": "i" * 8192}
    token = await token_after(Altered(large), storage=MemoryStorage())
    assert (token["access_token"], token["id_token"]) == ("a" * 4096, "i" * 8192)


@pytest.mark.parametrize("name", ["access_token", "id_token"])
async def test_a_token_too_large_for_the_cookie(dev_provider, name):
    """T13 T14 L2: it is refused before the older login is lost; nobody sees it."""
    app, blueprint = make_stage(dev_provider)
    newcomer, regular = Visitor(app), Visitor(app)
    await regular.login(dev_provider)
    older = await stored_token(regular)
    for visitor in (newcomer, regular):
        dev_provider.fault("token", Altered({name: "leak-me" + token_urlsafe(3072)}))
        error = await failed_login(visitor, dev_provider, blueprint, person="bob")
        assert type(error) is TokenTooLargeError
        assert error.status == 500
        assert "4093" in str(error)
    assert await stored_token(newcomer) is None
    assert await stored_token(regular) == older
    assert await (await regular.get("/me")).get_data(as_text=True) == "alice"


ODD = [
    ("s6BhdRkqt3", "gX1fBat3bV"),
    ("a:b", "c:d:"),
    ("a%3Ab", "100%"),
    ("a+b c", "+ +"),
    ("ü", "✓"),
    (" %&+£€", "=&?#/~*'\""),
]


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
@pytest.mark.parametrize(("client_id", "client_secret"), ODD)
async def test_odd_client_credentials(client_id, client_secret, method):
    """T11: any characters pass, encoded as RFC 6749, 2.3.1, says."""
    provider = DevProvider(client_id=client_id, client_secret=client_secret)
    app, _ = make_stage(provider, token_endpoint_auth_method=method)
    visitor = Visitor(app)
    assert (await visitor.login(provider)).status_code == 302
    assert await (await visitor.get("/me")).get_data(as_text=True) == "alice"
    sent = provider.calls[-2]
    assert ("Authorization" in sent.headers) == (method == "client_secret_basic")
    assert sent.form.getlist("client_secret") == (
        [client_secret] if method == "client_secret_post" else []
    )


@pytest.mark.parametrize("client_id", [client_id for client_id, _ in ODD])
async def test_public_client(client_id):
    """T11: a public client is known by its id alone."""
    provider = DevProvider(client_id=client_id, client_secret=None)
    app, _ = make_stage(provider, token_endpoint_auth_method="none")
    assert (await Visitor(app).login(provider)).status_code == 302
    sent = provider.calls[-1]
    assert sent.form["client_id"] == client_id
    assert "client_secret" not in sent.form
    assert "Authorization" not in sent.headers


def raw_basic(client, method, uri, headers, body):
    """Authenticate as some providers want it: nothing is encoded before base64."""
    text = f"{client.client_id}:{client.client_secret}".encode()
    headers["Authorization"] = f"Basic {base64.b64encode(text).decode()}"
    return uri, headers, body


async def test_a_method_of_ones_own(dev_provider):
    """T11: a function authenticates the client as it likes."""
    app, _ = make_stage(dev_provider, token_endpoint_auth_method=raw_basic)
    assert (await Visitor(app).login(dev_provider)).status_code == 302
    sent = dev_provider.calls[-1].headers["Authorization"]
    assert sent == "Basic ZGV2LWNsaWVudC1pZDpkZXYtY2xpZW50LXNlY3JldA=="


async def test_a_method_of_ones_own_is_not_corrected():
    """T11 L2: what it sends is sent as it is; the provider judges, nobody sees it."""
    provider = DevProvider(client_id="a:b", client_secret="ü✓%+ leak-me")
    app, blueprint = make_stage(provider, token_endpoint_auth_method=raw_basic)
    error = await failed_login(Visitor(app), provider, blueprint)
    assert (error.error, error.status_code) == ("invalid_client", 401)
    sent = provider.calls[-1].headers["Authorization"]
    assert base64.b64decode(sent[6:]).decode() == "a:b:ü✓%+ leak-me"


async def test_an_unknown_method_is_a_mistake_in_the_configuration(dev_provider):
    """T11: it is told at the login, not after the visitor has consented."""
    app, _ = make_stage(dev_provider, token_endpoint_auth_method="client_secret_jwt")
    app.register_error_handler(ConfigurationError, lambda error: (str(error), 500))
    response = await Visitor(app).get("/login/dev")
    assert response.status_code == 500
    assert await response.get_data(as_text=True) == (
        "token_endpoint_auth_method of 'dev' is a function or one of "
        "client_secret_basic, client_secret_post, none"
    )
