"""The process-wide limiter: who runs, who waits, and how a task waits for it."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from tuned_digest import ArgumentError, Resources, SearchCost, Tuning, _machine, _work
from tuned_digest._machine import usable_cores
from tuned_digest._work import WorkLimiter, outcome, process_limiter
from tuned_digest.errors import NoThreadError
from tuned_digest.tuning import Work

HASH, SEARCH = Tuning("argon2d", 8, 1, 1), SearchCost(1)
BACKENDS = ["asyncio", "trio"]
PATIENCE = 60  # seconds until a test that hangs fails


@dataclass
class Held:
    """A job that runs until it is let go."""

    started: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None

    def __call__(self) -> str:
        """Run until let go."""
        self.thread = threading.current_thread()
        self.started.set()
        assert self.released.wait(PATIENCE)
        return "done"

    def finish(self) -> None:
        """Let the job go and wait for its thread to end, callbacks and all."""
        self.released.set()
        assert self.started.wait(PATIENCE)
        assert self.thread is not None
        self.thread.join(PATIENCE)


@contextmanager
def no_more_threads() -> Iterator[None]:
    """Ask for a stack larger than the address space, so that no thread can start."""
    size = threading.stack_size(1 << 48)
    try:
        yield
    finally:
        threading.stack_size(size)


@pytest.mark.parametrize("places", [1, 2, 3])
def test_so_many_run_at_once(places: int) -> None:
    """As many pieces of work run as there are places, and one more begins when one ends."""
    limiter = WorkLimiter(places)
    jobs = [Held() for _ in range(places + 1)]
    futures = [limiter.submit(job, HASH) for job in jobs]
    assert [future.running() for future in futures] == [True] * places + [False]
    jobs[0].finish()
    assert futures[-1].running()
    for job in jobs:
        job.finish()
    assert [future.result(PATIENCE) for future in futures] == ["done"] * len(jobs)


def test_one_search_runs_at_a_time() -> None:
    """A second search waits while hashes go past it, and begins when the first ends."""
    limiter = WorkLimiter(4)
    first, second, digest = Held(), Held(), Held()
    one, two, three = (
        limiter.submit(first, SEARCH),
        limiter.submit(second, SEARCH),
        limiter.submit(digest, HASH),
    )
    assert [one.running(), two.running(), three.running()] == [True, False, True]
    first.finish()
    assert two.running()
    second.finish()
    digest.finish()


def test_work_is_admitted_first_come_first_served() -> None:
    """Hashes and searches that wait begin in the order in which they came."""
    limiter = WorkLimiter(1)
    first, order = Held(), list[int]()
    futures: list[Future[None]] = []
    limiter.submit(first, HASH)
    for number in range(20):
        work: Work = SEARCH if number % 3 else HASH
        futures.append(limiter.submit(lambda number=number: order.append(number), work))  # type: ignore[misc]
    first.finish()
    for future in futures:
        future.result(PATIENCE)
    assert order == list(range(20))


def test_work_can_ask_for_fewer_places() -> None:
    """Work that asks for fewer running beside it waits, and what came later waits behind it."""
    limiter = WorkLimiter(4)
    first, modest, last = Held(), Held(), Held()
    limiter.submit(first, HASH)
    futures = [limiter.submit(modest, HASH, Resources(max_concurrent=1)), limiter.submit(last, HASH)]
    assert [future.running() for future in futures] == [False, False]
    first.finish()
    assert [future.running() for future in futures] == [True, True]
    modest.finish()
    last.finish()


@pytest.mark.parametrize("work", [HASH, SEARCH])
def test_a_cancelled_waiter_leaves_the_queue(work: Work) -> None:
    """Cancelled before it runs, work is never run, keeps nothing alive and lets the next one in."""
    limiter = WorkLimiter(1)
    first, ran = Held(), list[str]()
    limiter.submit(first, work)
    waiter = limiter.submit(lambda: ran.append("cancelled"), work)
    following = limiter.submit(lambda: ran.append("following"), work)
    assert waiter.cancel()
    assert len(limiter._hashes) + len(limiter._searches) == 1
    first.finish()
    following.result(PATIENCE)
    assert ran == ["following"]


def test_a_cancelled_waiter_lets_those_behind_it_in() -> None:
    """Work that waited only for its place in the queue begins when the one before it is cancelled."""
    limiter, first, last = WorkLimiter(4), Held(), Held()
    limiter.submit(first, HASH)
    modest = limiter.submit(lambda: "never", HASH, Resources(max_concurrent=1))
    future = limiter.submit(last, HASH)
    modest.cancel()
    try:
        assert future.running()
    finally:
        first.finish()
        last.finish()


class InterleavedLock:
    """A lock at which one thread is overtaken: it waits until the others have passed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.overtaken: threading.Thread | None = None
        self.arrived, self.proceed = threading.Event(), threading.Event()

    def __enter__(self) -> None:
        if threading.current_thread() is self.overtaken:
            self.arrived.set()
            assert self.proceed.wait(PATIENCE)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_a_waiter_cancelled_at_its_admission_is_passed_over() -> None:
    """Between being cancelled and leaving the queue a waiter is not run, and the next one is."""
    limiter, lock = WorkLimiter(1), InterleavedLock()
    limiter._lock = lock  # type: ignore[assignment]
    first, following = Held(), Held()
    limiter.submit(first, HASH)
    waiter = limiter.submit(lambda: "never", HASH)
    next_one = limiter.submit(following, HASH)
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


