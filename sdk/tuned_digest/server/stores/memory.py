"""Issued nonces in the memory of one process."""

from __future__ import annotations

__all__ = ["MemoryNonceStore"]

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ..._base64 import encode_base64
from ..._runtime.forks import PerProcess
from ...errors import ArgumentError
from ..grants import Grant
from ._alone import PATIENCE, require_alone
from ._fair_pool import FairPool
from ._spent_names import SpentNames

_NONCE_SIZE = 32  # bytes, section 1
_EPOCH_SIZE = 16  # bytes

# Measured with tracemalloc on CPython 3.11 (tests/test_store_bounds.py): at most 380 and 333 bytes, where
# each nonce has a holder of its own, each name the longest size, and every table has just grown; 255 for a
# nonce of a holder that has eight. A GiB is good for 2.4 million nonces as counted, for 4.2 million of those.
_NONCE_BYTES = 448
_NAME_BYTES = 384


class MemoryNonceStore:
    """Keep issued nonces in this process: one process serves, and a restart forgets them all.

    A forked child starts without: it does not accept what its parent issued.

    Next nonces and the nonces of challenges are kept apart, so that a flood of requests without
    credentials cannot push a client's next nonces out. Next nonces are shared out: an identity that has more
    than `quota` in one scope loses its own oldest, and a full store loses the oldest of whoever has most.
    A full store of challenges loses the oldest of the scope that has most.

    `spend` remembers what other stores, and tokens, spend in this process; when full it refuses.

    Args:
        capacity: Next nonces kept.
        quota: Next nonces kept for one identity in one scope. Clients keep up to 64, for each process
            that shares a key.
        lifetime: Seconds a next nonce is good for (section 7).
        challenge_capacity: Nonces of challenges kept.
        challenge_lifetime: Seconds the nonce of a challenge is good for: longer than the dearest work.
        spent_capacity: Spent names remembered.
        max_bytes: The most that all of it takes: a nonce counts as 448 bytes, a spent name as 384. Capacities
            that would take more are made smaller, all in proportion.
        several_processes: Serve although other workers do, each with nonces of its own. Right only where
            each client always reaches the same worker; otherwise most requests are done twice.
        clock: Gives seconds, never going back.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: If a number is not positive, or `max_bytes` leaves no room for one of each.
    """

    blocks = False

    def __init__(
        self,
        *,
        capacity: int = 262144,
        quota: int = 1024,
        lifetime: float = 86400,
        challenge_capacity: int = 65536,
        challenge_lifetime: float = 300,
        spent_capacity: int = 262144,
        max_bytes: int = 268435456,
        several_processes: bool = False,
        clock: Callable[[], float] = time.monotonic,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        kept = (capacity, challenge_capacity, spent_capacity)
        if min(*kept, quota, lifetime, challenge_lifetime, max_bytes) <= 0:
            raise ArgumentError("capacities, quota, lifetimes and max_bytes are positive")
        needed = (capacity + challenge_capacity) * _NONCE_BYTES + spent_capacity * _NAME_BYTES
        part = min(1.0, max_bytes / needed)
        counts = [int(count * part) for count in kept]
        if min(counts) < 1:
            raise ArgumentError(f"max_bytes is {max_bytes}, which is not enough for one nonce of each kind")
        self._several_processes = several_processes
        self._clock = clock
        self._randomness = randomness

        def begin() -> _Kept:
            if not several_processes:
                require_alone(type(self).__name__)
            return _Kept(
                FairPool(counts[0], quota, lifetime),
                FairPool(counts[1], counts[1], challenge_lifetime),
                SpentNames(counts[2]),
                secrets.token_hex(_EPOCH_SIZE),
            )

        # After a fork the parent accepts these nonces, and a lock may be held by a thread that is not here.
        self._kept = PerProcess(begin)

    def start(self) -> None:
        """Refuse to serve beside other workers of the same server.

        Without this the first use does so. It is noticed where the system tells: on Linux, for workers that
        share a listening socket and run under one user.

        Raises:
            ArgumentError: If there are others, unless `several_processes` allows them.
        """
        if not self._several_processes:
            require_alone(type(self).__name__, patience=PATIENCE)
        self._kept.get()

    def issue(self, *grants: Grant) -> list[str]:
        """Make nonces and keep what they are good for.

        Args:
            grants: What they are good for.

        Returns:
            A nonce for each.

        Raises:
            ArgumentError: On the first use, as `start`.
        """
        kept = self._kept.get()
        nonces = [encode_base64(self._randomness(_NONCE_SIZE)) for _ in grants]
        with kept.lock:
            now = self._clock()
            for nonce, grant in zip(nonces, grants, strict=True):
                (kept.chain if grant.chained else kept.challenges).put(nonce, grant, now)
        return nonces

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale, was taken before or lost its place.

        Raises:
            ArgumentError: On the first use, as `start`.
        """
        kept = self._kept.get()
        with kept.lock:
            now = self._clock()
            return kept.chain.take(nonce, now) or kept.challenges.take(nonce, now)

    def spend(self, name: str, seconds: float, /) -> str | None:
        """Remember a name, atomically, unless it is remembered already.

        Args:
            name: What is spent, up to 128 characters of ASCII.
            seconds: How long to remember it at least.

        Returns:
            This process's epoch; None when the name was spent before.

        Raises:
            StoreUnavailableError: If there is no room.
            ArgumentError: On the first use, as `start`.
        """
        kept = self._kept.get()
        with kept.lock:
            return kept.epoch if kept.names.spend(name, seconds, self._clock()) else None


@dataclass(slots=True)
class _Kept:
    """All that one process keeps."""

    chain: FairPool
    challenges: FairPool
    names: SpentNames
    epoch: str
    lock: threading.Lock = field(default_factory=threading.Lock)
