"""How long work will take on this machine, from a few milliseconds of it done once."""

from __future__ import annotations

__all__ = ["estimate_seconds"]

import functools
import time

from .._machine import usable_cores
from ..tuning import SearchCost, Tuning, Work
from .argon2 import SALT_SIZE
from .engines import chosen
from .job import Job

# Enough memory not to fit a core's own cache, little enough for some 3 ms a pass.
_SAMPLE_KIB = 8192
_MORE_PASSES = 3
_LANES = 8  # as deployed; as many are computed at once as there are cores

_LEAST_SECONDS = 0.002  # of a search, for the clock to tell
_MOST_TRIES = 2**24  # of a sample, however soon it finds a number
_RARE = SearchCost(32)  # seldom found in so few tries


def estimate_seconds(work: Work) -> float:
    """Estimate what one piece of work takes here, alone; a search on average.

    The first call for either kind of work does a few milliseconds of it.

    Args:
        work: The tuning or the cost.

    Returns:
        Seconds, seldom more than half as much or twice as much as it is then.
    """
    if isinstance(work, SearchCost):
        return _seconds_per_try() * float(2**work.bits)
    per_kib, per_kib_and_pass = _argon2_costs()
    cores = min(_LANES, usable_cores())
    return work.memory_kib * (per_kib + per_kib_and_pass * work.passes) * cores / min(work.lanes, cores)


@functools.cache
def _argon2_costs() -> tuple[float, float]:
    """Time two digests: memory costs once for being had, and with each pass."""
    short = _seconds(Tuning("argon2d", _SAMPLE_KIB, 1, _LANES))
    long = _seconds(Tuning("argon2d", _SAMPLE_KIB, 1 + _MORE_PASSES, _LANES))
    per_pass = max(long - short, 0) / _MORE_PASSES
    return max(short - per_pass, 0) / _SAMPLE_KIB, per_pass / _SAMPLE_KIB


def _seconds(tuning: Tuning) -> float:
    started = time.perf_counter()
    chosen().digest(b"estimate", tuning, bytes(SALT_SIZE), Job())
    return time.perf_counter() - started


@functools.cache
def _seconds_per_try() -> float:
    tries, seconds = 2048, 0.0
    # An engine may try a thousand or a hundred thousand in that time.
    while seconds < _LEAST_SECONDS and tries < _MOST_TRIES:
        tries *= 2
        started = time.perf_counter()
        chosen().search(b"estimate", _RARE, tries, Job())
        seconds = time.perf_counter() - started
    return seconds / tries
