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
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tuned_digest import ArgumentError, Resources, SearchCost, Tuning, _machine, _work
from tuned_digest._machine import usable_cores, usable_memory_kib
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


def of_memory(kib: int) -> Tuning:
    """A tuning of which its memory alone matters."""
    return Tuning("argon2d", kib, 1, 1)


def test_work_waits_for_memory() -> None:
    """Work begins while memory is left; the first that has to wait for some holds up what is behind it."""
    limiter, resources = WorkLimiter(8), Resources(memory_kib=100)
    jobs = [Held() for _ in range(5)]
    sizes = [60, 40, 50, 8, 50]
    futures = [limiter.submit(job, of_memory(size), resources) for job, size in zip(jobs, sizes, strict=True)]
    assert [future.running() for future in futures] == [True, True, False, False, False]
    jobs[1].finish()
    assert [future.running() for future in futures[2:]] == [False, False, False]
    jobs[0].finish()
    assert [future.running() for future in futures[2:]] == [True, True, False]
    for job in jobs[2:]:
        job.finish()
    assert [future.result(PATIENCE) for future in futures] == ["done"] * 5


def test_work_larger_than_the_memory_runs_alone() -> None:
    """Work that needs more memory than there is waits until nothing runs, and nothing runs beside it."""
    limiter, resources = WorkLimiter(8), Resources(memory_kib=100)
    jobs = [Held() for _ in range(3)]
    futures = [
        limiter.submit(job, of_memory(size), resources) for job, size in zip(jobs, [8, 200, 8], strict=True)
    ]
    assert [future.running() for future in futures] == [True, False, False]
    jobs[0].finish()
    assert [future.running() for future in futures[1:]] == [True, False]
    jobs[1].finish()
    assert futures[2].running()
    jobs[2].finish()


def test_searches_need_no_memory() -> None:
    """A search runs beside a hash that takes all the memory."""
    limiter, resources, digest, search = WorkLimiter(2), Resources(memory_kib=8), Held(), Held()
    limiter.submit(digest, HASH, resources)
    future = limiter.submit(search, SEARCH, resources)
    assert future.running()
    digest.finish()
    search.finish()


def test_memory_comes_back_whatever_happens() -> None:
    """After an error, a thread that could not start and a waiter that left, all the memory is there again."""
    limiter, all_of_it = WorkLimiter(8), of_memory(100)
    resources = Resources(memory_kib=100)
    with pytest.raises(ZeroDivisionError):
        limiter.submit(lambda: 1 // 0, all_of_it, resources).result(PATIENCE)
    with no_more_threads():
        assert isinstance(limiter.submit(lambda: 1, all_of_it, resources).exception(0), NoThreadError)
    first, last = Held(), Held()
    limiter.submit(first, all_of_it, resources)
    assert limiter.submit(lambda: 1, all_of_it, resources).cancel()
    first.finish()
    future = limiter.submit(last, all_of_it, resources)
    assert future.running()
    last.finish()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hundred_tasks_cancelled_keep_the_bounds(backend: str) -> None:
    """Tasks cancelled among running hashes go at once, and never is more running than there is room for."""
    limiter, resources = WorkLimiter(3), Resources(memory_kib=100)
    lock, released = threading.Lock(), threading.Event()
    running: list[int] = []
    most_at_once: list[int] = []
    most_memory: list[int] = []
    started = threading.Semaphore(0)

    def job(size: int) -> None:
        with lock:
            running.append(size)
            most_at_once.append(len(running))
            most_memory.append(sum(running))
        started.release()
        assert released.wait(PATIENCE)
        with lock:
            running.remove(size)

    sizes = [30 + number % 3 * 10 for number in range(100)]
    futures: list[Future[None]] = []

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for size in sizes:
                futures.append(limiter.submit(lambda size=size: job(size), of_memory(size), resources))  # type: ignore[misc]
                group.start_soon(outcome, futures[-1])
            await anyio.to_thread.run_sync(lambda: [started.acquire(timeout=PATIENCE) for _ in range(2)])
            group.cancel_scope.cancel()
        # Here every task has ended, and a few hashes run on.
        left = [future for future in futures if not future.cancelled()]
        assert len(left) <= 3
        assert all(future.running() for future in left)

    anyio.run(main, backend=backend)
    following = [limiter.submit(lambda: job(50), of_memory(50), resources) for _ in range(2)]
    assert not any(future.running() for future in following)
    released.set()
    for future in [*futures, *following]:
        assert future.cancelled() or future.result(PATIENCE) is None
    assert max(most_at_once) <= 3
    assert max(most_memory) <= 100
    assert (limiter._running, limiter._memory_kib) == (0, 0)
    assert not limiter._hashes


NUMBERS = ("max_concurrent", "memory_kib", "spool_kib", "prime_above_kib")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: number}, f"{name} is at least 1") for name in NUMBERS for number in (0, -1)),
        *(({"work_timeout": seconds}, "work_timeout is more than 0") for seconds in (0, -0.5)),
        ({"prime_method": "TRACE"}, "a method that is signed, not 'TRACE'"),
        ({"prime_method": "CONNECT"}, "not 'CONNECT'"),
        ({"prime_path": ""}, "a path as on the wire, percent-encoded, not ''"),
        ({"prime_path": "a"}, "not 'a'"),
        ({"prime_method": "OPTIONS", "prime_path": "*"}, "not 'OPTIONS'"),
    ],
)
def test_resources_that_could_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    """A process without places, memory or time, and a request that cannot be signed, are errors at once."""
    with pytest.raises(ArgumentError, match=message):
        Resources(**options)


