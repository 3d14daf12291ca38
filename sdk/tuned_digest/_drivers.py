"""Perform the steps of a generator: blocking, or under anyio.

A leaf says what a step means by turning it into a `Job`; the two drivers differ only in how they run
one. Awaitables are accepted wherever a call is made inline, so that async signers and stores need no
second path.
"""

from __future__ import annotations

__all__ = ["Inline", "Job", "Threaded", "Worked", "run_anyio", "run_blocking"]

import inspect
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

import anyio
import anyio.lowlevel
import anyio.to_thread

from ._steps import Step
from ._work import Resources, outcome, process_limiter
from .errors import ArgumentError, NoThreadError, WorkTimeoutError
from .tuning import Tuning, Work

T = TypeVar("T")

# Work that takes less than about three hops to a thread (0.1 ms each) is done where it is asked for.
_INLINE_WORK_KIB = 512
_INLINE_SEARCH_BITS = 6


@dataclass(slots=True)
class Inline:
    """Call at once; await what comes back if it is awaitable."""

    call: Callable[[], object] = field(repr=False)


@dataclass(slots=True)
class Threaded:
    """Call in a worker thread of the event loop's; blocking clients call at once."""

    call: Callable[[], object] = field(repr=False)


@dataclass(slots=True)
class Worked:
    """Call under the process-wide limiter; tell the work where nobody waits for it any more."""

    call: Callable[[], object] = field(repr=False)
    work: Work
    resources: Resources = Resources()
    abandon: Callable[[], None] = field(default=lambda: None, repr=False)


Job = Inline | Threaded | Worked


def run_blocking(steps: Generator[Step[object], object, T], job_for: Callable[[Step[object]], Job]) -> T:
    """Run a generator of steps to its end in this thread.

    Args:
        steps: The generator.
        job_for: Says what each step means.

    Returns:
        What the generator returns.

    Raises:
        ArgumentError: If a step can only be awaited.
    """
    step = _advance(steps)
    while isinstance(step, Step):
        try:
            answer = _perform_blocking(job_for(step))
        except Exception as error:
            step = _advance(steps, error=error)
        else:
            step = _advance(steps, answer)
    return step.value


async def run_anyio(steps: Generator[Step[object], object, T], job_for: Callable[[Step[object]], Job]) -> T:
    """Run a generator of steps to its end on the event loop, what may be slow in worker threads.

    Args:
        steps: The generator.
        job_for: Says what each step means.

    Returns:
        What the generator returns.
    """
    await _take_turn()
    step = _advance(steps)
    while isinstance(step, Step):
        try:
            answer = await _perform_anyio(job_for(step))
        except Exception as error:
            step = _advance(steps, error=error)
        else:
            step = _advance(steps, answer)
    return step.value


async def _take_turn() -> None:
    """Let a burst of requests through one by one, and the loop to everybody else between them."""
    try:
        turn = _turns.get()
    except LookupError:
        turn = anyio.Lock()
        _turns.set(turn)
    async with turn:
        await anyio.lowlevel.checkpoint()


_turns = anyio.lowlevel.RunVar[anyio.Lock]("tuned_digest_turns")  # one for each event loop


@dataclass(slots=True)
class _Returned(Generic[T]):
    value: T = field(repr=False)


def _advance(
    steps: Generator[Step[object], object, T], answer: object = None, *, error: Exception | None = None
) -> Step[object] | _Returned[T]:
    try:
        return steps.throw(error) if error is not None else steps.send(answer)
    except StopIteration as stop:
        return _Returned(cast("T", stop.value))


def _perform_blocking(job: Job) -> object:
    if isinstance(job, Worked) and not _is_small(job.work):
        return _wait_for(process_limiter().submit(job.call, job.work, job.resources), job)
    answer = job.call()
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise ArgumentError("an async signer, cache or store needs an async client or application")
    return answer


def _wait_for(future: Future[object], job: Worked) -> object:
    try:
        return future.result(job.resources.work_timeout)
    except NoThreadError:  # as in what runs at the interpreter's exit
        return job.call()
    except TimeoutError:
        if future.done():  # just now, or the error is the work's own
            return future.result()
        raise _timed_out(job) from None
    finally:
        _leave(future, job)


async def _perform_anyio(job: Job) -> object:
    if isinstance(job, Worked) and not _is_small(job.work):
        return await _outcome_in_time(process_limiter().submit(job.call, job.work, job.resources), job)
    answer = await anyio.to_thread.run_sync(job.call) if isinstance(job, Threaded) else job.call()
    return await answer if inspect.isawaitable(answer) else answer


async def _outcome_in_time(future: Future[object], job: Worked) -> object:
    try:
        with anyio.move_on_after(job.resources.work_timeout):
            return await outcome(future)
    finally:
        _leave(future, job)
    if future.done() and not future.cancelled():  # just now
        return future.result()
    raise _timed_out(job)


def _leave(future: Future[object], job: Worked) -> None:
    """Leave the queue, or the work behind, when the wait was interrupted; does nothing to what is done."""
    if not future.cancel() and not future.done():
        job.abandon()


def _timed_out(job: Worked) -> WorkTimeoutError:
    seconds = job.resources.work_timeout
    return WorkTimeoutError(
        f"the work for {job.work} was not done within {seconds} seconds: allow more with "
        "Resources(work_timeout=...), or run fewer requests at once",
        seconds=seconds or 0,
    )


def _is_small(work: Work) -> bool:
    if isinstance(work, Tuning):
        return work.lanes == 1 and work.work_kib <= _INLINE_WORK_KIB
    return work.bits <= _INLINE_SEARCH_BITS
