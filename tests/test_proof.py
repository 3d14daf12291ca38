"""Section 4: the work, and its verification, by each engine."""

import contextlib
import os
import subprocess
import sys
import threading

import pytest
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, SearchCost, TunedDigestError, Tuning
from tuned_digest._grammar import decode_base64, encode_base64
from tuned_digest.errors import ProofAbandonedError, ProofError, ProofNotFoundError
from tuned_digest.proof import Job, engine, prove, verify
from tuned_digest.proof.argon2 import argon2_response, draw_salt, verify_argon2
from tuned_digest.proof.engines import Engine, Portable, chosen
from tuned_digest.proof.native import Native, native_engine
from tuned_digest.proof.search import search_response, verify_search
from tuned_digest.tuning import Variant

from .strategies import adversarial

QUICK = Tuning("argon2d", 8, 1, 1)
STRING = b"n:GET:/:digest"
SALT = bytes(range(16))
HOURS = Tuning("argon2d", 65536, 1_000_000, 1)


@pytest.fixture
def native() -> Native:
    """The native engine, where it is installed."""
    found = native_engine()
    if found is None:
        pytest.skip("tuned-digest-native is not installed, or switched off")
    return found


@pytest.fixture(params=["portable", "native"])
def working(request: pytest.FixtureRequest) -> Engine:
    """One engine after the other."""
    if request.param == "portable":
        return Portable()
    found: Native = request.getfixturevalue("native")
    return found


@pytest.mark.parametrize(
    ("variant", "kind"), [("argon2d", Type.D), ("argon2i", Type.I), ("argon2id", Type.ID)]
)
def test_a_response_is_salt_and_argon2_digest(variant: Variant, kind: Type) -> None:
    """The response is the salt and the 32-byte digest under exactly the tuning asked for."""
    salt, _, digest = prove(STRING, Tuning(variant, 16, 3, 2), nonce="n", salt=SALT).partition("$")
    assert decode_base64(salt, "F", "salt") == SALT
    assert decode_base64(digest, "F", "hash") == hash_secret_raw(STRING, SALT, 3, 16, 2, 32, kind, 19)


@pytest.mark.parametrize("size", [8, 48])
def test_salts_of_8_to_48_bytes_prove_and_verify(size: int) -> None:
    """The shortest and the longest salt allowed are accepted on both sides."""
    verify(STRING, QUICK, prove(STRING, QUICK, nonce="n", salt=bytes(size)), nonce="n")


@pytest.mark.parametrize("size", [0, 7, 49])
def test_other_salts_are_refused(size: int) -> None:
    """A shorter or longer salt cannot be proved with, and does not verify."""
    with pytest.raises(ArgumentError, match=f"8 to 48 bytes, not {size}"):
        prove(STRING, QUICK, nonce="n", salt=bytes(size))
    with pytest.raises(ProofError, match="impossible size"):
        verify(STRING, QUICK, f"{encode_base64(bytes(size))}${encode_base64(bytes(32))}", nonce="n")


@pytest.mark.parametrize(
    "response", ["", "$", "AAAA", "!$AAAA", "AAAA$!", f"{encode_base64(SALT)}$AAAA", "blake3$0$n", "a$b$c"]
)
def test_a_malformed_argon2_response_is_refused(response: str) -> None:
    """A response that is not ``b64(salt)$b64(hash)`` is a proof error and nothing else."""
    with pytest.raises(ProofError):
        verify(STRING, QUICK, response, nonce="n")


