"""TLS to the provider is verified, unless a blueprint says otherwise."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from quart import Quart

from quart_dance.consumer import OAuth2ConsumerBlueprint
from quart_dance.consumer.storage import MemoryStorage

TOKEN = {"access_token": "at-1", "token_type": "bearer"}


@pytest.fixture
async def tls_server(tmp_path: Path) -> AsyncIterator[tuple[str, ssl.SSLContext]]:
    """Serve one JSON answer over TLS, with a certificate that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    start = datetime.datetime(2020, 1, 1)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, start)
        .not_valid_after(start.replace(year=2099))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    here.load_cert_chain(pem)

    async def answer(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        )
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "localhost", 0, ssl=here) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"https://localhost:{port}", ssl.create_default_context(cafile=pem)


async def test_verify(tls_server: tuple[str, ssl.SSLContext]) -> None:
    """`verify` stays on, takes the context of a private certificate, or False."""
    url, known = tls_server
    app = Quart(__name__)
    storage = MemoryStorage(TOKEN)
    blueprints = []
    for name, options in {"default": {}, "known": {"verify": known}}.items():
        given: Any = {"base_url": url, "storage": storage, **options}
        blueprints.append(OAuth2ConsumerBlueprint(name, __name__, **given))
    off = OAuth2ConsumerBlueprint(
        "off", __name__, base_url=url, storage=storage, verify=False
    )
    for blueprint in (*blueprints, off):
        app.register_blueprint(blueprint)
    async with app.app_context():
        with pytest.raises(httpx2.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await blueprints[0].session.get("/")
        assert (await blueprints[1].session.get("/")).status_code == 200
        assert (await off.session.get("/")).status_code == 200
        for blueprint in (*blueprints, off):
            await blueprint.aclose()
