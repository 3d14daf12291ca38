"""Where a server keeps the nonces it has issued: put, and taken at most once (section 10, step 4).

There is no way to look at a nonce without taking it: presented twice at once, it succeeds at most once.
"""

from __future__ import annotations

__all__ = ["AsyncNonceStore", "Grant", "MemoryNonceStore", "NonceStore"]

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..errors import ArgumentError
from ..tuning import Work


@dataclass(frozen=True, slots=True)
class Grant:
    """Hold what a nonce is good for.

    Args:
        prices: The work by scheme.
        scope: The actions.
        chained: True for a next nonce, False for a challenge's.
    """

    prices: Mapping[str, Work]
    scope: frozenset[str]
    chained: bool


class NonceStore(Protocol):
    """Keep issued nonces; called on the event loop, so it must not block."""

    def put(self, nonce: str, grant: Grant, /) -> None:
        """Keep a nonce.

        Args:
            nonce: The nonce.
            grant: What it is good for.
        """
        ...

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale or was taken before.
        """
        ...


class AsyncNonceStore(Protocol):
    """Keep issued nonces somewhere reached by awaiting."""

    async def put(self, nonce: str, grant: Grant, /) -> None:
        """Keep a nonce.

        Args:
            nonce: The nonce.
            grant: What it is good for.
        """
        ...

    async def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale or was taken before.
        """
        ...


class MemoryNonceStore:
    """Keep issued nonces in this process: one process serves, and a restart forgets them all.

    Next nonces and the nonces of challenges are kept apart, so that a flood of requests without
    credentials cannot push a client's next nonces out. A full pool loses its oldest.

    Args:
        capacity: Next nonces kept; at about 400 bytes each.
        lifetime: Seconds a next nonce is good for (section 7).
        challenge_capacity: Nonces of challenges kept.
        challenge_lifetime: Seconds the nonce of a challenge is good for: longer than the dearest work.
        clock: Gives seconds, never going back.

    Raises:
        ArgumentError: If a number is not positive.
    """

    def __init__(
        self,
        *,
        capacity: int = 262144,
        lifetime: float = 86400,
        challenge_capacity: int = 65536,
        challenge_lifetime: float = 300,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(capacity, lifetime, challenge_capacity, challenge_lifetime) <= 0:
            raise ArgumentError("capacities and lifetimes are positive")
        self._chain = _Pool(capacity, lifetime)
        self._challenges = _Pool(challenge_capacity, challenge_lifetime)
        self._clock = clock
        self._lock = threading.Lock()

    def put(self, nonce: str, grant: Grant, /) -> None:
        """Keep a nonce.

        Args:
            nonce: The nonce.
            grant: What it is good for.
        """
        with self._lock:
            (self._chain if grant.chained else self._challenges).put(nonce, grant, self._clock())

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale or was taken before.
        """
        with self._lock:
            now = self._clock()
            return self._chain.take(nonce, now) or self._challenges.take(nonce, now)


class _Pool:
    """Nonces that live equally long, so that the oldest is the first to go stale."""

    def __init__(self, capacity: int, lifetime: float) -> None:
        self._capacity = capacity
        self._lifetime = lifetime
        self._grants: OrderedDict[str, tuple[float, Grant]] = OrderedDict()

    def put(self, nonce: str, grant: Grant, now: float) -> None:
        while self._grants and (len(self._grants) >= self._capacity or self._oldest_expiry() <= now):
            self._grants.popitem(last=False)
        self._grants[nonce] = (now + self._lifetime, grant)

    def take(self, nonce: str, now: float) -> Grant | None:
        expiry, grant = self._grants.pop(nonce, (now, None))
        return grant if expiry > now else None

    def _oldest_expiry(self) -> float:
        return next(iter(self._grants.values()))[0]
