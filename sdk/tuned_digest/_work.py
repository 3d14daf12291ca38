"""How much runs at once: one limiter for the whole process, for threads and event loops alike.

Each piece of work runs in a thread of its own; starting one costs a thousandth of a hash at the access
tuning, and there is no pool to lose at a fork or to wait for at exit. A place is given back by the
thread that held it, never by a task: without the native companion a running hash cannot be interrupted,
so a task that was cancelled leaves its hash, and the place, behind.
"""

from __future__ import annotations

__all__ = ["Resources", "WorkLimiter", "check_priming", "outcome", "process_limiter"]

import contextlib
import functools
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

from ._machine import usable_cores, usable_memory_kib
from .canonical import is_signable
from .errors import ArgumentError, NoThreadError
from .tuning import SearchCost, Tuning, Work

T = TypeVar("T")


# The memory of one deployed create tuning, and of one access tuning beside it.
_LEAST_MEMORY_KIB = 320 * 1024


@dataclass(frozen=True, slots=True)
class Resources:
    """Say what this process spends on requests.

    Args:
        max_concurrent: Proofs computed at once in the whole process, None for one per usable core.
        memory_kib: Memory of all proofs computed at once in the whole process, KiB; a request that alone
            needs more is refused. None for a quarter of what the machine or the control group has, and
            at least 320 MiB.
        work_timeout: Seconds that each proof may take, the wait for a place included; None for no limit.
            A request may need several. Timeouts of client libraries begin when a request is sent, after
            its work.
        spool_kib: How much of a body that can be read only once is kept in memory, KiB; more goes to
            a temporary file.
        spool_dir: Where temporary files go, None for ``TMPDIR``, else ``/var/tmp``, else the system's choice.
        prime_above_kib: Bodies larger than this, KiB, are not sent by httpx clients just to be challenged:
            where no nonce is held one is asked for first; None to send them. requests cannot do it.
        prime_method: The method of the request that asks; a GET follows where it brings nothing.
        prime_path: The path of that request.

    Raises:
        ArgumentError: If a number is not positive, the method is never signed, or the path has no slash.
    """

    max_concurrent: int | None = None
    memory_kib: int | None = None
    work_timeout: float | None = None
    spool_kib: int = 8192
    spool_dir: str | os.PathLike[str] | None = None
    prime_above_kib: int | None = 1024
    prime_method: str = "HEAD"
    prime_path: str = "/"

    def __post_init__(self) -> None:
        for name in ("max_concurrent", "memory_kib", "spool_kib", "prime_above_kib"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ArgumentError(f"{name} is at least 1")
        if self.work_timeout is not None and self.work_timeout <= 0:
            raise ArgumentError("work_timeout is more than 0 seconds")
        check_priming(self.prime_method, self.prime_path)

    def memory_limit_kib(self) -> int:
        """Find how much memory all proofs at once may take.

        Returns:
            KiB.
        """
        return self.memory_kib or _default_memory_kib()


@functools.cache
def _default_memory_kib() -> int:
    return max(_LEAST_MEMORY_KIB, usable_memory_kib() // 4)


def check_priming(method: str, path: str) -> None:
    """Refuse a priming request that could not be sent, or not be signed.

    Args:
        method: Its method.
        path: The path it goes to, as on the wire.

    Raises:
        ArgumentError: If it is.
    """
    if not _METHOD.fullmatch(method) or not is_signable(method, path):
        raise ArgumentError(f"priming is done with a method that is signed, not {method!r}")
    if not _PATH.fullmatch(path):
        raise ArgumentError(f"priming goes to a path as on the wire, percent-encoded, not {path!r}")


# What RFC 9110 section 9.1 and RFC 3986 section 3.3 allow, and a query.
_METHOD = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")


@dataclass(slots=True)
class _Waiting(Generic[T]):
    ticket: int
    future: Future[T]
    job: Callable[[], T]
    work: Work
    places: int
    memory_limit_kib: int

    @property
    def memory_kib(self) -> int:
        return self.work.memory_kib if isinstance(self.work, Tuning) else 0


_Queue = OrderedDict[int, _Waiting[Any]]  # by ticket, the longest waiting first


class WorkLimiter:
    """Admit work first come first served: so many pieces at once, in so much memory, and one search.

    A search in Python holds the GIL most of the time, and a native one uses all cores, so a second one would
    only slow both. Work that needs more memory than there is runs alone.

    Args:
        places: How many pieces of work run at once.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._tickets = 0
        self._running = 0
        self._memory_kib = 0
        self._searching = False
        self._hashes: _Queue = OrderedDict()
        self._searches: _Queue = OrderedDict()

    def submit(self, job: Callable[[], T], work: Work, resources: Resources = Resources()) -> Future[T]:
        """Queue a piece of work.

        Args:
            job: What to run, in a thread of its own.
            work: What kind of work it is.
            resources: What may be running beside it.

        Returns:
            Its future; cancelling that before the work runs takes it out of the queue.
        """
        future: Future[T] = Future()
        queue = self._searches if isinstance(work, SearchCost) else self._hashes
        places, memory = resources.max_concurrent or self._places, resources.memory_limit_kib()
        with self._lock:
            self._tickets += 1
            ticket = self._tickets
            queue[ticket] = _Waiting(ticket, future, job, work, places, memory)
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
            thread = threading.Thread(
                target=self._run, args=(admitted,), name="tuned-digest-work", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as error:  # no more threads, or the interpreter is going down
                self._give_back(admitted)
                admitted.future.set_exception(NoThreadError(f"no thread for the work: {error}"))

    def _admit(self) -> _Waiting[Any] | None:
        """Take the longest waiting work that may run now out of its queue."""
        with self._lock:
            while heads := self._heads():
                waiting = min(heads, key=lambda head: head.ticket)
                if not self._has_room(waiting):
                    return None
                is_search = self._searches.pop(waiting.ticket, None) is not None
                if not is_search:
                    del self._hashes[waiting.ticket]
                if waiting.future.set_running_or_notify_cancel():
                    self._running += 1
                    self._memory_kib += waiting.memory_kib
                    self._searching = self._searching or is_search
                    return waiting
            return None

    def _heads(self) -> list[_Waiting[Any]]:
        queues = [self._hashes] if self._searching else [self._hashes, self._searches]
        return [next(iter(queue.values())) for queue in queues if queue]

    def _has_room(self, waiting: _Waiting[Any]) -> bool:
        fits = self._memory_kib + waiting.memory_kib <= waiting.memory_limit_kib
        return not self._running or (self._running < waiting.places and fits)

    def _run(self, admitted: _Waiting[Any]) -> None:
        settle: Callable[[], None]
        try:
            settle = functools.partial(admitted.future.set_result, admitted.job())
        except BaseException as error:
            settle = functools.partial(admitted.future.set_exception, error)
        self._give_back(admitted)
        self._start_admitted()
        settle()

    def _give_back(self, admitted: _Waiting[Any]) -> None:
        with self._lock:
            self._running -= 1
            self._memory_kib -= admitted.memory_kib
            if isinstance(admitted.work, SearchCost):
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