@pytest.mark.parametrize(
    ("string", "work"),
    [
        (STRING + b"x", QUICK),
        (STRING, Tuning("argon2i", 8, 1, 1)),
        (STRING, Tuning("argon2d", 16, 1, 1)),
        (STRING, Tuning("argon2d", 8, 2, 1)),
        (STRING, Tuning("argon2d", 16, 1, 2)),
    ],
)
def test_a_digest_of_something_else_is_refused(string: bytes, work: Tuning) -> None:
    """A response proves one string under one tuning."""
    response = prove(STRING, QUICK, nonce="n", salt=SALT)
    verify(STRING, QUICK, response, nonce="n")
    with pytest.raises(ProofError, match="not the digest of this request"):
        verify(string, work, response, nonce="n")


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not hold a process to its address space")
def test_memory_that_cannot_be_had_is_the_packages_own_error(working: Engine) -> None:
    """A tuning within its limits that the machine cannot serve raises nothing foreign, on either side."""
    resource = pytest.importorskip("resource")
    dearest = Tuning("argon2d", 2**32 - 1, 1, 1)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**36, limits[1]))
    try:
        with pytest.raises(TunedDigestError):
            argon2_response(working, STRING, dearest, SALT, Job())
        with pytest.raises(TunedDigestError):
            verify_argon2(working, STRING, dearest, f"{encode_base64(SALT)}${encode_base64(bytes(32))}")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_a_salt_that_reads_as_a_search_is_drawn_again() -> None:
    """A salt whose base64 begins with ``blake3`` is not used."""
    unlucky = decode_base64("blake3" + "A" * 16, "F", "salt")
    drawn = iter([unlucky, unlucky, SALT])
    sizes: list[int] = []

    def randomness(size: int) -> bytes:
        sizes.append(size)
        return next(drawn)

    assert draw_salt(randomness) == SALT
    assert sizes == [16, 16, 16]


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_a_search_finds_the_smallest_number(bits: int) -> None:
    """The number found is the first whose digest starts with so many zero bits."""

    def zeros(n: int) -> int:
        return 32 - int.from_bytes(blake3(STRING + n.to_bytes(4, "little")).digest()[:4]).bit_length()

    smallest = next(n for n in range(2**16) if zeros(n) >= bits)
    assert prove(STRING, SearchCost(bits), nonce="n", salt=b"") == f"blake3${smallest}$n"


def test_a_search_that_finds_nothing_says_so(working: Engine) -> None:
    """A search through all candidates that finds none raises."""
    with pytest.raises(ProofNotFoundError, match="no number below 300 gives 32 zero bits"):
        search_response(working, STRING, SearchCost(32), "n", Job(), candidates=300)


def test_a_search_can_be_watched(working: Engine) -> None:
    """Between tries a search says how far it is, more each time, and all of it at the end."""
    turns: list[int] = []
    with pytest.raises(ProofNotFoundError):
        search_response(working, STRING, SearchCost(32), "n", Job(turns.append), candidates=2000)
    assert turns == sorted(set(turns))
    assert turns[-1] == 2000


def test_a_search_says_how_many_tries_were_made() -> None:
    """What is told between tries is how many were made, the unfinished last turn included."""
    turns: list[int] = []
    with pytest.raises(ProofNotFoundError):
        search_response(Portable(), STRING, SearchCost(32), "n", Job(turns.append), candidates=600)
    assert turns == [256, 512, 600]


def test_the_native_search_says_how_many_tries_were_made(native: Native) -> None:
    """Its turns are longer, and begin where the last one ended."""
    turns: list[int] = []
    with pytest.raises(ProofNotFoundError):
        search_response(native, STRING, SearchCost(32), "n", Job(turns.append), candidates=2**24 + 1)
    assert turns == [2**24, 2**24 + 1]


@pytest.mark.parametrize("turn", [1, 3])
def test_a_search_ends_when_it_is_told_to(working: Engine, turn: int) -> None:
    """What the watcher raises comes out at that turn."""
    turns: list[int] = []

    def stop(tried: int) -> None:
        turns.append(tried)
        if len(turns) == turn:
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        search_response(working, STRING, SearchCost(32), "n", Job(stop))
    assert len(turns) == turn


class TestCancelling:
    """A job that is cancelled stops its work, where the engine can."""

    def test_a_search_cancelled_before_it_begins_ends_at_once(self, working: Engine) -> None:
        """Work that nobody waits for is not begun in earnest, and reports nothing."""
        turns: list[int] = []
        job = Job(turns.append)
        job.cancel()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            working.search(STRING, SearchCost(32), 2**32, job)
        assert turns == []

    def test_a_search_cancelled_by_its_watcher_ends(self, working: Engine) -> None:
        """The turn in which it is cancelled is the last one reported."""
        turns: list[int] = []

        def leave(tried: int) -> None:
            turns.append(tried)
            job.cancel()

        job = Job(leave)
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            working.search(STRING, SearchCost(32), 2**32, job)
        assert len(turns) == 1

    def test_a_search_cancelled_from_another_thread_ends(self, working: Engine) -> None:
        """Whoever waits no longer stops the search from where he is."""
        job = Job()
        leaving = threading.Timer(0.05, job.cancel)
        leaving.start()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            prove_with(working, SearchCost(32), job)
        leaving.join()

    def test_a_native_digest_cancelled_before_it_begins_ends_at_once(self, native: Native) -> None:
        """A digest of hours is not begun in earnest."""
        job = Job()
        job.cancel()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            prove_with(native, HOURS, job)

    def test_a_native_digest_cancelled_from_another_thread_ends(self, native: Native) -> None:
        """A running digest of hours stops."""
        job = Job()
        leaving = threading.Timer(0.05, job.cancel)
        leaving.start()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            prove_with(native, HOURS, job)
        leaving.join()

    def test_a_portable_digest_runs_to_its_end(self) -> None:
        """Without the companion a cancelled digest is still the right one."""
        job = Job()
        job.cancel()
        assert prove_with(Portable(), QUICK, job) == prove_with(Portable(), QUICK, Job())

    def test_the_job_given_stops_the_chosen_engine(self) -> None:
        """What `prove` is given reaches the search that it begins."""
        job = Job()
        job.cancel()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            prove(STRING, SearchCost(32), nonce="n", salt=b"", job=job)


