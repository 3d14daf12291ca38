"""Work that somebody waits for: the wait has an end, and work that nobody waits for is told."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from tuned_digest import Resources, SearchCost, Tuning, Work, WorkTimeoutError
from tuned_digest._runtime import steps
from tuned_digest._runtime.drivers import run_anyio
from tuned_digest._runtime.limiter import WorkLimiter, outcome
from tuned_digest._runtime.steps import Limited, Steps
from tuned_digest._wire.challenge import Challenge
from tuned_digest.events import Event, WorkProgressed
from tuned_digest.proof.native import native_engine

from .driving import Client
from .working import BACKENDS, DRIVERS, HASH, PATIENCE, SEARCH, Held, Run, blocking, in_one_piece, noting

BOTH_KINDS = pytest.mark.parametrize("work", [HASH, SEARCH], ids=str)
UNDER_EACH = pytest.mark.parametrize("run", DRIVERS)
ON_EACH_LOOP = pytest.mark.parametrize("backend", BACKENDS)
HURRIED = 0.01  # seconds


def limited(
    call: Callable[[], object],
    work: Work = HASH,
    seconds: float | None = None,
    abandon: Callable[[], None] = lambda: None,
) -> Steps[Any]:
    """Wait for work in one piece."""
    return (yield Limited(in_one_piece(call), work, share="a test", seconds=seconds, abandon=abandon))


@pytest.fixture
def limiter(monkeypatch: pytest.MonkeyPatch) -> WorkLimiter:
    """The process's limiter, with one place."""
    limiter = WorkLimiter(1)
    monkeypatch.setattr(steps, "process_limiter", lambda: limiter)
    return limiter


