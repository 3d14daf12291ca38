"""A policy whose prices follow the load.

The law is that of Tor's proposal 362. The law of proposal 327 divides the effort of all queued requests by
the number of served ones, so requests that are never served drive its price up. Here the price answers only
to requests that pay it, and the average is that of served ones.

Checks of Argon2 cost the server what they cost the client, which Tor's do not, so one thing differs: a
request counts in the demand as what it would cost at the base price. If it counted at its own price, the
honest requests alone could fill the server at a high price, and the price would never fall again.
"""

from __future__ import annotations

__all__ = ["AdaptivePolicy"]

import bisect
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from .._runtime.machine import usable_cores
from ..errors import ArgumentError
from ..proof import Work
from .policy import Policy, Prices, Scopes

# The default client limits allow the deployed create tuning 16 passes, 3.2 times its own.
_CEILING = 3.0

_DEADZONE = 0.15  # the smallest change that is published: that of onion services (hspow-spec)
_SOFTNESS = 0.5  # the price falls to this in a period without demand, and by less where there is some

_PER_LEVEL = 1000  # a step is searched for in levels this fine
_LEAST = 2.0**-64  # scaled by this, works that are multiples of one base are the same
_FASTEST = 8.0  # times the last speed: a check that seems faster was given up, or its response was malformed
_MAX_POLICIES = 256  # remembered at once
_MAX_WORKS = 1024  # of all base policies; those beyond are priced like any other, and count less exactly


