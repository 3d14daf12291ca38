"""The memory of all work at once: work waits for it, and it comes back whatever happens."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future

import anyio
import anyio.to_thread
import pytest

from tuned_digest import NoThreadError, Resources, Tuning
from tuned_digest._runtime import limiter as limiter_module
from tuned_digest._runtime import steps
from tuned_digest._runtime.limiter import Allowance, WorkLimiter, default_memory_kib
from tuned_digest._runtime.steps import Limited

from .working import BACKENDS, HASH, PATIENCE, SEARCH, Held, in_one_piece, no_more_threads


def of_memory(kib: int) -> Tuning:
    """A tuning of which its memory alone matters."""
    return Tuning("argon2d", kib, 1, 1)


ROOM = Allowance(memory_kib=100)
GIB = 1024 * 1024  # KiB


def test_work_waits_for_memory() -> None:
    """Work begins while memory is left; the first that has to wait for some holds up what is behind it."""
    limiter = WorkLimiter(8)
    works, sizes = [Held() for _ in range(5)], [60, 40, 50, 8, 50]
    futures = [
        limiter.submit(work.pieces(), of_memory(size), allowance=ROOM)
        for work, size in zip(works, sizes, strict=True)
    ]
    assert [future.running() for future in futures] == [True, True, False, False, False]
    works[1].finish()
    assert [future.running() for future in futures[2:]] == [False, False, False]
    works[0].finish()
    assert [future.running() for future in futures[2:]] == [True, True, False]
    for work in works[2:]:
        work.finish()
    assert [future.result(PATIENCE) for future in futures] == ["done"] * 5


def test_work_larger_than_the_memory_runs_alone() -> None:
    """Work that needs more memory than there is waits until nothing runs, and nothing runs beside it."""
    limiter = WorkLimiter(8)
    works = [Held() for _ in range(3)]
    futures = [
        limiter.submit(work.pieces(), of_memory(size), allowance=ROOM)
        for work, size in zip(works, [8, 200, 8], strict=True)
    ]
    assert [future.running() for future in futures] == [True, False, False]
    works[0].finish()
    assert [future.running() for future in futures[1:]] == [True, False]
    works[1].finish()
    assert futures[2].running()
    works[2].finish()


def test_searches_need_no_memory() -> None:
    """A search runs beside a hash that takes all the memory."""
    limiter, room, digest, search = WorkLimiter(2), Allowance(memory_kib=8), Held(), Held()
    limiter.submit(digest.pieces(), HASH, allowance=room)
    future = limiter.submit(search.pieces(), SEARCH, allowance=room)
    assert future.running()
    digest.finish()
    search.finish()


def test_memory_comes_back_whatever_happens() -> None:
    """After an error, a thread that could not start and a waiter that left, all the memory is there again."""
    limiter, all_of_it = WorkLimiter(8), of_memory(100)

    def submitted(call: Callable[[], object]) -> Future[object]:
        return limiter.submit(in_one_piece(call), all_of_it, allowance=ROOM)

    with pytest.raises(ZeroDivisionError):
        submitted(lambda: 1 // 0).result(PATIENCE)
    with no_more_threads():
        assert isinstance(submitted(lambda: 1).exception(0), NoThreadError)
    first, last = Held(), Held()
    limiter.submit(first.pieces(), all_of_it, allowance=ROOM)
    assert submitted(lambda: 1).cancel()
    first.finish()
    future = limiter.submit(last.pieces(), all_of_it, allowance=ROOM)
    assert future.running()
    last.finish()


def test_memory_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that names no memory may take what all work may take by default."""
    monkeypatch.setattr(limiter_module, "default_memory_kib", lambda: 20)
    limiter, works = WorkLimiter(8), [Held() for _ in range(3)]
    futures = [limiter.submit(work.pieces(), HASH) for work in works]
    assert [future.running() for future in futures] == [True, True, False]
    for work in works:
        work.finish()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_hundred_tasks_cancelled_keep_the_bounds(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks cancelled among running hashes go at once, and never is more running than there is room for."""
    limiter = WorkLimiter(3)
    monkeypatch.setattr(steps, "process_limiter", lambda: limiter)
    lock, released = threading.Lock(), threading.Event()
    running: list[int] = []
    most_at_once: list[int] = []
    most_memory: list[int] = []
    started = threading.Semaphore(0)

    def work(size: int) -> None:
        with lock:
            running.append(size)
            most_at_once.append(len(running))
            most_memory.append(sum(running))
        started.release()
        assert released.wait(PATIENCE)
        with lock:
            running.remove(size)

    def limited(size: int, share: int) -> Limited:
        return Limited(in_one_piece(lambda: work(size)), of_memory(size), share=share, allowance=ROOM)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(limited(30 + number % 3 * 10, number % 7).awaited)
            await anyio.to_thread.run_sync(lambda: [started.acquire(timeout=PATIENCE) for _ in range(2)])
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)  # here every task has ended, and a few hashes run on
    following = [
        limiter.submit(in_one_piece(lambda: work(50)), of_memory(50), share, ROOM) for share in range(2)
    ]
    assert not any(future.running() for future in following)
    released.set()
    assert [future.result(PATIENCE) for future in following] == [None, None]
    everything = Held()
    alone = limiter.submit(everything.pieces(), of_memory(100), allowance=Allowance(1, 100))
    everything.finish()  # it begins once all the rest has ended
    assert alone.result(PATIENCE) == "done"
    assert len(most_at_once) in (4, 5)  # two or three of the hundred, and those that followed
    assert max(most_at_once) <= 3
    assert max(most_memory) <= 100


@pytest.fixture
def unknown_memory() -> Iterator[None]:
    """A process that has not looked up its memory yet, and does not know it afterwards."""
    default_memory_kib.cache_clear()
    yield
    default_memory_kib.cache_clear()


@pytest.mark.usefixtures("unknown_memory")
@pytest.mark.parametrize(("usable", "limit"), [(0, 320 * 1024), (GIB, 320 * 1024), (8 * GIB, 2 * GIB)])
def test_a_quarter_of_the_memory_is_spent_by_default(
    monkeypatch: pytest.MonkeyPatch, usable: int, limit: int
) -> None:
    """Without being told, all work takes a quarter of the memory, and at least what one create takes."""
    monkeypatch.setattr(limiter_module, "usable_memory_kib", lambda: usable)
    assert Resources().memory_limit_kib() == default_memory_kib() == limit
    assert Resources(memory_kib=7).memory_limit_kib() == 7
    monkeypatch.setattr(limiter_module, "usable_memory_kib", lambda: pytest.fail("it is looked up once"))
    assert Resources().memory_limit_kib() == limit
