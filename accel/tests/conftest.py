"""What all tests share."""

import pytest

import tuned_digest_native as native


@pytest.fixture(autouse=True)
def _nothing_kept():
    """Begin every test without memory kept by another."""
    native.release()
