"""The client's nonces by origin and scope: taken once, bounded, expiring, locked (section 7)."""

from __future__ import annotations

__all__ = ["MemoryNonceCache", "NonceCache"]

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from .._runtime.forks import generation
from .._wire.challenge import NextNonce
from .._wire.origins import Origin
from ..errors import ArgumentError

_ORIGINS = 256  # origins remembered, the least recently used forgotten
_SPENT_PER_ORIGIN = 4096  # spent nonces remembered, against responses replayed by a cache in between

# Bytes of memory: what is held of a nonce besides its text, its terms included; and of one that is spent.
_NONCE_BYTES = 1024
_SPENT_BYTES = 128
_ORIGIN_BYTES = 2048

_Chain = OrderedDict[str, tuple[float, NextNonce]]  # by nonce: when it expires, and what it is


class NonceCache(Protocol):
    """Keep next nonces between requests; called from several threads at once."""

    def remember(self, origin: Origin, nonces: Iterable[NextNonce]) -> None:
        """Store nonces for later requests, unless they are held or were spent before.

        Args:
            origin: The origin that issued them.
            nonces: The nonces.
        """
        ...

    def take(self, origin: Origin, action: str) -> NextNonce | None:
        """Give away one nonce for good.

        Args:
            origin: The origin the request goes to.
            action: The action it is for.

        Returns:
            A nonce whose scope has the action, None when there is none.
        """
        ...

    def spend(self, origin: Origin, nonce: str) -> bool:
        """Mark the nonce of a challenge as spent.

        Args:
            origin: The origin that issued it.
            nonce: The nonce.

        Returns:
            False when it was spent before, and so must not be sent.
        """
        ...


