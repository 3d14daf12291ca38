"""The steps that generators of the client and of the server yield to their drivers.

A step says what is to be done and where it may run, once for both worlds: `blocking` does it in the
caller's thread, `awaited` on an event loop. Generators never suspend for anything else, and not for what
neither blocks nor takes long: that is simply called.
"""

from __future__ import annotations

__all__ = ["Either", "Here", "InThread", "Limited", "Pause", "Step", "Steps", "drained"]

import math
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread

from ..errors import ArgumentError, NoThreadError, TunedDigestError, WorkTimeoutError
from .forks import PerProcess
from .limiter import Allowance, Load, outcome, process_limiter

T = TypeVar("T")

# Seconds after which a wait looks for an interrupt that did not wake it: one that came just before the thread
# fell asleep, and on Windows any.
_ATTENTION = 0.5


class Step:
    """Stand for one thing to be done on this machine."""

    __slots__ = ()

    def blocking(self) -> object:
        """Do it in this thread.

        Returns:
            Its answer.
        """
        raise AssertionError  # each kind has its own; no ABC, whose isinstance is five times as slow

    async def awaited(self) -> object:
        """Do it on an event loop, without holding that up.

        Returns:
            Its answer.
        """
        raise AssertionError


# What a step is answered with depends on the step: the generator says what it expects.
Steps = Generator[Step, Any, T]


class Here(Step):
    """Call at once; await what comes back if it is awaitable."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def blocking(self) -> object:
        """Call; an awaitable answer is an ArgumentError."""
        return _not_awaitable(self._call())

    async def awaited(self) -> object:
        """Call, and await the answer if that can be done."""
        answer = self._call()
        return await cast("Awaitable[object]", answer) if hasattr(answer, "__await__") else answer


class InThread(Step):
    """Call in a worker thread of the event loop's; blocking callers call at once."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def blocking(self) -> object:
        """Call; an awaitable answer is an ArgumentError."""
        return _not_awaitable(self._call())

    async def awaited(self) -> object:
        """Call in a thread, and await the answer if that can be done."""
        (answer,) = await anyio.to_thread.run_sync(lambda: (self._call(),))  # trio takes no bare coroutine
        return await cast("Awaitable[object]", answer) if hasattr(answer, "__await__") else answer


class Either(Step):
    """Call one function where that may block, and await another where it may not."""

    __slots__ = ("_acall", "_call")

    def __init__(self, call: Callable[[], object], acall: Callable[[], Awaitable[object]]) -> None:
        self._call = call
        self._acall = acall

    def blocking(self) -> object:
        """Call the first."""
        return self._call()

    async def awaited(self) -> object:
        """Await the second."""
        return await self._acall()


class Pause(Step):
    """Wait.

    Args:
        seconds: How long.
    """

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def blocking(self) -> None:
        """Wait in this thread."""
        time.sleep(self.seconds)

    async def awaited(self) -> None:
        """Wait in this task."""
        await anyio.sleep(self.seconds)


class Limited(Step):
    """Work in turn with all other work of this process; tell the work when nobody waits for it any more.

    Args:
        pieces: Does the work, a piece up to each yield, and returns the answer.
        load: What the work takes.
        share: Whose work it is: all who have some waiting get equal turns.
        allowance: What may run beside it.
        seconds: How long to wait for it at most, the wait for a turn included; None for no limit.
        abandon: Called when nobody waits any more.
    """

    __slots__ = ("_abandon", "_allowance", "_load", "_pieces", "_seconds", "_share")

    def __init__(
        self,
        pieces: Generator[None, None, object],
        load: Load,
        *,
        share: Hashable,
        allowance: Allowance = Allowance(),
        seconds: float | None = None,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self._pieces = pieces
        self._load = load
        self._share = share
        self._allowance = allowance
        self._seconds = seconds
        self._abandon = abandon

    def blocking(self) -> object:
        """Wait for the work in this thread."""
        future = self.submit()
        try:
            if not _settles(future, self._seconds):
                raise self.timed_out()
            return future.result()
        except NoThreadError:  # as in what runs at the interpreter's exit
            with _one_without_a_thread.get():
                return drained(self._pieces)
        finally:
            self._leave(future)

    async def awaited(self) -> object:
        """Wait for the work in this task."""
        return await self.settled(self.submit())

    def submit(self) -> Future[object]:
        """Queue the work; a subclass may have a queue of its own.

        Returns:
            Its future; cancelling that before the work begins takes it out of the queue.
        """
        return process_limiter().submit(self._pieces, self._load, self._share, self._allowance)

    async def settled(self, future: Future[object]) -> object:
        """Wait in this task for work that was queued.

        Args:
            future: What `submit` returned.

        Returns:
            The work's answer.

        Raises:
            WorkTimeoutError: If it took too long; a subclass may say so with another error.
        """
        try:
            with anyio.move_on_after(self._seconds):
                return await outcome(future)
        finally:
            self._leave(future)
        if future.done() and not future.cancelled():  # just now
            return future.result()
        raise self.timed_out()

    def _leave(self, future: Future[object]) -> None:
        """Cancel queued work; ask running work to stop."""
        if not future.cancel() and not future.done():
            self._abandon()

    def timed_out(self) -> TunedDigestError:
        """Say that the work was not done in time.

        Returns:
            The error to raise.
        """
        return WorkTimeoutError(
            f"the work for {self._load} was not done in the {self._seconds:.3g} s that were left for it. "
            "Allow more with Resources(work_timeout=...), or run fewer requests at once",
            seconds=self._seconds or 0,
        )


_one_without_a_thread = PerProcess(threading.Lock)


def _settles(future: Future[object], seconds: float | None) -> bool:
    """Wait until a future is done; say with False that it took too long.

    Not by `Future.result`: its condition makes a RuntimeError of an interrupt that comes between two of its
    lines (python/cpython#118433), and a lock has no such lines.
    """
    settled = threading.Lock()
    settled.acquire()
    future.add_done_callback(lambda _: settled.release())
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    while not settled.acquire(timeout=max(0.0, min(_ATTENTION, deadline - time.monotonic()))):
        if time.monotonic() >= deadline:
            return future.done()  # it may be, just now
    return True


def drained(pieces: Generator[None, None, T]) -> T:
    """Do all pieces of work in this thread, one after the other.

    Args:
        pieces: Does the work, a piece up to each yield, and returns the answer.

    Returns:
        The answer.
    """
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            answer: T = end.value
            return answer


def _not_awaitable(answer: object) -> object:
    if hasattr(answer, "__await__"):
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        raise ArgumentError("an async signer, cache or store needs an async client or application")
    return answer
