"""The two drivers: the same steps, blocking and under anyio."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from tuned_digest import ArgumentError, Resources, SearchCost, Tuning
from tuned_digest._drivers import Inline, Job, Threaded, Worked, run_anyio, run_blocking
from tuned_digest._steps import Step, ask
from tuned_digest._work import WorkLimiter
from tuned_digest.tuning import Work

from .driving import Steps

SMALL: list[Work] = [Tuning("argon2d", 512, 1, 1), Tuning("argon2d", 256, 2, 1), SearchCost(6)]
LARGE: list[Work] = [Tuning("argon2d", 513, 1, 1), Tuning("argon2d", 16, 1, 2), SearchCost(7)]


@dataclass
class Do(Step[Any]):
    """Ask for a job of the test's own."""

    job: Job


def job_of(step: Step[object]) -> Job:
    """Say what a step means."""
    assert isinstance(step, Do)
    return step.job


def each(*jobs: Job) -> Steps[list[Any]]:
    """Ask for jobs one after another, and note what comes of each."""
    outcomes = []
    for job in jobs:
        try:
            outcomes.append((yield from ask(Do(job))))
        except LookupError as error:
            outcomes.append(error)
    return outcomes


Run = Callable[[Steps[Any]], Any]


def blocking(steps: Steps[Any]) -> Any:
    """Run steps blocking."""
    return run_blocking(steps, job_of)


def under_asyncio(steps: Steps[Any]) -> Any:
    """Run steps under asyncio."""
    return anyio.run(run_anyio, steps, job_of, backend="asyncio")


def under_trio(steps: Steps[Any]) -> Any:
    """Run steps under trio."""
    return anyio.run(run_anyio, steps, job_of, backend="trio")


DRIVERS: list[Run] = [blocking, under_asyncio, under_trio]
ASYNC_DRIVERS = DRIVERS[1:]


@pytest.mark.parametrize("run", DRIVERS)
@pytest.mark.parametrize("work", SMALL + LARGE, ids=str)
def test_each_job_is_answered(run: Run, work: Work) -> None:
    """The answer to a job comes back into the generator, and its return value out of the driver."""
    alone = Worked(lambda: 4, work, Resources(max_concurrent=1))
    assert run(each(Inline(lambda: 1), Threaded(lambda: 2), Worked(lambda: 3, work), alone)) == [1, 2, 3, 4]


@pytest.mark.parametrize("run", DRIVERS)
def test_a_generator_without_steps_is_run(run: Run) -> None:
    """A generator that asks for nothing returns at once."""
    assert run(each()) == []


@pytest.mark.parametrize("run", DRIVERS)
@pytest.mark.parametrize(
    "kind", [Inline, Threaded, lambda call: Worked(call, SMALL[0]), lambda call: Worked(call, LARGE[0])]
)
def test_an_error_of_a_job_is_raised_at_its_step(
    run: Run, kind: Callable[[Callable[[], object]], Job]
) -> None:
    """The generator can answer an error with something else, and goes on."""
    error = LookupError("lost")

    def fail() -> object:
        raise error

    assert run(each(kind(fail), Inline(lambda: 2))) == [error, 2]


@pytest.mark.parametrize("run", DRIVERS)
def test_an_error_the_generator_does_not_answer_comes_out(run: Run) -> None:
    """What a job raises and the generator lets pass reaches the driver's caller unchanged."""
    with pytest.raises(ZeroDivisionError):
        run(each(Inline(lambda: 1 // 0)))


@pytest.mark.parametrize("work", SMALL, ids=str)
@pytest.mark.parametrize("run", DRIVERS)
def test_small_work_is_done_where_it_is_asked_for(run: Run, work: Work) -> None:
    """Work under the cost of a few hops to a thread needs none."""
    assert run(each(Worked(threading.get_ident, work))) == [threading.get_ident()]


@pytest.mark.parametrize("work", LARGE, ids=str)
@pytest.mark.parametrize("run", DRIVERS)
def test_large_work_runs_under_the_limiter(run: Run, work: Work) -> None:
    """Work that may be slow has a thread of the process-wide limiter's."""
    assert run(each(Worked(lambda: threading.current_thread().name, work))) == ["tuned-digest-work"]


def test_threaded_jobs_block_a_blocking_caller() -> None:
    """A blocking client calls what may be slow in its own thread."""
    assert blocking(each(Threaded(threading.get_ident))) == [threading.get_ident()]


@pytest.mark.parametrize("run", ASYNC_DRIVERS)
def test_threaded_jobs_leave_the_loop_free(run: Run) -> None:
    """Under anyio what may be slow runs in another thread."""
    assert run(each(Threaded(threading.get_ident))) != [threading.get_ident()]


async def answer() -> int:
    """Answer after a turn of the event loop."""
    await anyio.lowlevel.checkpoint()
    return 7


@pytest.mark.parametrize("run", ASYNC_DRIVERS)
@pytest.mark.parametrize("kind", [Inline, lambda call: Worked(call, SMALL[0])])
def test_awaitable_answers_are_awaited(run: Run, kind: Callable[[Callable[[], object]], Job]) -> None:
    """An async signer, cache or store answers by being awaited."""
    assert run(each(kind(answer))) == [7]


@pytest.mark.parametrize("kind", [Inline, Threaded])
def test_a_blocking_caller_refuses_awaitable_answers(kind: Callable[[Callable[[], object]], Job]) -> None:
    """A blocking client says that an async signer, cache or store needs an async one."""
    with pytest.raises(ArgumentError, match="needs an async client"):
        blocking(each(kind(answer)))


def test_a_blocking_caller_refuses_awaitables_of_any_kind() -> None:
    """A future is refused as a coroutine is."""
    loop = asyncio.new_event_loop()
    try:
        with pytest.raises(ArgumentError, match="needs an async client"):
            blocking(each(Inline(loop.create_future)))
    finally:
        loop.close()


def test_work_is_done_in_place_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking client signs at the interpreter's exit too, when no thread starts any more."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert blocking(each(Worked(threading.get_ident, LARGE[0]))) == [threading.get_ident()]


def test_an_interrupted_wait_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ctrl-C interrupts while it waits for a place is not done later for nobody."""
    futures: list[Future[object]] = []

    class Interrupted(Future[object]):
        def result(self, timeout: float | None = None) -> object:
            raise KeyboardInterrupt

    def submit(limiter: WorkLimiter, *job: Any) -> Future[object]:
        futures.append(Interrupted())
        return futures[0]

    monkeypatch.setattr(WorkLimiter, "submit", submit)
    with pytest.raises(KeyboardInterrupt):
        blocking(each(Worked(threading.get_ident, LARGE[0])))
    assert futures[0].cancelled()
