"""The client's nonces by origin and scope: taken once, bounded, expiring, locked (section 7)."""

from __future__ import annotations

__all__ = ["MemoryNonceCache", "NonceCache"]

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from .._runtime.forks import PerProcess
from .._wire.challenge import NextNonce
from .._wire.origins import Origin
from ..errors import ArgumentError

_ORIGINS = 256  # origins remembered, the least recently used forgotten
_SPENT_PER_ORIGIN = 4096  # spent nonces remembered, against responses replayed by a cache in between

# Bytes of memory, measured: what is held of a nonce besides its text, its terms included; of one that is
# spent; of a scope, and of an origin.
_NONCE_BYTES = 1664
_SPENT_BYTES = 224
_CHAIN_BYTES = 4096
_ORIGIN_BYTES = 2048

_Chain = dict[str, tuple[float, NextNonce]]  # by nonce: when it expires, and what it is


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
        # After a fork the nonces are the parent's, and a lock may be held by a thread that is not here.
        self._held = PerProcess(_Held)

    def remember(self, origin: Origin, nonces: Iterable[NextNonce]) -> None:
        """Store nonces for later requests, unless they are held or were spent before.

        Args:
            origin: The origin that issued them.
            nonces: The nonces.
        """
        expiry = self._clock() + self._lifetime
        held = self._held.get()
        with held.lock:
            at_origin = held.at(origin)
            before = at_origin.bytes
            for nonce in nonces:
                at_origin.hold(nonce, expiry, self._per_scope)
            at_origin.shrink(self._per_origin_kib * 1024)
            held.settle(at_origin.bytes - before, self._total_kib * 1024)

    def take(self, origin: Origin, action: str) -> NextNonce | None:
        """Give away one nonce for good, the newest first.

        Args:
            origin: The origin the request goes to.
            action: The action it is for.

        Returns:
            A nonce whose scope has the action, None when there is none.
        """
        held = self._held.get()
        with held.lock:
            at_origin = held.origins.get(origin)
            if at_origin is None:
                return None
            held.origins.move_to_end(origin)
            before = at_origin.bytes
            nonce = at_origin.take(action, self._clock())
            held.bytes += at_origin.bytes - before  # less, but for what is kept of a spent nonce
            return nonce

    def spend(self, origin: Origin, nonce: str) -> bool:
        """Mark the nonce of a challenge as spent.

        Args:
            origin: The origin that issued it.
            nonce: The nonce.

        Returns:
            False when it was spent before, and so must not be sent.
        """
        held = self._held.get()
        with held.lock:
            at_origin = held.at(origin)
            before = at_origin.bytes
            is_fresh = at_origin.spend(nonce)
            held.settle(at_origin.bytes - before, self._total_kib * 1024)
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


class _AtOrigin:
    """The nonces of one origin, oldest first."""

    __slots__ = ("_chains", "_known", "_spent", "bytes")

    def __init__(self) -> None:
        self._chains: dict[frozenset[str], _Chain] = {}
        # Of what is held or spent a hash is kept: Python's own, which nobody outside can foretell.
        self._known: set[int] = set()
        self._spent: deque[int] = deque()
        self.bytes = _ORIGIN_BYTES

    def hold(self, nonce: NextNonce, expiry: float, per_scope: int) -> None:
        text, terms = nonce
        known = hash(text)
        if known in self._known:
            return
        self._known.add(known)
        chain = self._chains.get(terms.scopes)
        if chain is None:
            chain = self._chains[terms.scopes] = {}
            self.bytes += _CHAIN_BYTES
        chain[text] = (expiry, nonce)
        self.bytes += len(text) + _NONCE_BYTES
        if len(chain) > per_scope:
            self._drop(chain, next(iter(chain)))

    def take(self, action: str, now: float) -> NextNonce | None:
        fitting = [chain for scopes, chain in self._chains.items() if chain and action in scopes]
        if not fitting:
            return None
        chain = fitting[0] if len(fitting) == 1 else max(fitting, key=_newest_expiry)
        expiry, nonce = self._drop(chain, next(reversed(chain)))
        if expiry > now:
            return nonce
        for chain in fitting:  # the newest of them is stale, so all are
            for text in list(chain):
                self._drop(chain, text)
        return None

    def spend(self, nonce: str) -> bool:
        for chain in self._chains.values():
            if nonce in chain:
                self._drop(chain, nonce)
                return True
        if hash(nonce) in self._known:
            return False
        self._known.add(hash(nonce))
        self._mark_spent(hash(nonce))
        return True

    def shrink(self, limit: int) -> None:
        """Drop the oldest nonces until the rest fits, beside what is kept of those that are spent."""
        while self.bytes - _ORIGIN_BYTES - _SPENT_BYTES * len(self._spent) > limit:
            scopes, chain = min(self._chains.items(), key=_oldest_expiry)
            if chain:
                self._drop(chain, next(iter(chain)))
            else:
                del self._chains[scopes]
                self.bytes -= _CHAIN_BYTES

    def _drop(self, chain: _Chain, text: str) -> tuple[float, NextNonce]:
        """Take a nonce out of its chain, for good."""
        self.bytes -= len(text) + _NONCE_BYTES
        self._mark_spent(hash(text))
        return chain.pop(text)

    def _mark_spent(self, known: int) -> None:
        self._spent.append(known)
        if len(self._spent) > _SPENT_PER_ORIGIN:
            self._known.discard(self._spent.popleft())
        else:
            self.bytes += _SPENT_BYTES


class _Held:
    """All nonces of one process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.origins: OrderedDict[Origin, _AtOrigin] = OrderedDict()
        self.bytes = 0

    def at(self, origin: Origin) -> _AtOrigin:
        """Find an origin's nonces; from now on it is the most recently used."""
        found = self.origins.get(origin)
        if found is None:
            found = self.origins[origin] = _AtOrigin()
            self.bytes += found.bytes
        else:
            self.origins.move_to_end(origin)
        return found

    def settle(self, added: int, limit: int) -> None:
        """Count what was added; the origins that were not used for longest make room for it."""
        self.bytes += added
        while len(self.origins) > 1 and (self.bytes > limit or len(self.origins) > _ORIGINS):
            _, forgotten = self.origins.popitem(last=False)
            self.bytes -= forgotten.bytes


def _newest_expiry(chain: _Chain) -> float:
    return next(reversed(chain.values()))[0]


def _oldest_expiry(item: tuple[frozenset[str], _Chain]) -> float:
    return next(iter(item[1].values()), (0.0,))[0]  # what is empty comes first
