"""How often an address may try something: so many times in so many seconds, counted in this process.

A server of several processes allows as much in each of them.
"""

from __future__ import annotations

__all__ = ["AddressTries"]

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from ..._runtime.forks import PerProcess
from ..refusals import refused
from ..turns import peer_key

_CAPACITY = 16384  # remembered at once: at most 1 KiB each for 20 tries


class AddressTries:
    """Count tries by address, and refuse those that are too many.

    The addresses of one site count as one (see `peer_key`). Where a server does not tell addresses, nobody
    is held back: one visitor would hold back all others. When too many addresses are remembered, the one
    that tried longest ago is forgotten.

    Args:
        what: What is tried, in the plural.
        most: Tries allowed in `seconds`.
        seconds: How long a try counts.
        capacity: How many are remembered.
        clock: Gives seconds, never going back.
    """

    def __init__(
        self,
        what: str,
        most: int,
        seconds: float,
        *,
        capacity: int = _CAPACITY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what = what
        self._most = most
        self._seconds = seconds
        self._capacity = capacity
        self._clock = clock
        self._lock = PerProcess(threading.Lock)  # after a fork a thread may hold it that is not here
        self._tried: OrderedDict[Hashable, list[float]] = OrderedDict()  # times; who tried last is at the end

    def begin(self, peer: str, about: str = "") -> None:
        """Count a try before it is made, so that many at once are counted too.

        Args:
            peer: The address that it comes from.
            about: What it is about, where each such thing has its own count.

        Raises:
            RequestRejectedError: With status 429 and Retry-After (RFC 6585 section 4), if it is one too many;
                it is not counted then.
        """
        if not peer:
            return
        who = (peer_key(peer), about)
        with self._lock.get():
            now = self._clock()
            times = [time for time in self._tried.get(who, ()) if now - time < self._seconds]
            if len(times) < self._most:
                self._tried[who] = [*times, now]
                self._tried.move_to_end(who)
                if len(self._tried) > self._capacity:
                    self._tried.popitem(last=False)
                return
        wait = str(max(1, math.ceil(times[0] + self._seconds - now)))
        message = f"too many {self._what}: try again in {wait} s"
        raise refused(429, message, f"too many {self._what}", ("Retry-After", wait))

    def forgive(self, peer: str, about: str = "") -> None:
        """Take the latest try of an address back: it was a good one.

        Args:
            peer: The address.
            about: What it was about.
        """
        who = (peer_key(peer), about)
        with self._lock.get():
            times = self._tried.pop(who, [])[:-1]
            if times:
                self._tried[who] = times
