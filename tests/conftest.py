"""Fixtures that more than one file of tests uses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tuned_digest import Ed25519Signer, proof
from tuned_digest._cli.blobs import blobs_application
from tuned_digest.proof import argon2, search
from tuned_digest.proof.engines import Portable

from .certificates import Certificate, make_certificate
from .clients import CLIENTS, Client, Connect
from .field_server import verified
from .jose_library import jose
from .ledger import Ledger
from .postgres_server import own_postgres_server, postgres_server
from .redis_servers import launch, redis_server, valkey_server
from .serving import QUICK, QUICK_CREATE, Served, serve

__all__ = [
    "jose",
    "launch",
    "own_postgres_server",
    "postgres_server",
    "redis_server",
    "valkey_server",
]  # fixtures

# A busy machine is no failure: bounds on time are no test's business here.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.fixture
def signer() -> Ed25519Signer:
    """A key of its own for each test."""
    return Ed25519Signer.generate()


@pytest.fixture
def portable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine of plain Python, also where the native companion is installed."""
    for module in (proof, argon2, search):
        monkeypatch.setattr(module, "chosen", Portable)


@pytest.fixture
def blobs() -> Iterator[Served]:
    """The blob store of ``tuned-digest serve`` under quick tunings, on a real socket."""
    with serve(blobs_application(access=QUICK, create=QUICK_CREATE)) as served:
        yield served


@pytest.fixture
def ledger() -> Ledger:
    """The nonces that the servers watched in this test received."""
    return Ledger()


@pytest.fixture(params=CLIENTS)
def connect(request: pytest.FixtureRequest, ledger: Ledger) -> Connect:
    """Connect one client after the other."""
    connect: Connect = CLIENTS[request.param]

    @contextmanager
    def connecting(*arguments: Any, **options: Any) -> Iterator[Client]:
        with connect(*arguments, **options) as client:
            ledger.forwards_on_redirect |= client.forwards_on_redirect
            yield client

    return connecting


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for the names that tests use."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def server() -> Iterator[Served]:
    """The verified application of `field_server`."""
    with serve(verified()) as served:
        yield served


@pytest.fixture
def client(connect: Connect, server: Served, signer: Ed25519Signer) -> Iterator[Client]:
    """A client of that application."""
    with connect(server.url, signer) as client:
        yield client
