"""Fixtures that more than one file of tests uses."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tuned_digest import Ed25519Signer
from tuned_digest.server.blobs import blobs_application

from .serving import QUICK, QUICK_CREATE, Served, serve

# A busy machine is no failure: bounds on time are no test's business here.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.fixture
def signer() -> Ed25519Signer:
    """A key of its own for each test."""
    return Ed25519Signer.generate()


@pytest.fixture
def blobs() -> Iterator[Served]:
    """The blob store of ``tuned-digest serve`` under quick tunings, on a real socket."""
    with serve(blobs_application(access=QUICK, create=QUICK_CREATE)) as served:
        yield served