def test_resources_have_defaults() -> None:
    """Without being told, a process uses its cores, keeps 8 MiB of a body and primes above 1 MiB."""
    assert Resources() == Resources(
        max_concurrent=None,
        memory_kib=None,
        work_timeout=None,
        spool_kib=8192,
        spool_dir=None,
        prime_above_kib=1024,
        prime_method="HEAD",
        prime_path="/",
    )
    assert Resources(max_concurrent=1, spool_kib=1).max_concurrent == 1


@pytest.mark.parametrize(
    "options",
    [
        {"prime_path": "/caf\u00e9"},
        {"prime_path": "/a#b"},
        {"prime_path": "/a\r\nX: y"},
        {"prime_method": ""},
        {"prime_method": "A B"},
    ],
    ids=ascii,
)
def test_a_priming_request_that_cannot_be_sent_is_refused(options: dict[str, Any]) -> None:
    """A path or a method that no request can have is an error at once."""
    with pytest.raises(ArgumentError, match="priming"):
        Resources(**options)


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hierarchy of control groups without limits, this process in ``/a/b``, of eight cores and 8 GiB."""
    (tmp_path / "membership").write_text("12:cpu,cpuacct:/a/b\n0::/a/b\n")
    monkeypatch.setattr(_machine, "_MEMBERSHIP", tmp_path / "membership")
    monkeypatch.setattr(_machine, "_HIERARCHY", tmp_path / "cgroup")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2 * 1024 * 1024}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
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


GIB = 1024 * 1024  # KiB


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({}, 8 * GIB),
        ({"a/b/memory.max": "max\n"}, 8 * GIB),
        ({"a/b/memory.max": f"{2 * 1024**3}\n"}, 2 * GIB),
        ({"a/memory.max": f"{3 * 1024**3}\n", "a/b/memory.max": "max"}, 3 * GIB),
        ({"memory.max": f"{16 * 1024**3}\n"}, 8 * GIB),
        ({"a/b/c/memory.max": "4096\n"}, 8 * GIB),
        ({"memory.max": "garbage\n"}, 8 * GIB),
        ({"memory/memory.limit_in_bytes": f"{1024**3}\n"}, GIB),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB),
        ({"memory/memory.limit_in_bytes": "-1\n"}, 8 * GIB),
        ({"memory.max": "garbage", "memory/memory.limit_in_bytes": f"{1024**3}"}, GIB),
    ],
)
def test_usable_memory_respects_a_limit(cgroup: Path, files: dict[str, str], memory: int) -> None:
    """The least limit of a control group this process is in counts, and what the machine has."""
    for name, content in files.items():
        (cgroup / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroup / name).write_text(content)
    assert usable_memory_kib() == memory


def unknown(name: str) -> int:
    """Know no such name."""
    raise ValueError("unrecognized configuration name")


@pytest.mark.parametrize(
    "sysconf",
    [None, unknown, {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": -1}.__getitem__],
    ids=["absent", "unknown", "untold"],
)
def test_usable_memory_where_the_system_does_not_tell(
    cgroup: Path, monkeypatch: pytest.MonkeyPatch, sysconf: Callable[[str], int] | None
) -> None:
    """Without the machine's memory a control group's limit counts, and nothing is known without either."""
    if sysconf is None:
        monkeypatch.delattr(os, "sysconf")
    else:
        monkeypatch.setattr(os, "sysconf", sysconf)
    assert usable_memory_kib() == 0
    cgroup.mkdir()
    (cgroup / "memory.max").write_text(f"{1024**3}")
    assert usable_memory_kib() == GIB


@pytest.mark.parametrize(("usable", "limit"), [(0, 320 * 1024), (GIB, 320 * 1024), (8 * GIB, 2 * GIB)])
def test_a_quarter_of_the_memory_is_spent_by_default(
    monkeypatch: pytest.MonkeyPatch, usable: int, limit: int
) -> None:
    """Without being told, all work takes a quarter of the memory, and at least what one create takes."""
    _work._default_memory_kib.cache_clear()
    monkeypatch.setattr(_work, "usable_memory_kib", lambda: usable)
    try:
        assert Resources().memory_limit_kib() == limit
        assert Resources(memory_kib=7).memory_limit_kib() == 7
        monkeypatch.setattr(_work, "usable_memory_kib", lambda: pytest.fail("it is looked up once"))
        assert Resources().memory_limit_kib() == limit
    finally:
        _work._default_memory_kib.cache_clear()


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
