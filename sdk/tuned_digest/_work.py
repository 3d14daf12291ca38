"""How much runs at once: one limiter for the whole process, for threads and event loops alike.

Each piece of work runs in a thread of its own; starting one costs a thousandth of a hash at the access
tuning, and there is no pool to lose at a fork or to wait for at exit. A place is given back by the
thread that held it, never by a task: a running hash cannot be interrupted, so a task that was cancelled
leaves its hash, and the place, behind.
"""

from __future__ import annotations

__all__ = ["Resources", "WorkLimiter", "outcome", "process_limiter"]

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

from ._cores import usable_cores
from .errors import ArgumentError, NoThreadError
from .tuning import SearchCost, Work

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resources:
    """Say what this process spends on requests.

    Args:
        max_concurrent: Proofs computed at once in the whole process, None for one per usable core.
        spool_kib: How much of a body that can be read only once is kept in memory, KiB; more goes to
            a temporary file.
        spool_dir: Where temporary files go, None for the system's choice.

    Raises:
        ArgumentError: If a number is not positive.
    """

    max_concurrent: int | None = None
    spool_kib: int = 8192
    spool_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if (self.max_concurrent is not None and self.max_concurrent < 1) or self.spool_kib < 1:
            raise ArgumentError("max_concurrent and spool_kib are at least 1")


@dataclass(slots=True)
class _Waiting(Generic[T]):
    ticket: int
    future: Future[T]
    job: Callable[[], T]
    at_most: int


_Queue = OrderedDict[int, _Waiting[Any]]  # by ticket, the longest waiting first


class WorkLimiter:
    """Admit work first come first served, at most so many pieces at once, and one search at a time.

    A search in Python holds the GIL most of the time, so a second one would only slow both.

    Args:
        places: How many pieces of work run at once.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._tickets = 0
        self._running = 0
        self._searching = False
        self._hashes: _Queue = OrderedDict()
        self._searches: _Queue = OrderedDict()

    def submit(self, job: Callable[[], T], work: Work, at_most: int | None = None) -> Future[T]:
        """Queue a piece of work.

        Args:
            job: What to run, in a thread of its own.
            work: What kind of work it is.
            at_most: Run it only while fewer pieces than this are running, None for the limiter's number.

        Returns:
            Its future; cancelling that before the work runs takes it out of the queue.
        """
        future: Future[T] = Future()
        queue = self._searches if isinstance(work, SearchCost) else self._hashes
        with self._lock:
            self._tickets += 1
            ticket = self._tickets
            queue[ticket] = _Waiting(ticket, future, job, at_most or self._places)
        future.add_done_callback(lambda _: self._leave(queue, ticket))
        self._start_admitted()
        return future

    def _leave(self, queue: _Queue, ticket: int) -> None:
        with self._lock:
            was_waiting = queue.pop(ticket, None) is not None
        if was_waiting:
            self._start_admitted()

    def _start_admitted(self) -> None:
        while admitted := self._admit():
            waiting, is_search = admitted
            thread = threading.Thread(
                target=self._run, args=(waiting, is_search), name="tuned-digest-work", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is going down
                self._give_back(is_search)
                waiting.future.set_exception(NoThreadError(f"no thread for the work: {error}"))

    def _admit(self) -> tuple[_Waiting[Any], bool] | None:
        """Take the longest waiting work that may run now out of its queue."""
        with self._lock:
            while heads := self._heads():
                waiting = min(heads, key=lambda head: head.ticket)
                if self._running >= waiting.at_most:
                    return None
                is_search = self._searches.pop(waiting.ticket, None) is not None
                if not is_search:
                    del self._hashes[waiting.ticket]
                if waiting.future.set_running_or_notify_cancel():
                    self._running += 1
                    self._searching = self._searching or is_search
                    return waiting, is_search
            return None

    def _heads(self) -> list[_Waiting[Any]]:
        queues = [self._hashes] if self._searching else [self._hashes, self._searches]
        return [next(iter(queue.values())) for queue in queues if queue]

    def _run(self, waiting: _Waiting[Any], is_search: bool) -> None:
        settle: Callable[[], None]
        try:
            settle = partial(waiting.future.set_result, waiting.job())
        except BaseException as error:
            settle = partial(waiting.future.set_exception, error)
        self._give_back(is_search)
        self._start_admitted()
        settle()

    def _give_back(self, is_search: bool) -> None:
        with self._lock:
            self._running -= 1
            if is_search:
                self._searching = False


def process_limiter() -> WorkLimiter:
    """Find this process's limiter; a forked child makes its own.

    Returns:
        The limiter, with a place per usable core.
    """
    process = os.getpid()
    limiter = _limiters.get(process)
    if limiter is None:
        limiter = _limiters.setdefault(process, WorkLimiter(usable_cores()))
    return limiter


_limiters: dict[int, WorkLimiter] = {}  # by process: after a fork the parent's threads and lock are not here


async def outcome(future: Future[T]) -> T:
    """Await a future of the limiter, under asyncio or trio.

    Args:
        future: The future; it is cancelled when the task is.

    Returns:
        Its result.
    """
    done = anyio.Event()
    token = anyio.lowlevel.current_token()
    loop_thread = threading.get_ident()
    is_awaited = True

    def wake(settled: Future[T]) -> None:
        if not is_awaited:
            return
        if threading.get_ident() == loop_thread:
            done.set()
            return
        with contextlib.suppress(RuntimeError):  # the loop is gone, and so is the task
            anyio.from_thread.run_sync(done.set, token=token)

    future.add_done_callback(wake)
    try:
        await done.wait()
    finally:
        is_awaited = False
        future.cancel()  # does nothing to one that is done
    return future.result()
