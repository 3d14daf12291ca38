"""How much runs at once: one limiter for the whole process, for threads and event loops alike.

Work is done in pieces, each in a thread of its own; starting one costs a thousandth of a hash at the access
tuning, and there is no pool to lose at a fork or to wait for at exit. A place is given back by the thread
that held it, never by a task: without the native companion a running hash cannot be interrupted, so a task
that was cancelled leaves its hash, and the place, behind.

All who have work waiting take turns, one piece each. Whoever asks for much delays others by one piece at a
time.
"""

from __future__ import annotations

__all__ = ["Allowance", "Load", "WorkLimiter", "default_memory_kib", "outcome", "process_limiter"]

import contextlib
import functools
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

from ..errors import NoThreadError
from .forks import PerProcess
from .machine import usable_cores, usable_memory_kib

T = TypeVar("T")

# The memory of one deployed create tuning, and of one access tuning beside it.
_LEAST_MEMORY_KIB = 320 * 1024


class Load(Protocol):
    """Say what a piece of work takes; its text names it in errors."""

    @property
    def footprint_kib(self) -> int:
        """Give its memory, KiB."""
        ...

    runs_alone: ClassVar[bool]
    """Whether a second piece of its kind at the same time would only slow both."""


@functools.cache
def default_memory_kib() -> int:
    """Give the memory that all work at once may take where nobody says: a quarter of what there is.

    Returns:
        KiB, at least 320 MiB.
    """
    return max(_LEAST_MEMORY_KIB, usable_memory_kib() // 4)


@dataclass(frozen=True, slots=True)
class Allowance:
    """Say what may run beside a piece of work.

    Args:
        places: Pieces of work at once, None for one per usable core.
        memory_kib: Memory of them all, KiB; None for `default_memory_kib`. Work that needs more runs alone.
    """

    places: int | None = None
    memory_kib: int | None = None


@dataclass(slots=True)
class _Waiting(Generic[T]):
    future: Future[T] = field(repr=False)
    pieces: Generator[None, None, T] = field(repr=False)
    load: Load
    allowance: Allowance
    queue: tuple[Hashable, bool]
    """Whose it is, and whether it runs alone."""


class WorkLimiter:
    """Admit pieces of work in turn: so many at once, in so much memory, and of some kinds one.

    Args:
        places: How many pieces of work run at once.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._running = 0
        self._memory_kib = 0
        self._is_one_alone = False
        # Whose turn is next comes first; within one queue, who came first.
        self._queues: OrderedDict[tuple[Hashable, bool], OrderedDict[int, _Waiting[Any]]] = OrderedDict()

    def submit(
        self,
        pieces: Generator[None, None, T],
        load: Load,
        share: Hashable = None,
        allowance: Allowance = Allowance(),
    ) -> Future[T]:
        """Queue work.

        Args:
            pieces: Does it, a piece up to each yield, and returns the answer.
            load: What it takes.
            share: Whose it is: all who have work waiting get equal turns.
            allowance: What may be running beside it.

        Returns:
            Its future; cancelling that before the work begins takes it out of the queue.
        """
        waiting = _Waiting(Future[T](), pieces, load, allowance, (share, load.runs_alone))
        with self._lock:
            self._queues.setdefault(waiting.queue, OrderedDict())[id(waiting)] = waiting
        waiting.future.add_done_callback(lambda _: self._leave(waiting))
        self._start_admitted()
        return waiting.future

    def _leave(self, waiting: _Waiting[Any]) -> None:
        with self._lock:
            was_waiting = self._remove(waiting)
        if was_waiting:
            self._start_admitted()

    def _remove(self, waiting: _Waiting[Any]) -> bool:
        queue = self._queues.get(waiting.queue, OrderedDict())
        was_waiting = queue.pop(id(waiting), None) is not None
        if was_waiting and not queue:
            del self._queues[waiting.queue]
        return was_waiting

    def _start_admitted(self) -> None:
        while admitted := self._admit():
            thread = threading.Thread(
                target=self._run, args=(admitted,), name="tuned-digest-work", daemon=True
            )
            handled = sys.exception()
            try:
                thread.start()
            except (RuntimeError, MemoryError) as error:  # no more threads, or the interpreter is going down
                # Or an interrupt of the wait for the thread, which runs (python/cpython#118433).
                if (interrupt := error.__context__) is not None and interrupt is not handled:
                    raise interrupt from None
                if self._give_back(admitted, goes_on=None):
                    return
                admitted.future.set_exception(NoThreadError(f"no thread for the work: {error}"))

    def _admit(self) -> _Waiting[Any] | None:
        """Take the work whose turn it is out of its queue, if it may run now."""
        with self._lock:
            while waiting := self._next():
                if not self._has_room(waiting):
                    return None
                self._end_turn(waiting.queue)
                self._remove(waiting)
                # A future can be set running only once: not again for the second piece of its work.
                if waiting.future.running() or waiting.future.set_running_or_notify_cancel():
                    self._running += 1
                    self._memory_kib += waiting.load.footprint_kib
                    self._is_one_alone = self._is_one_alone or waiting.load.runs_alone
                    return waiting
            return None

    def _end_turn(self, queue: tuple[Hashable, bool]) -> None:
        """Let all others go first, also before the work of the other kind that the same share has."""
        share, runs_alone = queue
        for ended in ((share, not runs_alone), queue):
            if ended in self._queues:
                self._queues.move_to_end(ended)

    def _next(self) -> _Waiting[Any] | None:
        for (_, runs_alone), queue in self._queues.items():
            if not (runs_alone and self._is_one_alone):
                return next(iter(queue.values()))
        return None

    def _has_room(self, waiting: _Waiting[Any]) -> bool:
        limit = waiting.allowance.memory_kib or default_memory_kib()
        fits = self._memory_kib + waiting.load.footprint_kib <= limit
        return not self._running or (self._running < (waiting.allowance.places or self._places) and fits)

    def _run(self, admitted: _Waiting[Any]) -> None:
        """Do one piece; the next one has to wait for its turn."""
        settle: Callable[[], None] | None = None
        try:
            next(admitted.pieces)
        except StopIteration as end:
            settle = functools.partial(admitted.future.set_result, end.value)
        except BaseException as error:
            settle = functools.partial(admitted.future.set_exception, error)
        self._give_back(admitted, goes_on=settle is None)
        self._start_admitted()
        if settle is not None:
            settle()

    def _give_back(self, admitted: _Waiting[Any], *, goes_on: bool | None) -> bool:
        """Free a piece's place, and queue its work where that goes on.

        None is for work that got no thread: it goes on where another piece runs, whose end starts it.
        """
        with self._lock:
            self._running -= 1
            self._memory_kib -= admitted.load.footprint_kib
            if admitted.load.runs_alone:
                self._is_one_alone = False
            is_queued = self._running > 0 if goes_on is None else goes_on
            if is_queued:  # behind everybody else's, before its owner's own
                queue = self._queues.setdefault(admitted.queue, OrderedDict())
                queue[id(admitted)] = admitted
                queue.move_to_end(id(admitted), last=False)
            return is_queued


def process_limiter() -> WorkLimiter:
    """Find this process's limiter; a forked child makes its own.

    Returns:
        The limiter, with a place per usable core.
    """
    return _limiter.get()


_limiter = PerProcess(lambda: WorkLimiter(usable_cores()))  # after a fork the parent's threads are not here


async def outcome(future: Future[T]) -> T:
    """Await a future of the limiter, under asyncio or trio.

    Args:
        future: The future; whoever stops waiting cancels it.

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
    return future.result()