@pytest.mark.parametrize("work", [HASH, SEARCH])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1)])
def test_a_place_is_given_back_when_a_job_raises(work: Work, error: BaseException) -> None:
    """Whatever a job raises is its future's, and the next one runs."""
    limiter = WorkLimiter(1)

    def fail() -> None:
        raise error

    failing = limiter.submit(fail, work)
    assert limiter.submit(lambda: "ran", work).result(PATIENCE) == "ran"
    assert failing.exception(PATIENCE) is error


@pytest.mark.parametrize("work", [HASH, SEARCH])
def test_a_place_is_given_back_when_no_thread_can_start(work: Work) -> None:
    """Where the system gives no thread the future says so, and later work runs."""
    limiter = WorkLimiter(1)
    with no_more_threads():
        future = limiter.submit(lambda: "never", work)
    assert isinstance(future.exception(0), NoThreadError)
    assert limiter.submit(lambda: "ran", work).result(PATIENCE) == "ran"


def test_many_waiters_fail_together_when_no_thread_can_start() -> None:
    """However many wait, each future says that there are no threads, and the place is given back."""
    code = """
import threading
from tuned_digest import Tuning
from tuned_digest._work import WorkLimiter
limiter, hold, work = WorkLimiter(1), threading.Event(), Tuning("argon2d", 8, 1, 1)
running = limiter.submit(hold.wait, work)
waiters = [limiter.submit(hold.wait, work) for _ in range(2000)]
size = threading.stack_size(1 << 48)
hold.set()
print({type(waiter.exception(10)).__name__ for waiter in waiters}, running.result(10))
threading.stack_size(size)
print(limiter.submit(lambda: "ran", work).result(10))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.split("\n")[:2] == ["{'NoThreadError'} True", "ran"], run.stderr[-200:]


def test_the_process_has_one_limiter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every caller gets the same limiter, one place for each usable core, and another process another."""
    monkeypatch.setattr(_work, "_limiters", {})
    monkeypatch.setattr(_work, "usable_cores", lambda: 2)
    limiter = process_limiter()
    assert process_limiter() is limiter
    jobs = [Held() for _ in range(3)]
    assert [limiter.submit(job, HASH).running() for job in jobs] == [True, True, False]
    for job in jobs:
        job.finish()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert process_limiter() is not limiter


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_makes_its_own_limiter() -> None:
    """A child forked while every place is taken and the lock is held still gets its work done."""
    code = """
import os, threading
from tuned_digest import Tuning
from tuned_digest._work import process_limiter, usable_cores
work, hold = Tuning("argon2d", 8, 1, 1), threading.Event()
limiter = process_limiter()
for _ in range(usable_cores() + 1):
    limiter.submit(hold.wait, work)
with limiter._lock:
    child = os.fork()
    if not child:
        assert process_limiter() is not limiter
        os._exit(process_limiter().submit(lambda: 42, work).result(60))
assert process_limiter() is limiter
hold.set()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert run.stdout.strip() == "42", run.stderr


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_awaits_work(backend: str) -> None:
    """A task gets the result or the error of work in a thread, on either event loop."""

    async def main() -> None:
        limiter = WorkLimiter(1)
        assert await outcome(limiter.submit(lambda: 7, HASH)) == 7
        with pytest.raises(ZeroDivisionError):
            await outcome(limiter.submit(lambda: 1 // 0, HASH))

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_task_awaits_work_that_is_done(backend: str) -> None:
    """A future that was done before it is awaited gives its result."""
    future = Future[int]()
    future.set_result(7)
    assert anyio.run(outcome, future, backend=backend) == 7


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_loop_runs_while_a_task_awaits_work(backend: str) -> None:
    """Another task lets go the very work that the first one awaits."""
    job = Held()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, WorkLimiter(1).submit(job, HASH))
            await anyio.lowlevel.checkpoint()
            job.released.set()

    anyio.run(main, backend=backend)
    assert job.started.is_set()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_task_takes_its_work_out_of_the_queue(backend: str) -> None:
    """Work that has not begun when its task is cancelled never runs."""
    limiter, first = WorkLimiter(1), Held()
    limiter.submit(first, HASH)
    future = limiter.submit(lambda: "never", HASH)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, future)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert future.cancelled()
    assert not limiter._hashes
    first.finish()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_task_leaves_running_work_its_place(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A hash that was left behind keeps its place until it ends, and ends in peace when the loop is gone."""
    limiter, first = WorkLimiter(1), Held()
    future = limiter.submit(first, HASH)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, future)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    following = limiter.submit(lambda: "ran", HASH)
    assert not following.running()
    with caplog.at_level(logging.DEBUG):
        first.finish()
    assert future.result(0) == "done"
    assert following.result(PATIENCE) == "ran"
    assert "exception calling callback" not in caplog.text


