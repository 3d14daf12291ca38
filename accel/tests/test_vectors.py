"""The worked requests of the project, and RFC 9106's ranges."""

import base64
import json
from pathlib import Path

import pytest

import tuned_digest_native as native

VECTORS = json.loads((Path(__file__).parents[2] / "tests" / "vectors.json").read_text())


def unpadded(text):
    """Read base64 without padding."""
    return base64.b64decode(text + "=" * (-len(text) % 4))


def parameters(algorithm):
    """Read an Argon2 tuning in PHC form."""
    _, variant, version, costs = algorithm.split("$")
    assert version == "v=19"
    m, t, p = (int(cost.partition("=")[2]) for cost in costs.split(","))
    return {"variant": variant, "memory_kib": m, "passes": t, "lanes": p}


@pytest.mark.parametrize("vector", VECTORS["argon2"], ids=lambda vector: vector["name"])
@pytest.mark.parametrize("threads", [1, 2])
def test_argon2(vector, threads):
    """The hash of a worked request is the one it was answered with."""
    salt, _, digest = vector["response"].partition("$")
    answer = native.argon2(
        vector["request_string"].encode(), unpadded(salt), **parameters(vector["algorithm"]), threads=threads
    )
    assert answer == unpadded(digest)


@pytest.mark.parametrize("vector", VECTORS["blake3"], ids=lambda vector: vector["name"])
@pytest.mark.parametrize("threads", [1, 2])
def test_search(vector, threads):
    """The number found for a worked request is the one it was answered with, and holds."""
    string, bits = vector["request_string"].encode(), int(vector["algorithm"].partition("$")[2])
    n = int(vector["response"].split("$")[1])
    assert native.search(string, bits=bits, threads=threads) == n
    assert native.search_holds(string, n, bits=bits)
    assert native.search(string, bits=bits, threads=threads, candidates=n) is None
