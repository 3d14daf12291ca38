"""The process-wide limiter: how much runs at once, who waits, and what gives a place back."""

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Generator
from concurrent.futures import Future

import pytest

from tuned_digest import NoThreadError, Work
from tuned_digest._runtime import forks
from tuned_digest._runtime import limiter as limiter_module
from tuned_digest._runtime.limiter import Allowance, WorkLimiter, process_limiter

from .working import HASH, PATIENCE, SEARCH, Held, in_one_piece, no_more_threads, noting


@pytest.mark.parametrize("places", [1, 2, 3])
def test_so_many_run_at_once(places: int) -> None:
    """As many pieces of work run as there are places, and one more begins when one ends."""
    limiter = WorkLimiter(places)
    works = [Held() for _ in range(places + 1)]
    futures = [limiter.submit(work.pieces(), HASH) for work in works]
    assert [future.running() for future in futures] == [True] * places + [False]
    works[0].finish()
    assert futures[-1].running()
    for work in works:
        work.finish()
    assert [future.result(PATIENCE) for future in futures] == ["done"] * len(works)


def test_one_search_runs_at_a_time() -> None:
    """A second search waits while hashes go past it, and begins when the first ends."""
    limiter = WorkLimiter(4)
    works = [Held(), Held(), Held()]
    futures = [
        limiter.submit(work.pieces(), load) for work, load in zip(works, [SEARCH, SEARCH, HASH], strict=True)
    ]
    assert [future.running() for future in futures] == [True, False, True]
    works[0].finish()
    assert futures[1].running()
    works[1].finish()
    works[2].finish()


@pytest.mark.parametrize("work", [HASH, SEARCH], ids=str)
def test_work_of_one_share_is_admitted_first_come_first_served(work: Work) -> None:
    """Work of one kind that waits for the same share begins in the order in which it came."""
    limiter = WorkLimiter(1)
    first, story = Held(), list[str]()
    limiter.submit(first.pieces(), HASH)
    names = [str(number) for number in range(20)]
    futures = [limiter.submit(noting(story, name), work) for name in names]
    first.finish()
    assert [future.result(PATIENCE) for future in futures] == story == names


def test_work_can_ask_for_fewer_places() -> None:
    """Work that asks for fewer running beside it waits, and what came later waits behind it."""
    limiter = WorkLimiter(4)
    first, modest, last = Held(), Held(), Held()
    limiter.submit(first.pieces(), HASH)
    futures = [
        limiter.submit(modest.pieces(), HASH, allowance=Allowance(places=1)),
        limiter.submit(last.pieces(), HASH),
    ]
    assert [future.running() for future in futures] == [False, False]
    first.finish()
    assert [future.running() for future in futures] == [True, True]
    modest.finish()
    last.finish()


def test_work_can_ask_for_more_places() -> None:
    """Work that allows more beside it than there are places begins at once."""
    limiter = WorkLimiter(1)
    first, second = Held(), Held()
    limiter.submit(first.pieces(), HASH)
    future = limiter.submit(second.pieces(), HASH, allowance=Allowance(places=2))
    assert future.running()
    first.finish()
    second.finish()


@pytest.mark.parametrize("work", [HASH, SEARCH], ids=str)
def test_a_cancelled_waiter_leaves_the_queue(work: Work) -> None:
    """Cancelled before it runs, work is never run, and the next one is."""
    limiter = WorkLimiter(1)
    first, story = Held(), list[str]()
    limiter.submit(first.pieces(), work)
    waiter = limiter.submit(noting(story, "cancelled"), work)
    following = limiter.submit(noting(story, "following"), work)
    assert waiter.cancel()
    first.finish()
    following.result(PATIENCE)
    assert story == ["following"]


@pytest.mark.parametrize("work", [HASH, SEARCH], ids=str)
def test_a_cancelled_waiter_is_not_kept(work: Work) -> None:
    """The limiter keeps nothing of cancelled work, however long others run."""
    limiter, first = WorkLimiter(1), Held()
    limiter.submit(first.pieces(), work)
    pieces = in_one_piece(lambda: "never")
    kept = weakref.ref(pieces)
    waiter = limiter.submit(pieces, work)
    del pieces
    gc.collect()
    assert kept() is not None
    waiter.cancel()
    del waiter
    gc.collect()
    assert kept() is None
    first.finish()


