"""Issued nonces in the memory of one process."""

from __future__ import annotations

__all__ = ["MemoryNonceStore"]

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from ..._base64 import encode_base64
from ..._runtime.forks import PerProcess
from ...errors import ArgumentError
from ..grants import Grant

_NONCE_SIZE = 32  # bytes, section 1


class MemoryNonceStore:
    """Keep issued nonces in this process: one process serves, and a restart forgets them all.

    A forked child starts without: it does not accept what its parent issued.

    Next nonces and the nonces of challenges are kept apart, so that a flood of requests without
    credentials cannot push a client's next nonces out. A full pool loses its oldest.

    Args:
        capacity: Next nonces kept; at about 400 bytes each.
        lifetime: Seconds a next nonce is good for (section 7).
        challenge_capacity: Nonces of challenges kept.
        challenge_lifetime: Seconds the nonce of a challenge is good for: longer than the dearest work.
        clock: Gives seconds, never going back.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: If a number is not positive.
    """

    blocks = False

    def __init__(
        self,
        *,
        capacity: int = 262144,
        lifetime: float = 86400,
        challenge_capacity: int = 65536,
        challenge_lifetime: float = 300,
        clock: Callable[[], float] = time.monotonic,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if min(capacity, lifetime, challenge_capacity, challenge_lifetime) <= 0:
            raise ArgumentError("capacities and lifetimes are positive")
        # After a fork the parent accepts these nonces, and a lock may be held by a thread that is not here.
        self._issued = PerProcess(
            lambda: _Issued(_Pool(capacity, lifetime), _Pool(challenge_capacity, challenge_lifetime))
        )
        self._clock = clock
        self._randomness = randomness

    def issue(self, *grants: Grant) -> list[str]:
        """Make nonces and keep what they are good for.

        Args:
            grants: What they are good for.

        Returns:
            A nonce for each.
        """
        nonces = [encode_base64(self._randomness(_NONCE_SIZE)) for _ in grants]
        issued = self._issued.get()
        with issued.lock:
            now = self._clock()
            for nonce, grant in zip(nonces, grants, strict=True):
                (issued.chain if grant.chained else issued.challenges).put(nonce, grant, now)
        return nonces

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale or was taken before.
        """
        issued = self._issued.get()
        with issued.lock:
            now = self._clock()
            return issued.chain.take(nonce, now) or issued.challenges.take(nonce, now)


class _Issued:
    """All nonces of one process."""

    def __init__(self, chain: _Pool, challenges: _Pool) -> None:
        self.lock = threading.Lock()
        self.chain = chain
        self.challenges = challenges


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
