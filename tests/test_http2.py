"""httpx over HTTP/2: requests, redirects, and many requests on one connection."""

import ssl
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from tuned_digest import Ed25519Signer
from tuned_digest.httpx import TunedDigestAuth

from .certificates import Certificate
from .field_server import verified
from .ledger import Ledger
from .serving import Served, serve_http2


@pytest.fixture
def http2(certificate: Certificate, ledger: Ledger) -> Iterator[Served]:
    """The verified application of `field_server`, over HTTP/2."""
    ledger.forwards_on_redirect = True
    server = serve_http2(verified(), certfile=certificate.path, keyfile=certificate.key_path)
    with ledger.watch(server) as served:
        yield served


@pytest.fixture
def options(certificate: Certificate, http2: Served, signer: Ed25519Signer) -> dict[str, Any]:
    """What a client of that server is made with."""
    trusted = ssl.create_default_context(cafile=certificate.path)
    auth = TunedDigestAuth(http2.url, signer)
    return {"http2": True, "verify": trusted, "auth": auth, "follow_redirects": True, "timeout": 30}


def test_a_chain_goes_over_http2(http2: Served, options: dict[str, Any]) -> None:
    """Over HTTP/2 requests with and without bodies are signed, redirected and chained."""
    with httpx.Client(**options) as client:
        for content in (None, b"bytes", iter([b"one ", b"two"])):
            response = client.patch(f"{http2.url}/echo?q=1", content=content)
            assert (response.status_code, response.http_version) == (200, "HTTP/2")
        response = client.patch(
            f"{http2.url}/redirect?status=307&to=/target", content=iter([b"one ", b"two"])
        )
        assert response.json()["size"] == 7
    assert http2.statuses == [401, 200, 200, 200, 307, 401, 200]


def test_requests_at_once_share_one_http2_connection(http2: Served, options: dict[str, Any]) -> None:
    """Sixteen requests on one connection at once carry sixteen nonces."""
    statuses: list[int] = []

    async def run() -> None:
        async with httpx.AsyncClient(**options) as client:

            async def send(number: int) -> None:
                statuses.append((await client.get(f"{http2.url}/{number}")).status_code)

            for _ in range(2):
                async with anyio.create_task_group() as group:
                    for number in range(16):
                        group.start_soon(send, number)

    anyio.run(run)
    assert statuses == [200] * 32
    assert http2.statuses.count(401) == 16
