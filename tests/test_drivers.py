"""The two drivers: the same steps, blocking and under anyio."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, cast

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from tuned_digest import ArgumentError, Ed25519Signer, Resources, SearchCost, Tuning, _drivers
from tuned_digest._drivers import Inline, Job, Threaded, Worked, run_anyio, run_blocking
from tuned_digest._steps import Step, ask
from tuned_digest._work import WorkLimiter
from tuned_digest.errors import ProofAbandonedError, WorkTimeoutError
from tuned_digest.exchange import Prove
from tuned_digest.httpx import TunedDigestAuth
from tuned_digest.proof.native import native_engine
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


@pytest.fixture
def limiter(monkeypatch: pytest.MonkeyPatch) -> WorkLimiter:
    """The process's limiter, with one place."""
    limiter = WorkLimiter(1)
    monkeypatch.setattr(_drivers, "process_limiter", lambda: limiter)
    return limiter


HURRIED = Resources(work_timeout=0.01)
PATIENT = Resources(work_timeout=60)


@pytest.mark.parametrize("run", DRIVERS)
@pytest.mark.parametrize("work", [LARGE[0], LARGE[-1]], ids=str)
def test_work_that_has_no_place_in_time_leaves_the_queue(run: Run, work: Work, limiter: WorkLimiter) -> None:
    """Work that is still waiting when its time is over is never done."""
    released = threading.Event()
    running = limiter.submit(lambda: released.wait(60), work)
    with pytest.raises(WorkTimeoutError, match=r"not done within 0.01 seconds.*work_timeout") as raised:
        run(each(Worked(lambda: pytest.fail("it is done for nobody"), work, HURRIED)))
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.seconds == 0.01
    assert not limiter._hashes
    assert not limiter._searches
    released.set()
    assert running.result(60)


@pytest.mark.parametrize("run", DRIVERS)
def test_work_that_is_not_done_in_time_is_abandoned(run: Run, limiter: WorkLimiter) -> None:
    """Work under way when its time is over is told, and gives its place back once it ends."""
    abandoned = threading.Event()
    with pytest.raises(WorkTimeoutError):
        run(each(Worked(lambda: abandoned.wait(60), LARGE[-1], HURRIED, abandoned.set)))
    assert run(each(Worked(lambda: "next", LARGE[-1], PATIENT))) == ["next"]


@pytest.mark.parametrize("run", DRIVERS)
def test_work_that_is_done_in_time_is_not_abandoned(run: Run) -> None:
    """Work that is done gives its result, and is told nothing."""
    abandoned = threading.Event()
    assert run(each(Worked(lambda: "done", LARGE[0], PATIENT, abandoned.set))) == ["done"]
    assert not abandoned.is_set()


@pytest.mark.parametrize("resources", [Resources(), PATIENT], ids=["without limit", "with limit"])
@pytest.mark.parametrize("run", DRIVERS)
def test_a_timeout_of_the_work_itself_comes_through(run: Run, resources: Resources) -> None:
    """A `TimeoutError` that the work raises is its own, and not taken for ours."""
    error = TimeoutError("the work's own")

    def fail() -> None:
        raise error

    with pytest.raises(TimeoutError) as raised:
        run(each(Worked(fail, LARGE[0], resources)))
    assert raised.value is error


class _JustInTime(Future[object]):
    """A future that is done at the moment in which waiting for it ends."""

    def result(self, timeout: float | None = None) -> object:
        if timeout is not None:
            raise TimeoutError
        return super().result()

    def add_done_callback(self, fn: Callable[[Future[object]], object]) -> None:
        """Tell nobody yet."""


@pytest.mark.parametrize("run", DRIVERS)
def test_work_done_at_the_last_moment_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is there when the time is over is given."""
    future = _JustInTime()
    future.set_result("just in time")
    monkeypatch.setattr(WorkLimiter, "submit", lambda limiter, *job: future)
    assert run(each(Worked(lambda: "never", LARGE[0], HURRIED))) == ["just in time"]


def searching(resources: Resources, on_progress: Callable[[int], None]) -> Worked:
    """Search for what is not found in seconds, as an auth object does."""
    return proving(resources, Prove(b"string", SearchCost(32), "nonce", b"", on_progress))


def proving(resources: Resources, step: Prove) -> Worked:
    """Do the work of a step as an auth object does."""
    job = TunedDigestAuth("*", Ed25519Signer.generate(), resources=resources)._job(cast("Step[object]", step))
    assert isinstance(job, Worked)
    return job


@pytest.mark.skipif(native_engine() is None, reason="without tuned-digest-native a digest cannot be stopped")
@pytest.mark.parametrize("run", DRIVERS)
def test_a_digest_that_nobody_waits_for_stops(run: Run, limiter: WorkLimiter) -> None:
    """Its time over, a digest of hours gives its place back."""
    hours = Tuning("argon2d", 65536, 1_000_000, 1)
    job = proving(HURRIED, Prove(b"string", hours, "nonce", bytes(16)))
    with pytest.raises(WorkTimeoutError):
        run(each(job))
    assert run(each(Worked(lambda: "next", LARGE[0], PATIENT))) == ["next"]
    with pytest.raises(ProofAbandonedError, match="nobody waits"):
        job.call()


class TestAbandonedSearches:
    """A search that nobody waits for stops at its next turn, and gives its place back."""

    @pytest.mark.parametrize("run", DRIVERS)
    def test_after_a_timeout(self, run: Run, limiter: WorkLimiter) -> None:
        """Its time over, a search makes room for the next."""
        turns = list[int]()
        job = searching(HURRIED, turns.append)
        with pytest.raises(WorkTimeoutError):
            run(each(job))
        assert run(each(Worked(lambda: "next", SearchCost(7), PATIENT))) == ["next"]
        with pytest.raises(ProofAbandonedError, match="nobody waits"):
            job.call()
        assert len(turns) == len(set(turns))

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_after_its_task_was_cancelled(self, backend: str, limiter: WorkLimiter) -> None:
        """Its task cancelled, a search makes room for the next."""
        turns = list[int]()

        async def main() -> list[Any]:
            with anyio.CancelScope() as scope:
                token = anyio.lowlevel.current_token()

                def cancel(tried: int) -> None:
                    if not turns:
                        anyio.from_thread.run_sync(scope.cancel, token=token)
                    turns.append(tried)

                await run_anyio(each(searching(PATIENT, cancel)), job_of)
            assert scope.cancelled_caught
            return await run_anyio(each(Worked(lambda: "next", SearchCost(7), PATIENT)), job_of)

        assert anyio.run(main, backend=backend) == ["next"]
        assert turns[0] in {256, 2**24}  # without the native companion, and with it