class AdaptivePolicy(Policy):
    """Ask for more work while more paying requests come than the server can check.

    Everything is another policy's: its actions, its routes, its identities and its prices, multiplied by
    one level. The level is 1 while the server keeps up. The strangers' policy of the base counts only while
    the level is above 1. Each process follows its own load.

    Every `period` the level is set anew. Capacity is what was checked, divided by the share of the time in
    which the places for checks were busy. Demand is what came at the asking price or above, at base prices.
    When demand reaches capacity, the level rises: by one step of the base's price for reading at least (one
    pass of Argon2, one bit of a search), and to what the checked requests paid on average. Otherwise it
    falls in proportion, and to half at most. A change under 15 % is not published, except to a bound.

    Args:
        base: The policy to multiply the prices of.
        ceiling: The highest level, 1 or more. Clients refuse work beyond their limits: those of this package
            do at most 3.2 times `CREATE_TUNING` by default.
        period: How often the level is set, seconds.
        floor_lag: How long work of a lower level is still accepted after the level has risen, seconds.
        clock: Monotonic seconds.

    Raises:
        ArgumentError: If the base is no policy, or a number is out of its range.
    """

    def __init__(
        self,
        base: Policy,
        *,
        ceiling: float = _CEILING,
        period: float = 10.0,
        floor_lag: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
        _places: int | None = None,
    ) -> None:
        if not isinstance(base, Policy):
            raise ArgumentError("base is a Policy: pass Policy(), an object")
        if not 1 <= ceiling < math.inf:
            raise ArgumentError(f"a ceiling is 1 or more, not {ceiling}")
        if not 0 < period < math.inf:
            raise ArgumentError(f"a period is above 0 seconds, not {period}")
        if not floor_lag >= 0:
            raise ArgumentError(f"a floor lag is 0 seconds or more, not {floor_lag}")
        self._base = base
        self._calm = base._without_strangers()
        self._ceiling = ceiling
        self._period = period
        self._clock = clock
        self._places = _places or usable_cores()
        everyday = list(base.price("read").values())
        self._everyday = next((work for work in everyday if not work.checks_at_once), everyday[0])
        self._works = _BaseWorks(everyday)
        self._scaled = functools.lru_cache(maxsize=_MAX_POLICIES)(functools.partial(_Scaled, self))
        self._lock = threading.Lock()
        self._level = 1.0  # before it is published
        self._asked = _Asked(floor_lag)
        self._tally = _Tally()
        self._speed = math.inf  # weight checked in a second at one place; unknown until something was checked
        self._began = clock()

    @property
    def level(self) -> float:
        """Give how many times the base's work the policy asks for."""
        self._close_periods()
        return self._asked.level

    @property
    def floor_level(self) -> float:
        """Give how many times the base's work the policy still accepts: the lowest level asked lately."""
        self._close_periods()
        with self._lock:
            return self._asked.floor(self._clock())

    def select(self, path: str | None, identity: str | None, account: object) -> Policy:
        """Choose the policy of one request as the base does, and scale it; see `Policy.select`."""
        base = self._base if self.level > 1 else self._calm
        return self._scaled(base.select(path, identity, account))

    def action(self, method: str, path: str) -> str | Awaitable[str]:
        """Find out which action a request is, as the base does; see `Policy.action`."""
        return self._base.action(method, path)

    def priced_as(self, method: str, action: str) -> str:
        """Name the action to be good for, as the base does; see `Policy.priced_as`."""
        return self._base.priced_as(method, action)

    def challenged_for(self, method: str, action: str) -> frozenset[str]:
        """List the actions that a challenge names, as the base does; see `Policy.challenged_for`."""
        return self._base.challenged_for(method, action)

    def price(self, action: str) -> Prices:
        """Set the work that a new nonce asks for: the base's, times the level; see `Policy.price`."""
        return self._scaled(self._base).price(action)

    def floor(self, action: str) -> Prices:
        """Set the least work accepted: the base's, times the floor's level; see `Policy.floor`."""
        return self._scaled(self._base).floor(action)

    def scopes(self) -> Scopes:
        """Group the actions by price; see `Policy.scopes`."""
        return self._scaled(self._base).scopes()

    def demanded(self, work: Work, *, is_known: bool = True) -> None:
        """Count a request in the demand if it pays what is asked now; see `Policy.demanded`."""
        level = self.level
        with self._lock:
            base = self._works.base_of(work, level)
            if work.reaches(base.scaled(level)):
                self._tally.of(is_known).demand += self._works.weight(base)

    def checked(self, work: Work, seconds: float, *, is_known: bool = True) -> None:
        """Count a check in the capacity; see `Policy.checked`."""
        level = self.level
        with self._lock:
            weight = self._works.weight(work)
            done = min(weight, seconds * _FASTEST * self._speed)
            self._tally.of(is_known).presented += weight
            self._tally.done += done
            self._tally.at_base += done * self._works.base_of(work, level).effort / work.effort
            self._tally.seconds += seconds

    def failed(self, work: Work, *, is_known: bool = True) -> None:
        """Count a request that only pretended to pay; see `Policy.failed`."""
        if work.checks_at_once or work.is_quick:  # these were never in the demand
            return
        self._close_periods()
        with self._lock:
            self._tally.of(is_known).failed += self._works.weight(work)

    def _multiplied(self, prices: Prices, level: float) -> Prices:
        for work in prices.values():
            if not self._works.holds(work):
                with self._lock:
                    self._works.add(work)
        return prices if level == 1 else {scheme: work.scaled(level) for scheme, work in prices.items()}

    def _close_periods(self) -> None:
        """Set the level anew if a period is over. There is no timer: whoever asks next closes it."""
        now = self._clock()
        if now < self._began + self._period:
            return
        with self._lock:
            periods = int((now - self._began) / self._period)
            if periods < 1:  # another thread has closed it
                return
            self._began += periods * self._period
            tally, self._tally = self._tally, _Tally()
            self._move(tally)
            # Nothing came since, or it would have closed the period.
            self._level = self._bounded(self._level * _SOFTNESS ** (periods - 1))
            self._publish(now)

    def _move(self, tally: _Tally) -> None:
        if tally.seconds > 0:
            self._speed = tally.done / tally.seconds
        # What was checked, divided by the share of the time in which the places were busy.
        capacity = self._speed * self._period * self._places
        demand = tally.known.paying(unseen=1.0) + tally.strangers.paying(unseen=0.0)
        if demand >= capacity:
            price = max(self._level, self._asked.level)
            self._level = self._bounded(max(self._step_above(price), tally.paid))
        elif demand == 0 or capacity < math.inf:
            self._level = self._bounded(self._level * (_SOFTNESS + (1 - _SOFTNESS) * demand / capacity))

    def _step_above(self, level: float) -> float:
        """Find the next level at which the price for reading is another."""
        levels = range(int(self._ceiling * _PER_LEVEL) + 1)
        effort = self._everyday.scaled(level).effort
        above = bisect.bisect_right(
            levels,
            effort,
            lo=_PER_LEVEL,
            key=lambda number: self._everyday.scaled(number / _PER_LEVEL).effort,
        )
        return max(level, self._everyday.scaled(above / _PER_LEVEL).effort / self._everyday.effort)

    def _bounded(self, level: float) -> float:
        return min(max(1.0, level), self._ceiling)

    def _publish(self, now: float) -> None:
        is_small = abs(self._level - self._asked.level) < _DEADZONE * self._asked.level
        if not is_small or self._level in (1.0, self._ceiling):
            self._asked.publish(self._level, now)