class MemoryNonceCache:
    """Keep next nonces in this process, newest first; a forked child starts without.

    Args:
        per_scope: Nonces held for one origin and scope; beyond it the oldest go.
        lifetime: Seconds after which a nonce is not used any more.
        per_origin_kib: Memory of one origin's nonces, KiB; beyond it its oldest go.
        total_kib: Memory of all, KiB; beyond it the origins that were not used for longest are forgotten.
        clock: Gives seconds, never going back.

    Raises:
        ArgumentError: If a number is not positive.
    """

    def __init__(
        self,
        *,
        per_scope: int = 64,
        lifetime: float = 82800,
        per_origin_kib: int = 256,
        total_kib: int = 32 * 1024,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if min(per_scope, lifetime, per_origin_kib, total_kib) <= 0:
            raise ArgumentError("per_scope, lifetime, per_origin_kib and total_kib are positive")
        self._per_scope = per_scope
        self._lifetime = lifetime
        self._per_origin_kib = per_origin_kib
        self._total_kib = total_kib
        self._clock = clock
        self._held = _Held()

    def remember(self, origin: Origin, nonces: Iterable[NextNonce]) -> None:
        """Store nonces for later requests, unless they are held or were spent before.

        Args:
            origin: The origin that issued them.
            nonces: The nonces.
        """
        expiry = self._clock() + self._lifetime
        held = self._current()
        with held.lock:
            at_origin = held.at(origin)
            for nonce in nonces:
                at_origin.hold(nonce, expiry, self._per_scope)
            at_origin.shrink(self._per_origin_kib * 1024)
            held.shrink(self._total_kib * 1024)

    def take(self, origin: Origin, action: str) -> NextNonce | None:
        """Give away one nonce for good, the newest first.

        Args:
            origin: The origin the request goes to.
            action: The action it is for.

        Returns:
            A nonce whose scope has the action, None when there is none.
        """
        held = self._current()
        with held.lock:
            at_origin = held.origins.get(origin)
            return at_origin.take(action, self._clock()) if at_origin else None

    def spend(self, origin: Origin, nonce: str) -> bool:
        """Mark the nonce of a challenge as spent.

        Args:
            origin: The origin that issued it.
            nonce: The nonce.

        Returns:
            False when it was spent before, and so must not be sent.
        """
        held = self._current()
        with held.lock:
            is_fresh = held.at(origin).spend(nonce)
            held.shrink(self._total_kib * 1024)
            return is_fresh

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(
            per_scope=self._per_scope,
            lifetime=self._lifetime,
            per_origin_kib=self._per_origin_kib,
            total_kib=self._total_kib,
            clock=self._clock,
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}(per_scope={self._per_scope}, lifetime={self._lifetime})"

    def _current(self) -> _Held:
        # After a fork the nonces are the parent's, and a lock may be held by a thread that is not here.
        if self._held.generation != generation():
            self._held = _Held()
        return self._held


class _AtOrigin:
    """The nonces of one origin, oldest first."""

    def __init__(self, held: _Held) -> None:
        self._held = held
        self._chains: dict[frozenset[str], _Chain] = {}
        # Of what is spent a hash is kept: Python's own, which nobody outside can foretell.
        self._spent: set[int] = set()
        self._spent_in_order: deque[int] = deque()
        self.bytes = 0

    def hold(self, nonce: NextNonce, expiry: float, per_scope: int) -> None:
        text = nonce.nonce
        if hash(text) in self._spent:
            return
        for chain in self._chains.values():
            if text in chain:
                return
        chain = self._chains.setdefault(nonce.terms.scopes, OrderedDict())
        chain[text] = (expiry, nonce)
        self._count(len(text) + _NONCE_BYTES)
        if len(chain) > per_scope:
            self._drop_oldest(chain)

    def take(self, action: str, now: float) -> NextNonce | None:
        fitting = [chain for scopes, chain in self._chains.items() if action in scopes and chain]
        if not fitting:
            return None
        chain = fitting[0] if len(fitting) == 1 else max(fitting, key=_newest_expiry)
        text, (expiry, nonce) = chain.popitem()
        self._count(-len(text) - _NONCE_BYTES)
        self._mark_spent(text)
        if expiry > now:
            return nonce
        for chain in fitting:  # the newest of them is stale, so all are
            while chain:
                self._drop_oldest(chain)
        return None

    def spend(self, nonce: str) -> bool:
        if hash(nonce) in self._spent:
            return False
        for chain in self._chains.values():
            if chain.pop(nonce, None):
                self._count(-len(nonce) - _NONCE_BYTES)
        self._mark_spent(nonce)
        return True

    def shrink(self, limit: int) -> None:
        """Drop the oldest nonces until the rest fits."""
        while self.bytes > limit and (held := [chain for chain in self._chains.values() if chain]):
            self._drop_oldest(min(held, key=_oldest_expiry))

    def _drop_oldest(self, chain: _Chain) -> None:
        text, _ = chain.popitem(last=False)
        self._count(-len(text) - _NONCE_BYTES)
        self._mark_spent(text)

    def _mark_spent(self, nonce: str) -> None:
        self._spent.add(hash(nonce))
        self._spent_in_order.append(hash(nonce))
        self._held.bytes += _SPENT_BYTES
        if len(self._spent_in_order) > _SPENT_PER_ORIGIN:
            self._spent.discard(self._spent_in_order.popleft())
            self._held.bytes -= _SPENT_BYTES

    def _count(self, size: int) -> None:
        self.bytes += size
        self._held.bytes += size

    @property
    def all_bytes(self) -> int:
        return _ORIGIN_BYTES + self.bytes + _SPENT_BYTES * len(self._spent_in_order)


class _Held:
    """All nonces of one process."""

    def __init__(self) -> None:
        self.generation = generation()
        self.lock = threading.Lock()
        self.origins: OrderedDict[Origin, _AtOrigin] = OrderedDict()
        self.bytes = 0

    def at(self, origin: Origin) -> _AtOrigin:
        """Find an origin's nonces; from now on it is the most recently used."""
        found = self.origins.get(origin)
        if found is None:
            found = self.origins[origin] = _AtOrigin(self)
            self.bytes += _ORIGIN_BYTES
        else:
            self.origins.move_to_end(origin)
        return found

    def shrink(self, limit: int) -> None:
        """Forget the origins that were not used for longest until the rest fits; the last one stays."""
        while len(self.origins) > 1 and (self.bytes > limit or len(self.origins) > _ORIGINS):
            _, forgotten = self.origins.popitem(last=False)
            self.bytes -= forgotten.all_bytes


def _newest_expiry(chain: _Chain) -> float:
    return next(reversed(chain.values()))[0]


def _oldest_expiry(chain: _Chain) -> float:
    return next(iter(chain.values()))[0]
