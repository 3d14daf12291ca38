"""Section 4: the engines give the same answers, and are watched and stopped in the same way."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from argon2.low_level import Type, hash_secret_raw
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuned_digest import SearchCost, TunedDigestError, Tuning, Work
from tuned_digest._base64 import encode_base64
from tuned_digest.errors import ProofAbandonedError, ProofError
from tuned_digest.proof import Job, argon2, engine, prove, search, verify
from tuned_digest.proof.argon2 import Variant
from tuned_digest.proof.engines import Engine, Portable
from tuned_digest.proof.native import Native, native_engine

QUICK = Tuning("argon2d", 8, 1, 1)
STRING = b"n:GET:/:digest"
SALT = bytes(range(16))
HOURS = Tuning("argon2d", 65536, 1_000_000, 1)
NO_WORK = f"{encode_base64(SALT)}${encode_base64(bytes(32))}"


@pytest.fixture
def native() -> Native:
    """The native engine, where it is installed."""
    found = native_engine()
    if found is None:
        pytest.skip("tuned-digest-native is not installed, or switched off")
    return found


@pytest.fixture(params=["portable", "native"])
def working(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """One engine after the other, chosen for all work."""
    found: Engine = Portable()
    if request.param == "native":
        found = request.getfixturevalue("native")
    for module in (argon2, search):
        monkeypatch.setattr(module, "chosen", lambda: found)
    return found


def proved(work: Work, job: Job | None = None) -> str:
    """Do one piece of work with the chosen engine."""
    return prove(STRING, work, nonce="n", salt=SALT, job=job)


@pytest.mark.parametrize("variant", ["argon2d", "argon2i", "argon2id"])
@pytest.mark.parametrize(("memory_kib", "passes", "lanes"), [(8, 1, 1), (64, 3, 2), (1024, 2, 8), (67, 1, 4)])
def test_digests_are_argon2s(
    working: Engine, variant: Variant, memory_kib: int, passes: int, lanes: int
) -> None:
    """Each engine's digest is that of argon2-cffi's own simpler call."""
    kind = {"argon2d": Type.D, "argon2i": Type.I, "argon2id": Type.ID}[variant]
    digest = working.digest(
        STRING, SALT, variant=variant, memory_kib=memory_kib, passes=passes, lanes=lanes, job=Job()
    )
    assert digest == hash_secret_raw(STRING, SALT, passes, memory_kib, lanes, 32, kind, 19)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(1, 10))
def test_searches_find_the_first_number(working: Engine, string: bytes, bits: int) -> None:
    """Each engine finds the first number that will do, and its own check says which those are."""
    found = working.search(string, bits=bits, first=0, end=2**32, job=Job())
    assert found is not None
    for judge in (working, Portable()):
        assert found == next(n for n in range(2**32) if judge.holds(string, n, bits=bits))
    again = working.search(string, bits=bits, first=found + 1, end=2**32, job=Job())
    assert again == next(n for n in range(found + 1, 2**32) if Portable().holds(string, n, bits=bits))
    assert working.search(string, bits=bits, first=found, end=found + 1, job=Job()) == found
    assert working.search(string, bits=bits, first=0, end=found, job=Job()) is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(1, 32))
def test_checks_agree(working: Engine, string: bytes, number: int, bits: int) -> None:
    """Each engine says of every number what the others say."""
    assert working.holds(string, number, bits=bits) is Portable().holds(string, number, bits=bits)


def test_a_response_of_one_verifies_with_the_other(working: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine accepts what the portable one proved, and nothing else."""
    with monkeypatch.context() as portable:
        for module in (argon2, search):
            portable.setattr(module, "chosen", Portable)
        responses = {work: proved(work) for work in (QUICK, SearchCost(9))}
    for work, response in responses.items():
        assert proved(work) == response
        verify(STRING, work, response, nonce="n")
    with pytest.raises(ProofError, match="not the digest of this request"):
        verify(STRING, QUICK, NO_WORK, nonce="n")
    with pytest.raises(ProofError, match="does not reach 32 zero bits"):
        verify(STRING, SearchCost(32), "blake3$0$n", nonce="n")


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not hold a process to its address space")
@pytest.mark.parametrize("lanes", [1, 8])
def test_memory_that_cannot_be_had_is_the_packages_own_error(working: Engine, lanes: int) -> None:
    """A tuning within its limits that the machine cannot serve raises nothing foreign, on either side."""
    resource = pytest.importorskip("resource")
    dearest = Tuning("argon2d", 2**32 - 1, 1, lanes)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (2**36, limits[1]))
    try:
        with pytest.raises(TunedDigestError, match=r"^Argon2 with 4294967295 KiB"):
            proved(dearest)
        with pytest.raises(TunedDigestError, match=r"^Argon2 with 4294967295 KiB"):
            verify(STRING, dearest, NO_WORK, nonce="n")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