def prove_with(working: Engine, work: Tuning | SearchCost, job: Job) -> str:
    """Do one piece of work with one engine."""
    if isinstance(work, Tuning):
        return argon2_response(working, STRING, work, SALT, job)
    return search_response(working, STRING, work, "n", job)


class TestJob:
    """What a job promises to any engine."""

    def test_what_stops_the_work_is_called_when_the_job_is_cancelled(self) -> None:
        """Nothing is stopped before, and it is with the cancelling."""
        stopped: list[str] = []
        job = Job()
        job.stop_with(lambda: stopped.append("now"))
        assert stopped == []
        job.cancel()
        assert stopped == ["now"]

    def test_what_stops_the_work_is_called_at_once_where_the_job_was_cancelled(self) -> None:
        """An engine that comes too late is stopped as it comes."""
        stopped: list[str] = []
        job = Job()
        job.cancel()
        job.stop_with(lambda: stopped.append("at once"))
        assert stopped == ["at once"]

    def test_progress_ends_with_the_cancelling(self) -> None:
        """Nothing is reported to whoever waits no longer."""
        tried: list[int] = []
        job = Job(tried.append)
        job.go_on(1)
        job.cancel()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            job.go_on(2)
        assert tried == [1]


class TestEngines:
    """Each engine gives the same answers, and can be left out."""

    @pytest.mark.parametrize("variant", ["argon2d", "argon2i", "argon2id"])
    @pytest.mark.parametrize(
        ("memory_kib", "passes", "lanes"), [(8, 1, 1), (64, 3, 2), (1024, 2, 8), (67, 1, 4)]
    )
    def test_digests_are_argon2s(
        self, working: Engine, variant: Variant, memory_kib: int, passes: int, lanes: int
    ) -> None:
        """Each engine's digest is that of argon2-cffi's own simpler call."""
        kind = {"argon2d": Type.D, "argon2i": Type.I, "argon2id": Type.ID}[variant]
        digest = working.digest(STRING, Tuning(variant, memory_kib, passes, lanes), SALT, Job())
        assert digest == hash_secret_raw(STRING, SALT, passes, memory_kib, lanes, 32, kind, 19)

    @given(st.binary(max_size=200), st.integers(1, 10))
    def test_searches_agree(self, string: bytes, bits: int) -> None:
        """Each engine finds the same number, the first that each says will do."""
        engines: list[Engine] = [Portable(), chosen()]
        cost = SearchCost(bits)
        found = [working.search(string, cost, 2**32, Job()) for working in engines]
        assert len(set(found)) == 1
        for working in engines:
            smallest = next(n for n in range(2**32) if working.holds(string, cost, n))
            assert smallest == found[0]

    def test_a_response_of_one_verifies_with_the_other(self, working: Engine) -> None:
        """Each engine accepts what the chosen one proved, and nothing else."""
        verify_argon2(working, STRING, QUICK, prove(STRING, QUICK, nonce="n", salt=SALT))
        verify_search(working, STRING, SearchCost(9), prove(STRING, SearchCost(9), nonce="n", salt=b""), "n")
        with pytest.raises(ProofError, match="not the digest of this request"):
            verify_argon2(working, STRING, QUICK, f"{encode_base64(SALT)}${encode_base64(bytes(32))}")
        with pytest.raises(ProofError, match="does not reach 32 zero bits"):
            verify_search(working, STRING, SearchCost(32), "blake3$0$n", "n")

    def test_the_portable_engine_names_its_libraries(self) -> None:
        """Without the companion the work is done by two packages."""
        assert Portable().name == "argon2-cffi, blake3"

    def test_the_native_engine_names_its_kernel(self, native: Native) -> None:
        """With the companion the name says which instructions are used."""
        companion, _, kernel = native.name.partition(", ")
        assert companion == "tuned-digest-native"
        assert kernel in {"avx512", "avx2", "sse2", "neon", "portable"}

    def test_the_native_engine_is_chosen_where_it_is_installed(self) -> None:
        """The name of the chosen engine is the companion's where there is one."""
        assert engine() == (native_engine() or Portable()).name

    def test_a_companion_that_is_not_installed_is_done_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An extra that is not there is no error."""
        monkeypatch.setitem(sys.modules, "tuned_digest_native", None)
        assert native_engine() is None

    def test_a_companion_that_is_switched_off_is_done_without(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Zero in the environment leaves it out."""
        monkeypatch.setenv("TUNED_DIGEST_NATIVE", "0")
        assert native_engine() is None

    def test_a_process_without_the_companion_says_so(self) -> None:
        """A process started with it switched off works with the two packages."""
        assert engine_under(TUNED_DIGEST_NATIVE="0").stdout == "argon2-cffi, blake3\n"

    def test_a_kernel_can_be_asked_for(self, native: Native) -> None:
        """A process works with the kernel that its environment names."""
        asked = engine_under(TUNED_DIGEST_KERNEL="portable")
        assert asked.stdout == "tuned-digest-native, portable\n"

    def test_an_unknown_kernel_is_an_argument_error(self, native: Native) -> None:
        """A kernel that there is not is refused, and not replaced."""
        refused = engine_under(TUNED_DIGEST_KERNEL="abacus")
        assert refused.returncode == 1
        assert "ArgumentError" in refused.stderr
        assert "abacus" in refused.stderr