def test_a_cancelled_waiter_lets_those_behind_it_in() -> None:
    """Work that waited only for its place in the queue begins when the one before it is cancelled."""
    limiter, first, last = WorkLimiter(4), Held(), Held()
    limiter.submit(first.pieces(), HASH)
    modest = limiter.submit(in_one_piece(lambda: "never"), HASH, allowance=Allowance(places=1))
    future = limiter.submit(last.pieces(), HASH)
    assert not future.running()
    modest.cancel()
    try:
        assert future.running()
    finally:
        first.finish()
        last.finish()


class InterleavedLock:
    """A lock at which one thread is overtaken: it waits until the others have passed."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.overtaken: threading.Thread | None = None
        self.arrived, self.proceed = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread() is self.overtaken:
            self.arrived.set()
            assert self.proceed.wait(PATIENCE)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_waiter_cancelled_at_its_admission_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between being cancelled and leaving the queue a waiter is not run, and the next one is."""
    lock = InterleavedLock()
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Lock", lambda: lock)
        limiter = WorkLimiter(1)
    first, following = Held(), Held()
    limiter.submit(first.pieces(), HASH)
    waiter = limiter.submit(in_one_piece(lambda: "never"), HASH)
    next_one = limiter.submit(following.pieces(), HASH)
    canceller = lock.overtaken = threading.Thread(target=waiter.cancel)
    canceller.start()
    assert lock.arrived.wait(PATIENCE)
    first.finish()
    assert next_one.running()
    lock.proceed.set()
    canceller.join(PATIENCE)
    assert waiter.cancelled()
    following.finish()
    assert next_one.result(PATIENCE) == "done"


@pytest.mark.parametrize("work", [HASH, SEARCH], ids=str)
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
def test_a_place_is_given_back_when_work_raises(work: Work, error: BaseException) -> None:
    """Whatever work raises is its future's, and the next one runs."""
    limiter = WorkLimiter(1)

    def fail() -> None:
        raise error

    failing = limiter.submit(in_one_piece(fail), work)
    assert limiter.submit(in_one_piece(lambda: "ran"), work).result(PATIENCE) == "ran"
    assert failing.exception(PATIENCE) is error


@pytest.mark.parametrize("work", [HASH, SEARCH], ids=str)
def test_a_place_is_given_back_when_no_thread_can_start(work: Work) -> None:
    """Where the system gives no thread the future says so, and later work runs."""
    limiter = WorkLimiter(1)
    with no_more_threads():
        future = limiter.submit(in_one_piece(lambda: "never"), work)
    assert isinstance(future.exception(0), NoThreadError)
    assert limiter.submit(in_one_piece(lambda: "ran"), work).result(PATIENCE) == "ran"


def test_work_under_way_fails_when_no_thread_can_start_for_its_next_piece() -> None:
    """A search that has begun gives its place back too, when the system gives no thread for the rest."""
    limiter, first = WorkLimiter(1), Held()

    def pieces() -> Generator[None, None, None]:
        yield from first.pieces()
        yield
        pytest.fail("the second piece has no thread")

    future = limiter.submit(pieces(), SEARCH)
    assert first.started.wait(PATIENCE)
    with no_more_threads():
        first.finish()
        assert isinstance(future.exception(PATIENCE), NoThreadError)
    assert limiter.submit(in_one_piece(lambda: "ran"), SEARCH).result(PATIENCE) == "ran"


