"""The checks of work that a server has to do: a bounded queue, shared out fairly, for threads and tasks.

The process's limiter runs as many checks as there are places: it starts their threads and bounds their
memory. The other checks wait here, and `Turns` says whose is next. The thread that held a place gives it
back.
"""

from __future__ import annotations

__all__ = ["Check", "CheckQueue", "Checked"]

import functools
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import cast

import anyio

from .._runtime.forks import PerProcess
from .._runtime.limiter import process_limiter
from .._runtime.machine import usable_cores
from .._runtime.steps import Limited
from ..errors import ArgumentError, OverloadedError, ProofAbandonedError
from ..proof import Job, Work
from .turns import Bounds, Standing, Ticket, Turns, peer_key

_MICROSECONDS = 1_000_000  # in a second

_FIRST_GUESS = 0.1  # seconds, until a check was measured: about what the access tuning takes

_PROVED = 65536  # identities remembered for their work, about 150 bytes each

_NEWEST = 0.125  # how much the newest measurement counts in the average, as in RFC 6298 section 2

_DOUBT = 2  # how many times longer than estimated work may take, see `Work.estimate`


def _ignore(work: Work, seconds: float) -> None:
    """Note nothing."""


@dataclass(frozen=True, slots=True)
class Check:
    """Say what is to be checked, and for whom.

    Args:
        run: Does it; what it raises goes to whoever waits.
        work: What it takes.
        identity: Who asks; one check of an identity is under way at a time.
        peer: The address that the request came from.
        is_registered: Whether the identity is registered: those come first.
        job: Stops the check, where the engine can.
        on_checked: Called in the check's thread once it is done, whatever it found, with the work and the
            seconds it took.
    """

    run: Callable[[], None] = field(repr=False)
    work: Work
    identity: str
    peer: str
    is_registered: bool
    job: Job = field(default_factory=Job, repr=False)
    on_checked: Callable[[Work, float], None] = field(default=_ignore, repr=False)


class CheckQueue:
    """Share a server's checks out among identities and peers; only so many wait.

    Each process has a queue of its own, a forked one too.

    Args:
        capacity: Checks that wait at once.
        places: Checks under way at once, None for one per usable core.
        max_wait: Seconds that a check may have to wait, as estimated.
        clock: Gives seconds, never going back.

    Raises:
        ArgumentError: If a number is not positive, or `max_wait` is not finite.
    """

    def __init__(
        self,
        *,
        capacity: int = 256,
        places: int | None = None,
        max_wait: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if capacity < 1 or (places is not None and places < 1) or not 0 < max_wait < math.inf:
            raise ArgumentError("capacity, places and max_wait are positive, and max_wait is finite")
        self.deadline = _DOUBT * max_wait
        """Seconds after which nobody waits for a check any more."""
        self._state = PerProcess(lambda: _State(capacity, places or usable_cores(), max_wait, clock))

    @property
    def waiting(self) -> int:
        """Count the checks that wait."""
        return self._state.get().turns.waiting

    @property
    def running(self) -> int:
        """Count the checks under way: in the limiter's hands."""
        return self._state.get().turns.running

    def has_proved(self, identity: str) -> bool:
        """Tell whether the latest check of an identity found its work done.

        Args:
            identity: The identity.

        Returns:
            False also for one that has called nothing for long.
        """
        return self._state.get().has_proved(identity)

    @property
    def retry_after(self) -> int:
        """Estimate when all of them are done: whole seconds, at least 1."""
        return self._state.get().retry_after

    def submit(self, check: Check) -> Future[None]:
        """Queue a check.

        Args:
            check: The check.

        Returns:
            Its future; an `OverloadedError` comes of it if the check is refused, now or later. Cancelling
            it before the check begins takes the check out of the queue.
        """
        return self._state.get().submit(check)

    def step(self, check: Check, gone: Callable[[], Awaitable[object]] | None = None) -> Checked:
        """Make the step that waits for a check.

        Args:
            check: The check.
            gone: Ends when the client has gone; None where that is not watched for.

        Returns:
            The step.
        """
        return Checked(self, check, gone)


class Checked(Limited):
    """Wait for a check, on an event loop only as long as the client does.

    Args:
        queue: Where it waits for its turn.
        check: The check.
        gone: Ends when the client has gone: the check is given up with a `ProofAbandonedError`.
    """

    __slots__ = ("_check", "_gone", "_queue")

    def __init__(self, queue: CheckQueue, check: Check, gone: Callable[[], Awaitable[object]] | None) -> None:
        super().__init__(
            _in_one_piece(check.run),
            check.work,
            share=queue,
            seconds=queue.deadline,
            abandon=check.job.cancel,
        )
        self._queue = queue
        self._check = check
        self._gone = gone

    def submit(self) -> Future[object]:
        """Queue the check."""
        return cast("Future[object]", self._queue.submit(self._check))

    async def awaited(self) -> object:
        """Wait for the check and for the client's leaving, whichever comes first."""
        future = self.submit()
        if self._gone is None or future.done():
            return await self.settled(future)
        left: list[Exception] = []
        problem: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_watch, self._gone, left, tasks.cancel_scope)
            try:
                return await self.settled(future)
            except Exception as error:  # a task group would wrap it
                problem = error
            finally:
                tasks.cancel_scope.cancel()
        raise problem or left[0]

    def timed_out(self) -> OverloadedError:
        """Say that the check did not have its turn in time, or took too long."""
        return _overloaded(self._queue.retry_after)


