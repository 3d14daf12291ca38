"""The client's nonces by origin and scope: taken once, bounded, expiring, locked (section 7)."""

from __future__ import annotations

__all__ = ["MemoryNonceCache", "NonceCache"]

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from .challenge import NextNonce
from .errors import ArgumentError
from .origins import Origin

_ORIGINS = 256  # origins remembered, the least recently used forgotten
_SPENT_PER_ORIGIN = 4096  # spent nonces remembered, against responses replayed by a cache in between

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
        clock: Gives seconds, never going back.

    Raises:
        ArgumentError: If `per_scope` or `lifetime` is not positive.
    """

    def __init__(
        self, *, per_scope: int = 64, lifetime: float = 82800, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if per_scope < 1 or lifetime <= 0:
            raise ArgumentError("per_scope and lifetime are positive")
        self._per_scope = per_scope
        self._lifetime = lifetime
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
                if at_origin.knows(nonce.nonce):
                    continue
                chain = at_origin.chains.setdefault(nonce.scopes, OrderedDict())
                chain[nonce.nonce] = (expiry, nonce)
                if len(chain) > self._per_scope:
                    at_origin.mark_spent(chain.popitem(last=False)[0])

    def take(self, origin: Origin, action: str) -> NextNonce | None:
        """Give away one nonce for good, the newest first.

        Args:
            origin: The origin the request goes to.
            action: The action it is for.

        Returns:
            A nonce whose scope has the action, None when there is none.
        """
        now = self._clock()
        held = self._current()
        with held.lock:
            at_origin = held.at(origin)
            fitting = [chain for scopes, chain in at_origin.chains.items() if action in scopes and chain]
            if not fitting:
                return None
            text, (expiry, nonce) = max(fitting, key=_newest_expiry).popitem()
            at_origin.mark_spent(text)
            if expiry > now:
                return nonce
            for chain in fitting:
                chain.clear()  # the newest of them is stale, so all are
            return None

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
            at_origin = held.at(origin)
            if nonce in at_origin.spent:
                return False
            for chain in at_origin.chains.values():
                chain.pop(nonce, None)
            at_origin.mark_spent(nonce)
            return True

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(per_scope=self._per_scope, lifetime=self._lifetime, clock=self._clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(per_scope={self._per_scope}, lifetime={self._lifetime})"

    def _current(self) -> _Held:
        # After a fork the nonces are the parent's, and a lock may be held by a thread that is not here.
        if self._held.process != os.getpid():
            self._held = _Held()
        return self._held


class _AtOrigin:
    """The nonces of one origin, oldest first."""

    def __init__(self) -> None:
        self.chains: dict[frozenset[str], _Chain] = {}
        self.spent: OrderedDict[str, None] = OrderedDict()

    def knows(self, nonce: str) -> bool:
        return nonce in self.spent or any(nonce in chain for chain in self.chains.values())

    def mark_spent(self, nonce: str) -> None:
        self.spent[nonce] = None
        if len(self.spent) > _SPENT_PER_ORIGIN:
            self.spent.popitem(last=False)


class _Held:
    """All nonces of one process."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.lock = threading.Lock()
        self.origins: OrderedDict[Origin, _AtOrigin] = OrderedDict()

    def at(self, origin: Origin) -> _AtOrigin:
        """Find an origin's nonces, forgetting the least recently used origin when there are too many."""
        found = self.origins.setdefault(origin, _AtOrigin())
        self.origins.move_to_end(origin)
        if len(self.origins) > _ORIGINS:
            self.origins.popitem(last=False)
        return found


def _newest_expiry(chain: _Chain) -> float:
    return next(reversed(chain.values()))[0]