def test_many_waiters_fail_together_when_no_thread_can_start() -> None:
    """However many wait, each future says that there are no threads, and the place is given back."""
    code = """
import threading
from tests.working import HASH, in_one_piece
from tuned_digest._runtime.limiter import WorkLimiter
limiter, hold = WorkLimiter(1), threading.Event()
running = limiter.submit(in_one_piece(hold.wait), HASH)
waiters = [limiter.submit(in_one_piece(hold.wait), HASH, share) for share in range(2000)]
size = threading.stack_size(1 << 48)
hold.set()
print({type(waiter.exception(10)).__name__ for waiter in waiters}, running.result(10))
threading.stack_size(size)
print(limiter.submit(in_one_piece(lambda: "ran"), HASH).result(10))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.split("\n")[:2] == ["{'NoThreadError'} True", "ran"], run.stderr[-200:]


def test_the_process_has_one_limiter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every caller gets the same limiter, one place for each usable core, and a forked process another."""
    # No fork has this number, so the limiter is one that nobody has used.
    monkeypatch.setattr(forks, "generation", lambda: -1)
    monkeypatch.setattr(limiter_module, "usable_cores", lambda: 2)
    limiter = process_limiter()
    assert process_limiter() is limiter
    works = [Held() for _ in range(3)]
    assert [limiter.submit(work.pieces(), HASH).running() for work in works] == [True, True, False]
    for work in works:
        work.finish()
    monkeypatch.setattr(forks, "generation", lambda: -2)
    assert process_limiter() is not limiter


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_makes_its_own_limiter() -> None:
    """A child forked while every place is taken and the lock is held still gets its work done."""
    code = """
import os, threading
from tests.working import HASH, in_one_piece
from tuned_digest._runtime.limiter import process_limiter
from tuned_digest._runtime.machine import usable_cores
limiter, hold, is_asked, answer = process_limiter(), threading.Event(), threading.Event(), threading.Event()

class Asked:  # asked for its memory under the lock
    runs_alone = False

    @property
    def footprint_kib(self):
        is_asked.set()
        answer.wait(60)
        return 8

limiter.submit(in_one_piece(hold.wait), HASH)
threading.Thread(target=limiter.submit, args=(in_one_piece(hold.wait), Asked())).start()
assert is_asked.wait(60)
child = os.fork()
if not child:
    assert process_limiter() is not limiter
    os._exit(process_limiter().submit(in_one_piece(lambda: 42), HASH).result(60))
assert process_limiter() is limiter
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
answer.set()
hold.set()
print(status)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.strip() == "42", run.stderr


def test_stress_leaves_nothing_behind() -> None:
    """Work submitted and cancelled from many threads at once all settles, and every place comes back."""
    limiter = WorkLimiter(2)
    barrier = threading.Barrier(6)
    settled: list[Future[str]] = []

    def submit(cancel: Callable[[int], bool], share: int) -> None:
        barrier.wait(PATIENCE)
        for number in range(40):
            work: Work = SEARCH if number % 2 else HASH
            future = limiter.submit(noting([], "ran", 1 + number % 3), work, share % 3)
            if cancel(number):
                future.cancel()
            settled.append(future)

    threads = [threading.Thread(target=submit, args=(lambda n, k=k: n % 3 == k, k)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert all(future.cancelled() or future.result(PATIENCE) == "ran" for future in settled)
    assert limiter.submit(in_one_piece(lambda: "ran"), SEARCH).result(PATIENCE) == "ran"
    works = [Held(), Held(), Held()]
    futures = [limiter.submit(work.pieces(), HASH) for work in works]
    assert [future.running() for future in futures] == [True, True, False]
    for work in works:
        work.finish()


def test_work_that_gets_no_thread_waits_for_one_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a thread cannot be started while another runs, the work keeps its place in the queue."""
    limiter, held = WorkLimiter(2), Held()
    first = limiter.submit(held.pieces(), HASH)
    assert held.started.wait(PATIENCE)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse)
        second = limiter.submit(in_one_piece(lambda: "second"), HASH)
        assert not second.done()
    held.finish()
    assert first.result(PATIENCE) == "done"
    assert second.result(PATIENCE) == "second"


def test_a_thread_that_has_no_memory_is_a_lack_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails for want of memory gives its place back."""
    limiter = WorkLimiter(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", _refuse_for_memory)
        assert isinstance(limiter.submit(in_one_piece(list), HASH).exception(PATIENCE), NoThreadError)
    assert limiter.submit(in_one_piece(lambda: "ran"), HASH).result(PATIENCE) == "ran"


def _refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def _refuse_for_memory(thread: threading.Thread) -> None:
    raise MemoryError