async def _watch(
    gone: Callable[[], Awaitable[object]], left: list[Exception], scope: anyio.CancelScope
) -> None:
    try:
        await gone()
    except Exception as error:
        left.append(error)
    else:
        left.append(ProofAbandonedError("the client has gone, and its check was given up"))
    scope.cancel()


@dataclass(slots=True, eq=False)
class _Queued(Ticket):
    """A check's ticket, and who is told."""

    check: Check
    future: Future[None] = field(default_factory=Future, repr=False)
    """What its owner waits for."""
    handed_over: Future[None] | None = field(default=None, repr=False)
    """What the limiter does, once the check had its turn."""


class _State:
    """The queue of one process."""

    def __init__(self, capacity: int, places: int, max_wait: float, clock: Callable[[], float]) -> None:
        self.turns: Turns[_Queued] = Turns(Bounds(capacity, math.ceil(max_wait * places * _MICROSECONDS)))
        self._places = places
        self._clock = clock
        self._lock = threading.Lock()
        self._is_handing_over = False
        self._proved: OrderedDict[str, None] = OrderedDict()  # identities, the latest last
        self._seconds: dict[str, float] = {}  # for a unit of effort, by scheme

    @property
    def retry_after(self) -> int:
        return max(1, math.ceil(self.turns.cost / (self._places * _MICROSECONDS)))

    def submit(self, check: Check) -> Future[None]:
        peer, cost = peer_key(check.peer), self._cost(check.work)
        queued = _Queued(check.identity, peer, self._standing(check), cost, check)
        with self._lock:
            refused = self.turns.add(queued)
            retry_after = self.retry_after
        for one in refused:
            _settle(one, _overloaded(retry_after))
        queued.future.add_done_callback(lambda _: self._leave(queued))
        self._hand_over()
        return queued.future

    def has_proved(self, identity: str) -> bool:
        return identity in self._proved

    def _standing(self, check: Check) -> Standing:
        if check.is_registered:
            return Standing.REGISTERED
        return Standing.PROVED if check.identity in self._proved else Standing.STRANGER

    def _judge(self, check: Check, has_proved: bool) -> None:
        """Remember who proved its work: whoever presents a wrong hash has to do work again to come first."""
        with self._lock:
            self._proved.pop(check.identity, None)
            if has_proved:
                self._proved[check.identity] = None
                if len(self._proved) > _PROVED:
                    self._proved.popitem(last=False)

    def _cost(self, work: Work) -> int:
        """Estimate microseconds, and do nothing for it: this is asked on an event loop."""
        per_effort = self._seconds.get(work.scheme)
        seconds = _FIRST_GUESS if per_effort is None else per_effort * work.effort
        return max(1, round(seconds * _MICROSECONDS))

    def _leave(self, queued: _Queued) -> None:
        """Take a check out whose owner has cancelled it, from here or from the limiter."""
        with self._lock:
            self.turns.remove(queued)
            handed_over = queued.handed_over
        if handed_over is not None:
            handed_over.cancel()

    def _hand_over(self) -> None:
        """Give the limiter what has its turn.

        One thread at a time does; it sees what others end meanwhile, for it looks again before it stops.
        """
        with self._lock:
            if self._is_handing_over:
                return
            self._is_handing_over = True
        while queued := self._take():
            try:
                handed_over = process_limiter().submit(self._pieces(queued), queued.check.work, self)
            except BaseException as error:  # such as an interrupt in the middle of it
                with self._lock:
                    self._is_handing_over = False
                    self.turns.end(queued)
                _settle(queued, error)
                raise
            with self._lock:
                queued.handed_over = handed_over
            handed_over.add_done_callback(functools.partial(self._end, queued))
            if queued.future.cancelled():
                handed_over.cancel()

    def _take(self) -> _Queued | None:
        with self._lock:
            queued = self.turns.take() if self.turns.running < self._places else None
            self._is_handing_over = queued is not None
            return queued

    def _pieces(self, queued: _Queued) -> Generator[None, None, None]:
        yield from ()  # in one piece
        if not queued.future.set_running_or_notify_cancel():
            return
        check, started = queued.check, self._clock()
        has_proved = False
        try:
            check.run()
            has_proved = True
            self._measure(check.work, self._clock() - started)
        finally:
            self._judge(check, has_proved)
            check.on_checked(check.work, self._clock() - started)

    def _measure(self, work: Work, seconds: float) -> None:
        """Learn from checks that hold: others may have failed before the work was done."""
        newest = seconds / work.effort
        with self._lock:
            average = self._seconds.setdefault(work.scheme, newest)
            self._seconds[work.scheme] = average + _NEWEST * (newest - average)

    def _end(self, queued: _Queued, handed_over: Future[None]) -> None:
        with self._lock:
            self.turns.end(queued)
            if queued.standing is Standing.PROVED and queued.identity not in self._proved:
                self.turns.demote(queued.identity)
        self._hand_over()
        if not handed_over.cancelled():
            _settle(queued, handed_over.exception())


def _settle(queued: _Queued, error: BaseException | None) -> None:
    """Tell a check's owner what came of it, if that still waits."""
    future = queued.future
    if future.cancelled() or not (future.running() or future.set_running_or_notify_cancel()):
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _overloaded(retry_after: int) -> OverloadedError:
    message = "more checks of work wait than this server can do in time"
    return OverloadedError(message, retry_after=retry_after)


def _in_one_piece(run: Callable[[], None]) -> Generator[None, None, None]:
    yield from ()
    run()
