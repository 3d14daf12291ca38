"""Argon2 against another implementation, and how it is stopped and refused."""

import threading
import time

import pytest
from argon2.low_level import Type, hash_secret_raw
from hypothesis import given, settings
from hypothesis import strategies as st

import tuned_digest_native as native

OUT_OF_RANGE = r"not (an Argon2 variant|-?\d+)$|is not an|out of range"

TYPES = {"argon2d": Type.D, "argon2i": Type.I, "argon2id": Type.ID}
SMALL = {"variant": "argon2d", "memory_kib": 8, "passes": 1, "lanes": 1, "threads": 1}
ENDLESS = {"variant": "argon2d", "memory_kib": 16384, "passes": 2**32 - 1, "lanes": 4}


@settings(max_examples=150, deadline=None)
@given(
    password=st.binary(max_size=300),
    salt=st.binary(min_size=8, max_size=48),
    variant=st.sampled_from(sorted(TYPES)),
    lanes=st.integers(1, 20),
    extra_kib=st.integers(0, 2500),
    passes=st.integers(1, 4),
    threads=st.integers(1, 5),
)
def test_every_parameter(password, salt, variant, lanes, extra_kib, passes, threads):
    """The hash is what argon2-cffi gives, whatever the parameters and threads."""
    memory_kib = 8 * lanes + extra_kib
    expected = hash_secret_raw(
        password,
        salt,
        time_cost=passes,
        memory_cost=memory_kib,
        parallelism=lanes,
        hash_len=32,
        type=TYPES[variant],
    )
    answer = native.argon2(
        password, salt, variant=variant, memory_kib=memory_kib, passes=passes, lanes=lanes, threads=threads
    )
    assert answer == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "argon2"},
        {"variant": "d"},
        {"memory_kib": 7},
        {"memory_kib": 15, "lanes": 2},
        {"memory_kib": 2**32},
        {"memory_kib": 2**70},
        {"memory_kib": -8},
        {"passes": 0},
        {"passes": 2**32},
        {"lanes": 0},
        {"lanes": 2**24, "memory_kib": 2**32 - 1},
        {"threads": 0},
        {"threads": -1},
    ],
    ids=str,
)
def test_outside_the_ranges(wrong):
    """A parameter outside RFC 9106's range is a ValueError."""
    with pytest.raises(ValueError, match=OUT_OF_RANGE):
        native.argon2(b"password", b"saltsalt", **SMALL | wrong)


@pytest.mark.parametrize("wrong", [{"passes": 1.0}, {"memory_kib": "8"}, {"variant": b"argon2d"}], ids=str)
def test_wrong_types(wrong):
    """An argument of another type is a TypeError."""
    with pytest.raises(TypeError):
        native.argon2(b"password", b"saltsalt", **SMALL | wrong)


def test_memory_no_system_has():
    """Memory that cannot be had is a MemoryError, and the next hash works."""
    with pytest.raises(MemoryError):
        native.argon2(b"password", b"saltsalt", **SMALL | {"memory_kib": 2**32 - 1})
    assert len(native.argon2(b"password", b"saltsalt", **SMALL)) == 32


@pytest.mark.parametrize("threads", [1, 2])
def test_cancelled(threads):
    """A cancelled hash stops soon, whatever is left of it, and its memory can be returned."""
    job = native.Job()
    stopped = []

    def hash_on():
        with pytest.raises(native.Cancelled):
            native.argon2(b"password", b"saltsalt", **ENDLESS, threads=threads, job=job)
        stopped.append(time.perf_counter())

    thread = threading.Thread(target=hash_on)
    thread.start()
    time.sleep(0.05)
    cancelled = time.perf_counter()
    job.cancel()
    thread.join(10)
    assert stopped[0] - cancelled < 1  # second; a millisecond where the cores are free
    assert job.tried == 0
    native.release()
    assert native.held_kib() == 0


def test_cancelled_for_good():
    """A cancelled job stops what is begun with it later, too."""
    job = native.Job()
    job.cancel()
    with pytest.raises(native.Cancelled):
        native.argon2(b"password", b"saltsalt", **SMALL, job=job)


def test_many_at_once():
    """Hashes at once, of several sizes, do not get in each other's way."""
    tunings = [(m, p) for m in (64, 3000, 9000, 20000) for p in (1, 3, 8)] * 3
    expected = {
        (m, p): hash_secret_raw(
            b"password", b"saltsalt", time_cost=2, memory_cost=m, parallelism=p, hash_len=32, type=Type.ID
        )
        for m, p in set(tunings)
    }
    answers = []

    def hash_one(m, p):
        answer = native.argon2(
            b"password", b"saltsalt", variant="argon2id", memory_kib=m, passes=2, lanes=p, threads=2
        )
        answers.append(answer == expected[m, p])

    threads = [threading.Thread(target=hash_one, args=tuning) for tuning in tunings]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * len(tunings)


def test_other_threads_go_on():
    """The GIL is not held while a hash is computed."""
    job = native.Job()
    seen = threading.Event()

    def watch():
        seen.set()
        job.cancel()

    threading.Timer(0.02, watch).start()
    with pytest.raises(native.Cancelled):
        native.argon2(b"password", b"saltsalt", **ENDLESS, threads=1, job=job)
    assert seen.is_set()