def engine_under(**environment: str) -> subprocess.CompletedProcess[str]:
    """Ask a process of its own, in this environment, which engine it chose."""
    code = "from tuned_digest.proof import engine; print(engine())"
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_any_number_that_will_do_verifies() -> None:
    """A verifier does not ask for the smallest number."""
    good = [n for n in range(100) if not blake3(STRING + n.to_bytes(4, "little")).digest()[0] & 0x80]
    for n in good:
        verify(STRING, SearchCost(1), f"blake3${n}$n", nonce="n")
    for n in set(range(100)) - set(good):
        with pytest.raises(ProofError, match="does not reach 1 zero bits"):
            verify(STRING, SearchCost(1), f"blake3${n}$n", nonce="n")


@pytest.mark.parametrize("n", [2**32 - 2, 2**32 - 1])
def test_the_largest_numbers_are_checked_and_not_refused_unseen(n: int) -> None:
    """Numbers up to 2**32 - 1 are taken for what their digest says."""
    reaches = not blake3(STRING + n.to_bytes(4, "little")).digest()[0] & 0x80
    expected = contextlib.nullcontext() if reaches else pytest.raises(ProofError, match="does not reach")
    with expected:
        verify(STRING, SearchCost(1), f"blake3${n}$n", nonce="n")


@pytest.mark.parametrize(
    "response",
    [
        "",
        "blake3$0",
        "blake3$0$",
        "blake3$0$m",
        "blake3$0$n$",
        "blake3$00$n",
        "blake3$+1$n",
        "blake3$-1$n",
        "blake3$4294967296$n",
        "blake3$99999999999$n",
        "blake3$\u0661$n",
        "blake3$0$n\n",
        "BLAKE3$0$n",
        "AAAA$AAAA",
    ],
)
def test_a_malformed_search_response_is_refused(response: str) -> None:
    """A response that is not ``blake3$n$nonce`` with this nonce is refused."""
    with pytest.raises(ProofError, match="not blake3"):
        verify(STRING, SearchCost(1), response, nonce="n")


@given(adversarial(), st.sampled_from((QUICK, SearchCost(2))))
def test_verifying_raises_nothing_foreign(response: str, work: Tuning | SearchCost) -> None:
    """No response makes verification raise anything but a proof error."""
    with pytest.raises(ProofError):
        verify(STRING, work, response, nonce="0nothing0draws0this0")


@given(st.binary(max_size=200), st.binary(min_size=8, max_size=48), st.integers(1, 8))
def test_what_is_proved_verifies(string: bytes, salt: bytes, bits: int) -> None:
    """Every response to any string verifies for it, under both kinds of work."""
    for work in (QUICK, SearchCost(bits)):
        verify(string, work, prove(string, work, nonce="A+/-_=", salt=salt), nonce="A+/-_=")