class TestWatching:
    """A search says how far it is, and ends when its watcher says so."""

    def test_a_search_can_be_watched(self, working: Engine) -> None:
        """Between tries a search says how far it is, more each time, and all of it at the end."""
        turns: list[int] = []
        assert working.search(STRING, bits=32, first=0, end=2000, job=Job(turns.append)) is None
        assert turns == sorted(set(turns))
        assert turns[-1] == 2000

    def test_a_search_goes_on_counting_in_its_next_piece(self, working: Engine) -> None:
        """Tries are counted over all pieces of a search."""
        turns: list[int] = []
        pieces = SearchCost(32).prove(STRING, nonce="n", salt=b"", job=Job(turns.append))
        for count in (1, 2):
            next(pieces)
            assert turns == sorted(set(turns))
            assert turns[-1] == count * working.tries_per_piece

    def test_the_portable_search_says_how_many_tries_were_made(self) -> None:
        """Its turns have 256 tries, the unfinished last one is told too, and the first one counts from 0."""
        turns: list[int] = []
        assert Portable().search(STRING, bits=32, first=0, end=600, job=Job(turns.append)) is None
        assert Portable().search(STRING, bits=32, first=600, end=900, job=Job(turns.append)) is None
        assert turns == [256, 512, 600, 856, 900]

    def test_the_native_search_says_how_many_tries_were_made(self, native: Native) -> None:
        """Its turns are whole pieces."""
        turns: list[int] = []
        assert native.search(STRING, bits=32, first=0, end=2**20, job=Job(turns.append)) is None
        assert native.search(STRING, bits=32, first=2**20, end=2**20 + 1, job=Job(turns.append)) is None
        assert turns == [2**20, 2**20 + 1]

    @pytest.mark.parametrize("turn", [1, 3])
    def test_a_search_ends_when_it_is_told_to(self, working: Engine, turn: int) -> None:
        """What the watcher raises comes out at that turn."""
        turns: list[int] = []

        def stop(tried: int) -> None:
            turns.append(tried)
            if len(turns) == turn:
                raise LookupError("enough")

        with pytest.raises(LookupError, match="enough"):
            proved(SearchCost(32), Job(stop))
        assert len(turns) == turn


class TestCancelling:
    """A job that is cancelled stops its work, where the engine can."""

    def test_a_search_cancelled_before_it_begins_ends_at_once(self, working: Engine) -> None:
        """Work that nobody waits for is not begun in earnest, and reports nothing."""
        turns: list[int] = []
        job = Job(turns.append)
        job.cancel()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            working.search(STRING, bits=32, first=0, end=2**32, job=job)
        assert turns == []

    def test_a_search_cancelled_by_its_watcher_ends(self, working: Engine) -> None:
        """The turn in which it is cancelled is the last one reported."""
        turns: list[int] = []

        def leave(tried: int) -> None:
            turns.append(tried)
            job.cancel()

        job = Job(leave)
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            proved(SearchCost(32), job)
        assert len(turns) == 1

    def test_a_search_cancelled_from_another_thread_ends(self, working: Engine) -> None:
        """Whoever waits no longer stops the search from where he is."""
        begun = threading.Event()
        job = Job(lambda tried: begun.set())
        with leaving(job, begun), pytest.raises(ProofAbandonedError, match="nobody waits"):
            proved(SearchCost(32), job)

    def test_a_native_digest_cancelled_before_it_begins_ends_at_once(self, native: Native) -> None:
        """A digest of hours is not begun in earnest."""
        job = Job()
        job.cancel()
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            proved(HOURS, job)

    def test_a_native_digest_cancelled_from_another_thread_ends(self, native: Native) -> None:
        """A running digest of hours stops, also one that checks a response."""
        for work in (proved, check):
            job = Begun()
            with leaving(job, job.begun), pytest.raises(ProofAbandonedError, match="nobody waits"):
                work(HOURS, job)

    def test_a_portable_digest_runs_to_its_end(self, portable: None) -> None:
        """Without the companion a cancelled digest is still the right one."""
        job = Job()
        job.cancel()
        assert proved(QUICK, job) == proved(QUICK)


def check(work: Work, job: Job) -> None:
    """Check a response that proves nothing."""
    verify(STRING, work, NO_WORK, nonce="n", job=job)


class Begun(Job):
    """A job that says when an engine has begun it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def stop_with(self, stop: Callable[[], None]) -> None:
        """Note that the engine has begun."""
        super().stop_with(stop)
        self.begun.set()


@contextmanager
def leaving(job: Job, begun: threading.Event) -> Iterator[None]:
    """Cancel a job from another thread, once it has begun."""

    def leave() -> None:
        begun.wait(30)
        job.cancel()

    thread = threading.Thread(target=leave)
    thread.start()
    try:
        yield
    finally:
        thread.join()


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


class TestChoosing:
    """The companion does the work where it is installed, and can be left out."""

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
