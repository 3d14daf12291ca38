"""A server under attack, simulated: honest clients, four attackers, and laws that set the price.

Time is a clock that the simulation moves, and chance is seeded, so each run is the same. The server has
two places for checks and one queue for all, the worst case: the queue of the package also shares itself out.
Nothing costs time but Argon2: a check takes the server what the work takes a client.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import itertools
import json
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from tuned_digest import Tuning, Work
from tuned_digest.server import Policy
from tuned_digest.server.adaptive import AdaptivePolicy
from tuned_digest.server.policy import Prices

from .clock import Clock

BASE = Tuning("argon2d", memory_kib=65536, passes=3, lanes=8)
CHECK = 0.09  # seconds of a check at the base price
PLACES = 2
QUEUE = 64  # requests that wait at most; more are answered with 503
HONEST_RATE = 5.0  # requests a second, of all honest clients; the server checks 22 at the base price
HONEST_CLIENTS = 20

CEILING = 16.0
FLOOR_LAG = 600.0
PERIOD = 10.0

BEGIN, END = 60.0, 360.0  # seconds: when attackers come, and when the last have gone
LENGTH = 720.0
DRAIN = 60.0  # seconds for the queue to empty, after the last request that counts

STEP = 15  # seconds between points of the plot

ATTACKS = {"burst": BEGIN + 120, "ramp": END, "botnet": END, "pays and leaves": BEGIN + 60}
"""The attackers, and when each has gone."""

LAWS = ("adaptive", "load average", "static")


class Law(Protocol):
    """What sets the price in a simulation: as much of a policy as it takes."""

    @property
    def level(self) -> float:
        """How many times the base price is asked."""
        ...

    @property
    def floor_level(self) -> float:
        """How many times the base price is accepted."""
        ...

    def price(self, action: str) -> Prices:
        """The work of a new nonce."""
        ...

    def floor(self, action: str) -> Prices:
        """The least work accepted."""
        ...

    def demanded(self, work: Work, *, is_known: bool = True) -> None:
        """A request asks for its check."""

    def checked(self, work: Work, seconds: float, *, is_known: bool = True) -> None:
        """A check has ended."""


class Static(Policy):
    """Ask for the base price, whatever happens."""

    level = floor_level = 1.0


class LoadAverage(Policy):
    """Follow the load average alone: what runs and waits, for each place, averaged over a minute.

    Args:
        clock: Seconds.
        ceiling: The highest level.
    """

    def __init__(self, clock: Callable[[], float], ceiling: float = CEILING) -> None:
        super().__init__(access=BASE)
        self._clock = clock
        self._ceiling = ceiling
        self._pending = 0
        self._average = 0.0
        self._updated = clock()

    @property
    def level(self) -> float:
        """The average, within the bounds."""
        now = self._clock()
        passed = now - self._updated
        self._average += (self._pending / PLACES - self._average) * passed / (60 + passed)
        self._updated = now
        return min(max(1.0, self._average), self._ceiling)

    @property
    def floor_level(self) -> float:
        """Everything is accepted, as by a floor that lags for longer than an attack lasts."""
        return 1.0

    def price(self, action: str) -> Prices:
        """The base price, as many times as the level says."""
        return {BASE.scheme: BASE.scaled(self.level)}

    def floor(self, action: str) -> Prices:
        """The base price."""
        return {BASE.scheme: BASE}

    def note_pending(self, count: int) -> None:
        """Note how many requests run or wait."""
        _ = self.level  # up to now it was another number
        self._pending = count


@dataclass
class Side:
    """Note when the requests of one side came: all, and those that were served."""

    offered: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)

    def rate(self, since: float, until: float) -> float:
        """Requests served a second, of those that came in a time."""
        return sum(since <= came < until for came in self.served) / (until - since)

    def share(self, since: float, until: float) -> float:
        """Give the share that was served, of those that came in a time."""
        offered = sum(since <= came < until for came in self.offered)
        return self.rate(since, until) * (until - since) / offered


class Simulation:
    """A server, its clients, and the time they share.

    Args:
        law: Makes the law that sets the price, from a clock.
    """

    def __init__(self, law: Callable[[Callable[[], float]], Law]) -> None:
        self.clock = Clock()
        self.law = law(self.clock)
        self.random = random.Random(362)
        self.honest = Side()
        self.attacker = Side()
        self.levels: list[tuple[float, float]] = []
        """The level asked, each second."""
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._queue: deque[Callable[[], None]] = deque()
        self._running = 0

    def at(self, when: float, event: Callable[[], None]) -> None:
        """Let something happen at a time."""
        heapq.heappush(self._events, (when, next(self._order), event))

    def later(self, seconds: float, event: Callable[[], None]) -> None:
        """Let something happen after some seconds, more or less: else requests would come in step."""
        self.at(self.clock.now + seconds * self.random.uniform(0.5, 1.5), event)

    def run(self, until: float) -> None:
        """Let time go by."""
        for second in range(int(until)):
            self.at(second, self._note_level)
        while self._events and self._events[0][0] < until:
            self.clock.now, _, event = heapq.heappop(self._events)
            event()

    @property
    def asked(self) -> Work:
        """The work asked for now."""
        return self.law.price("read")[BASE.scheme]

    def request(self, side: Side, work: Work, answered: Callable[[Work | None], None]) -> None:
        """Let a request come in; the answer brings the work of a next nonce, or None where it is refused."""
        side.offered.append(self.clock.now)
        if not work.reaches(self.law.floor("read")[BASE.scheme]):
            answered(None)
            return
        self.law.demanded(work)
        if len(self._queue) >= QUEUE:
            answered(None)
            return
        self._queue.append(functools.partial(self._check, side, self.clock.now, work, answered))
        self._start()

    def _start(self) -> None:
        while self._queue and self._running < PLACES:
            self._running += 1
            self._queue.popleft()()
        self._note_pending()

    def _check(self, side: Side, came: float, work: Work, answered: Callable[[Work | None], None]) -> None:
        seconds = seconds_of(work)

        def end() -> None:
            self.law.checked(work, seconds)
            self._running -= 1
            side.served.append(came)
            answered(self.asked)
            self._start()

        self.at(self.clock.now + seconds, end)

    def _note_pending(self) -> None:
        if isinstance(self.law, LoadAverage):
            self.law.note_pending(self._running + len(self._queue))

    def _note_level(self) -> None:
        self.levels.append((self.clock.now, self.law.level))


def seconds_of(work: Work) -> float:
    """What some work takes, the client and the server alike."""
    return CHECK * work.effort / BASE.effort


def honest_client(simulation: Simulation, first: float) -> None:
    """Send one request after another at a steady rate, each under the nonce of the answer before."""
    held: list[Work] = []

    def answered(work: Work | None) -> None:
        held[:] = [work] if work is not None else []

    def send() -> None:
        # Without a next nonce the work is that of a challenge, asked for a moment before.
        simulation.request(simulation.honest, held.pop() if held else simulation.asked, answered)
        simulation.later(HONEST_CLIENTS / HONEST_RATE, send)

    simulation.at(first, send)


def bot(simulation: Simulation, first: float, last: float) -> None:
    """Work on one core without a pause, pay what is asked, and wait for no answer."""

    def begin() -> None:
        if simulation.clock.now < last:
            work = simulation.asked
            simulation.later(seconds_of(work), functools.partial(send, work))

    def send(work: Work) -> None:
        simulation.request(simulation.attacker, work, lambda _: None)
        begin()

    simulation.at(first, begin)


def hoarder(simulation: Simulation, first: float, last: float, rate: float) -> None:
    """Send what was worked out in quiet times, at the base price."""
    for number in range(int((last - first) * rate)):
        send = functools.partial(simulation.request, simulation.attacker, BASE, lambda _: None)
        simulation.at(first + (number + simulation.random.random()) / rate, send)


def attack(simulation: Simulation, name: str) -> None:
    """Let one of the four attackers come: a hoarder, or a botnet of 16 cores."""
    last = ATTACKS[name]
    if name == "burst":
        hoarder(simulation, BEGIN, last, rate=100)
        return
    for core in range(16):
        delay = core * (END - BEGIN) / 16 if name == "ramp" else core / 100
        bot(simulation, BEGIN + delay, last)


def adaptive(clock: Callable[[], float]) -> AdaptivePolicy:
    """Make the policy of this package."""
    return AdaptivePolicy(
        Policy(access=BASE), ceiling=CEILING, period=PERIOD, floor_lag=FLOOR_LAG, clock=clock, _places=PLACES
    )


MAKERS: dict[str, Callable[[Callable[[], float]], Law]] = {
    "adaptive": adaptive,
    "load average": LoadAverage,
    "static": lambda _: Static(access=BASE),
}


@functools.cache
def simulated(law: str, attacker: str) -> Simulation:
    """Run one law against one attacker."""
    simulation = Simulation(MAKERS[law])
    for number in range(HONEST_CLIENTS):
        honest_client(simulation, number / HONEST_RATE)
    attack(simulation, attacker)
    simulation.run(LENGTH + DRAIN)
    return simulation


def plotted(law: str, attacker: str) -> dict[str, list[float]]:
    """Give what the plot in the documents shows of one run: the level, and the share of honest requests."""
    run = simulated(law, attacker)
    times = range(0, int(LENGTH), STEP)
    shares = [run.honest.share(time, time + STEP) for time in times if time < LENGTH - STEP]
    return {
        "time": [float(time) for time in times][: len(shares)],
        "level": [round(run.levels[time][1], 1) for time in times][: len(shares)],
        "share": [round(share, 1) for share in shares],
    }


def digest_of_plot() -> str:
    """Name what the plot shows, so that a test can tell a plot that is out of date."""
    series = [plotted(law, attacker) for law in LAWS[:2] for attacker in ATTACKS]
    return hashlib.sha256(json.dumps(series).encode()).hexdigest()