@ON_EACH_LOOP
def test_a_task_awaits_work(backend: str) -> None:
    """A task gets the result or the error of work in a thread, on either event loop."""

    async def main() -> None:
        limiter = WorkLimiter(1)
        assert await outcome(limiter.submit(in_one_piece(lambda: 7), HASH)) == 7
        with pytest.raises(ZeroDivisionError):
            await outcome(limiter.submit(in_one_piece(lambda: 1 // 0), HASH))

    anyio.run(main, backend=backend)


@ON_EACH_LOOP
def test_a_task_awaits_work_that_is_done(backend: str) -> None:
    """A future that was done before it is awaited gives its result."""
    future = Future[int]()
    future.set_result(7)
    assert anyio.run(outcome, future, backend=backend) == 7


@ON_EACH_LOOP
def test_the_loop_runs_while_a_task_awaits_work(backend: str) -> None:
    """Another task lets go the very work that the first one awaits."""
    work = Held()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(outcome, WorkLimiter(1).submit(work.pieces(), HASH))
            await anyio.lowlevel.checkpoint()
            work.released.set()

    anyio.run(main, backend=backend)
    assert work.started.is_set()


async def cancelled(step: Limited) -> None:
    """Wait for work in a task that is cancelled."""
    async with anyio.create_task_group() as group:
        group.start_soon(step.awaited)
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()


@BOTH_KINDS
@ON_EACH_LOOP
def test_a_cancelled_task_takes_its_work_out_of_the_queue(
    backend: str, work: Work, limiter: WorkLimiter
) -> None:
    """Work that has not begun when its task is cancelled never runs, and nobody is told to stop."""
    first, story = Held(), list[str]()
    limiter.submit(first.pieces(), HASH)
    step = Limited(noting(story, "never"), work, share="a test", abandon=lambda: story.append("abandoned"))
    anyio.run(cancelled, step, backend=backend)
    following = limiter.submit(noting(story, "following"), work, "a test")
    first.finish()
    following.result(PATIENCE)
    assert story == ["following"]


@ON_EACH_LOOP
def test_a_cancelled_task_leaves_running_work_its_place(
    backend: str, limiter: WorkLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """A hash that was left behind keeps its place until it ends, and ends in peace when the loop is gone."""
    first, told = Held(), list[str]()
    step = Limited(first.pieces(), HASH, share="a test", abandon=lambda: told.append("abandoned"))
    anyio.run(cancelled, step, backend=backend)
    assert told == ["abandoned"]
    following = limiter.submit(in_one_piece(lambda: "ran"), HASH)
    assert not following.running()
    with caplog.at_level(logging.DEBUG):
        first.finish()
    assert following.result(PATIENCE) == "ran"
    assert "exception calling callback" not in caplog.text


def refuse(thread: threading.Thread) -> None:
    """Start no thread, as at the interpreter's exit."""
    raise RuntimeError("can't create new thread at interpreter shutdown")


def test_work_is_done_in_place_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """A blocking client signs at the interpreter's exit too, when no thread starts any more."""
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert blocking(limited(threading.get_ident)) == threading.get_ident()


def test_work_in_pieces_is_done_in_place_where_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pieces of a search are done, one after another."""
    monkeypatch.setattr(threading.Thread, "start", refuse)
    story = list[str]()

    def waits() -> Steps[Any]:
        return (yield Limited(noting(story, "piece", 3), SEARCH, share="a test"))

    assert (blocking(waits()), story) == ("piece", ["piece"] * 3)


def test_an_interrupted_wait_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Ctrl-C interrupts while it waits for a place is not done later for nobody."""
    futures: list[Future[object]] = []

    class Interrupted(Future[object]):
        def add_done_callback(self, fn: Callable[[Future[object]], object]) -> None:
            raise KeyboardInterrupt  # in the middle of the wait

    def submit(limiter: WorkLimiter, *work: Any) -> Future[object]:
        futures.append(Interrupted())
        return futures[0]

    monkeypatch.setattr(WorkLimiter, "submit", submit)
    with pytest.raises(KeyboardInterrupt):
        blocking(limited(threading.get_ident))
    assert futures[0].cancelled()


@BOTH_KINDS
@UNDER_EACH
def test_work_that_has_no_place_in_time_leaves_the_queue(run: Run, work: Work, limiter: WorkLimiter) -> None:
    """Work that is still waiting when its time is over is never done, and nobody is told to stop."""
    first, story = Held(), list[str]()
    limiter.submit(first.pieces(), work)
    with pytest.raises(WorkTimeoutError, match=r"not done in the 0.01 s.*work_timeout") as raised:
        run(limited(lambda: story.append("for nobody"), work, HURRIED, lambda: story.append("abandoned")))
    assert isinstance(raised.value, TimeoutError)
    assert raised.value.seconds == HURRIED
    following = limiter.submit(noting(story, "following"), work, "a test")
    first.finish()
    following.result(PATIENCE)
    assert story == ["following"]


@UNDER_EACH
def test_work_that_is_not_done_in_time_is_abandoned(run: Run, limiter: WorkLimiter) -> None:
    """Work under way when its time is over is told, and gives its place back once it ends."""
    abandoned = threading.Event()
    with pytest.raises(WorkTimeoutError):
        run(limited(lambda: abandoned.wait(PATIENCE), SEARCH, HURRIED, abandoned.set))
    assert run(limited(lambda: "next", SEARCH, PATIENCE)) == "next"


@pytest.mark.parametrize("seconds", [None, PATIENCE], ids=["without limit", "with limit"])
@UNDER_EACH
def test_work_that_is_done_in_time_is_not_abandoned(run: Run, seconds: float | None) -> None:
    """Work that is done gives its result, and is told nothing."""
    abandoned = threading.Event()
    assert run(limited(lambda: "done", HASH, seconds, abandoned.set)) == "done"
    assert not abandoned.is_set()


@pytest.mark.parametrize("seconds", [None, PATIENCE], ids=["without limit", "with limit"])
@UNDER_EACH
def test_a_timeout_of_the_work_itself_comes_through(run: Run, seconds: float | None) -> None:
    """A `TimeoutError` that the work raises is its own, and not taken for ours."""
    error = TimeoutError("the work's own")

    def fail() -> None:
        raise error

    with pytest.raises(TimeoutError) as raised:
        run(limited(fail, HASH, seconds))
    assert raised.value is error


class _JustInTime(Future[object]):
    """A future that is done at the moment in which waiting for it ends."""

    def result(self, timeout: float | None = None) -> object:
        if timeout is not None:
            raise TimeoutError
        return super().result()

    def add_done_callback(self, fn: Callable[[Future[object]], object]) -> None:
        """Tell nobody yet."""


@UNDER_EACH
def test_work_done_at_the_last_moment_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is there when the time is over is given."""
    future = _JustInTime()
    future.set_result("just in time")
    monkeypatch.setattr(WorkLimiter, "submit", lambda limiter, *work: future)
    assert run(limited(lambda: "never", HASH, HURRIED)) == "just in time"


def answering(work: Work, seconds: float, on_event: Callable[[Event], None] | None = None) -> Steps[Any]:
    """Answer a challenge as an auth object does, which takes hours."""
    options = {
        "resources": Resources(work_timeout=seconds),
        "schemes": [work.scheme],
        "on_event": on_event,
    }
    exchange = Client(options=options).exchange("GET", "/")
    return exchange.authorize(Challenge(work.scheme, "nonce", str(work), work, frozenset({"read"})))


HOURS = SearchCost(32), Tuning("argon2d", 65536, 1_000_000, 1)


@pytest.mark.parametrize(
    "work",
    [
        HOURS[0],
        pytest.param(
            HOURS[1],
            marks=pytest.mark.skipif(
                native_engine() is None, reason="without tuned-digest-native a digest cannot be stopped"
            ),
        ),
    ],
    ids=str,
)
@UNDER_EACH
def test_an_answer_that_takes_too_long_is_abandoned(run: Run, work: Work, limiter: WorkLimiter) -> None:
    """Its time over, work of hours gives its place back."""
    with pytest.raises(WorkTimeoutError):
        run(answering(work, HURRIED))
    assert run(limited(lambda: "next", work, PATIENCE)) == "next"


@ON_EACH_LOOP
def test_an_answer_whose_task_was_cancelled_is_abandoned(backend: str, limiter: WorkLimiter) -> None:
    """Its task cancelled, a search tries on until it sees that, and makes room for the next."""
    tried = list[int]()

    async def main() -> Any:
        with anyio.CancelScope() as scope:
            token = anyio.lowlevel.current_token()

            def cancel(event: Event) -> None:
                if isinstance(event, WorkProgressed):
                    if not tried:
                        anyio.from_thread.run_sync(scope.cancel, token=token)
                    tried.append(event.tried)

            await run_anyio(answering(HOURS[0], PATIENCE, cancel))
        assert scope.cancelled_caught
        return await run_anyio(limited(lambda: "next", SEARCH, PATIENCE))

    assert anyio.run(main, backend=backend) == "next"
    assert tried[0] in {65536, 2**24}  # without the native companion, and with it
