"""The search against another implementation of BLAKE3, and how it is watched, stopped and refused."""

import threading
import time

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

import tuned_digest_native as native

OUT_OF_RANGE = r"not (an Argon2 variant|-?\d+)$|is not an|out of range"


def reaches(string, n, bits):
    """Say what a verifier says."""
    digest = blake3(string + n.to_bytes(4, "little")).digest(length=4)
    return int.from_bytes(digest, "big") >> (32 - bits) == 0


def smallest(string, bits, candidates):
    """Find the number the slow way."""
    return next((n for n in range(candidates) if reaches(string, n, bits)), None)


def text(length, seed=0):
    """Make a string that differs in every part."""
    return bytes((i * 7 + i // 251 + seed) % 256 for i in range(length))


@pytest.mark.parametrize("chunk", range(6))
def test_every_length(chunk):
    """Whatever blocks and chunks the number falls into, the smallest is found, and holds."""
    lengths = [*range(68), *range(120, 132), *range(500, 520), *range(948, 1024)]
    for length in (chunk * 1024 + rest for rest in lengths):
        string = text(length)
        n = native.search(string, bits=4, threads=1)
        assert n == smallest(string, 4, 1000), length
        assert native.search_holds(string, n, bits=4)


@settings(max_examples=100, deadline=None)
@given(
    string=st.binary(max_size=200) | st.integers(0, 5000).map(text),
    bits=st.integers(1, 10),
    candidates=st.integers(0, 3000),
    threads=st.integers(1, 4),
)
def test_smallest(string, bits, candidates, threads):
    """The smallest number is found, or that there is none below the bound."""
    found = native.search(string, bits=bits, threads=threads, candidates=candidates)
    assert found == smallest(string, bits, candidates)


@settings(max_examples=200, deadline=None)
@given(string=st.binary(max_size=3000), n=st.integers(0, 2**32 - 1), bits=st.integers(1, 32))
def test_holds(string, n, bits):
    """A number holds when its digest says so."""
    assert native.search_holds(string, n, bits=bits) == reaches(string, n, bits)


def test_cost_20_on_several_threads():
    """Threads together find what one finds, and no smaller number will do."""
    for seed in range(4):
        string = text(110, seed)
        n = native.search(string, bits=18, threads=1)
        assert native.search(string, bits=18, threads=4) == n
        assert reaches(string, n, 18)
        assert native.search(string, bits=18, threads=4, candidates=n) is None
        assert native.search(string, bits=18, threads=4, first=n) == n
        following = native.search(string, bits=18, threads=4, first=n + 1)
        assert following is not None
        assert following > n
        assert native.search(string, bits=18, threads=1, first=n, candidates=n) is None


@pytest.mark.parametrize("length", [110, 1022])
def test_watched_and_cancelled(length):
    """The candidates tried can be read meanwhile, and a cancelled search stops soon."""
    job = native.Job()
    stopped = []

    def search():
        with pytest.raises(native.Cancelled):
            native.search(text(length), bits=32, threads=2, job=job)
        stopped.append(time.perf_counter())

    thread = threading.Thread(target=search)
    thread.start()
    time.sleep(0.1)
    early = job.tried
    time.sleep(0.1)
    assert 0 < early < job.tried
    cancelled = time.perf_counter()
    job.cancel()
    thread.join(10)
    assert stopped[0] - cancelled < 1  # second; a millisecond where the cores are free


def test_counts_what_it_tried():
    """All candidates are counted when none will do, and those up to the number when one will."""
    job = native.Job()
    assert native.search(b"string", bits=32, threads=2, candidates=100_000, job=job) is None
    assert job.tried == 100_000
    job = native.Job()
    n = native.search(b"string", bits=8, threads=1, job=job)
    assert job.tried == n + 1


@pytest.mark.parametrize(
    "wrong",
    [{"bits": 0}, {"bits": 33}, {"bits": -1}, {"threads": 0}, {"candidates": -1}, {"candidates": 2**32 + 1}],
    ids=str,
)
def test_outside_the_ranges(wrong):
    """An argument out of range is a ValueError."""
    with pytest.raises(ValueError, match=OUT_OF_RANGE):
        native.search(b"string", **{"bits": 1, "threads": 1} | wrong)


@pytest.mark.parametrize(("n", "bits"), [(0, 0), (0, 33), (-1, 1), (2**32, 1)])
def test_holds_outside_the_ranges(n, bits):
    """A number or bits out of range are a ValueError."""
    with pytest.raises(ValueError, match=OUT_OF_RANGE):
        native.search_holds(b"string", n, bits=bits)