class _Scaled(Policy):
    """Hold the prices of one policy, multiplied by the level of an adaptive one."""

    def __init__(self, adaptive: AdaptivePolicy, base: Policy) -> None:
        self._adaptive = adaptive
        self._base = base
        self._grouped_at: tuple[float, Scopes] | None = None

    def price(self, action: str) -> Prices:
        return self._adaptive._multiplied(self._base.price(action), self._adaptive.level)

    def floor(self, action: str) -> Prices:
        return self._adaptive._multiplied(self._base.floor(action), self._adaptive.floor_level)

    def scopes(self) -> Scopes:
        if type(self._base).price is not Policy.price:  # the prices of a subclass may change
            return self._grouped()
        level, grouped = self._adaptive.level, self._grouped_at
        if grouped is None or grouped[0] != level:
            grouped = self._grouped_at = level, self._grouped()
        return list(grouped[1])


@dataclass(slots=True)
class _Share:
    """Add up what came from those who are known, or from strangers, in weights."""

    demand: float = 0.0
    presented: float = 0.0
    failed: float = 0.0

    def paying(self, unseen: float) -> float:
        """Give the demand that pays, as far as checks tell; the share that is taken to where none was made.

        A stranger's request that is not checked may be junk, which costs its sender nothing: it counts as
        the checked ones of strangers did.
        """
        honest = max(0.0, 1 - self.failed / self.presented) if self.presented else unseen
        return self.demand * honest


@dataclass(slots=True)
class _Tally:
    """Add up what came in one period, in weights; the checks also in seconds."""

    known: _Share = field(default_factory=_Share)
    strangers: _Share = field(default_factory=_Share)
    done: float = 0.0
    at_base: float = 0.0
    seconds: float = 0.0

    def of(self, is_known: bool) -> _Share:
        """Give the share of those who are known, or of strangers."""
        return self.known if is_known else self.strangers

    @property
    def paid(self) -> float:
        """Give the level that the checked requests paid on average."""
        return self.done / self.at_base if self.at_base else 0.0


class _BaseWorks:
    """Know the works of the base policies, so that a work tells its level, whichever process issued it.

    The weight of a work is its effort, in that of the first work known of its scheme. So a create weighs as
    many reads as it takes of the server's time, and one level is enough for everything.

    Args:
        works: The first works.
    """

    def __init__(self, works: Iterable[Work]) -> None:
        self._works: set[Work] = set()
        self._alike: dict[Work, tuple[Work, ...]] = {}
        self._units: dict[str, float] = {}
        for work in works:
            self.add(work)

    def holds(self, work: Work) -> bool:
        return work in self._works or len(self._works) >= _MAX_WORKS

    def add(self, work: Work) -> None:
        if work in self._works:  # another thread was faster
            return
        self._works.add(work)
        self._units.setdefault(work.scheme, work.effort)
        least = _least(work)
        self._alike[least] = (*self._alike.get(least, ()), work)

    def weight(self, work: Work) -> float:
        return work.effort / self._units.get(work.scheme, work.effort)

    def base_of(self, work: Work, level: float) -> Work:
        """Find the base a work is a multiple of; of several, the one that puts it nearest to a level."""
        bases = self._alike.get(_least(work), (work,))
        return min(bases, key=lambda base: abs(math.log(work.effort / base.effort / level)))


@functools.lru_cache(maxsize=_MAX_WORKS)
def _least(work: Work) -> Work:
    """Give what works have in common that are multiples of one base."""
    return work.scaled(_LEAST)


class _Asked:
    """Remember the levels asked within a lag, as far as they are lower than all that were asked later.

    Args:
        lag: Seconds.
    """

    def __init__(self, lag: float) -> None:
        self._lag = lag
        self._levels = deque([(1.0, math.inf)])  # each with the time at which the next one was published
        self.level = 1.0
        """The level asked now."""

    def publish(self, level: float, now: float) -> None:
        self._levels[-1] = self.level, now
        while self._levels and self._levels[-1][0] >= level:
            self._levels.pop()
        self._levels.append((level, math.inf))
        self.level = level

    def floor(self, now: float) -> float:
        while self._levels[0][1] <= now - self._lag:
            self._levels.popleft()
        return self._levels[0][0]