@pytest.mark.parametrize("options", [{"max_concurrent": 0}, {"spool_kib": 0}, {"max_concurrent": -1}])
def test_resources_are_positive(options: dict[str, int]) -> None:
    """A process that could do nothing is an error at once."""
    with pytest.raises(ArgumentError, match="at least 1"):
        Resources(**options)  # type: ignore[arg-type]


def test_resources_have_defaults() -> None:
    """Without being told, a process uses its cores and keeps 8 MiB of a body in memory."""
    assert Resources() == Resources(max_concurrent=None, spool_kib=8192, spool_dir=None)
    assert Resources(max_concurrent=1, spool_kib=1).max_concurrent == 1


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy of control groups without quotas, this process in ``/a/b``, on a machine of eight cores."""
    (tmp_path / "membership").write_text("12:cpu,cpuacct:/a/b\n0::/a/b\n")
    monkeypatch.setattr(_machine, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(_machine, "_HIERARCHY", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path / "cgroup"


V1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"a/b/cpu.max": "max 100000\n"}, 8),
        ({"a/b/cpu.max": "200000 100000\n"}, 2),
        ({"a/cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "cpu.max": "max 100000"}, 2),
        ({"a/b/c/cpu.max": "100000 100000\n"}, 8),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "200000 0\n"}, 8),
        ({"cpu.max": "garbage\n"}, 8),
        ({"cpu.max": ""}, 8),
        ({V1[0]: "300000\n", V1[1]: "100000\n"}, 3),
        ({V1[0]: "-1\n", V1[1]: "100000\n"}, 8),
        ({V1[0]: "300000\n"}, 8),
        ({"cpu.max": "garbage", V1[0]: "300000", V1[1]: "100000"}, 3),
    ],
)
def test_usable_cores_respect_a_quota(cgroup: Path, files: dict[str, str], cores: int) -> None:
    """The least quota of a control group this process is in counts, whole cores, at least one."""
    for name, content in files.items():
        (cgroup / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroup / name).write_text(content)
    assert usable_cores() == cores


def test_usable_cores_without_control_groups(cgroup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no control groups the cores it allows count."""
    monkeypatch.setattr(_machine, "_MEMBERSHIP", cgroup / "missing")
    assert usable_cores() == 8


@pytest.mark.parametrize(("found", "cores"), [(3, 3), (None, 1)])
def test_usable_cores_without_affinity(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, found: int | None, cores: int
) -> None:
    """Where the system tells no affinity all cores count, and one where it tells nothing."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: found)
    assert usable_cores() == cores


def test_usable_cores_of_this_machine() -> None:
    """This process may use at least one core and no more than there are."""
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


def test_stress_leaves_nothing_behind() -> None:
    """Work submitted and cancelled from many threads at once all settles, and every place comes back."""
    limiter = WorkLimiter(2)
    barrier = threading.Barrier(6)
    settled: list[Future[int]] = []

    def submit(cancel: Callable[[int], bool]) -> None:
        barrier.wait(PATIENCE)
        for number in range(40):
            future = limiter.submit(lambda: 1, SEARCH if number % 2 else HASH)
            if cancel(number):
                future.cancel()
            settled.append(future)

    threads = [threading.Thread(target=submit, args=(lambda n, k=k: n % 3 == k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert all(future.cancelled() or future.result(PATIENCE) == 1 for future in settled)
    assert limiter.submit(lambda: "ran", SEARCH).result(PATIENCE) == "ran"
    assert not limiter._hashes
    assert not limiter._searches
