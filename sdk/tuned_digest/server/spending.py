"""Tokens that are used once (tokens.md section 2, step 7)."""

from __future__ import annotations

__all__ = ["Spending"]

import functools
import inspect
import math
import secrets
import threading
from collections.abc import Callable

from .._runtime.forks import PerProcess
from .._runtime.steps import Here, Steps
from ..errors import ArgumentError, StoreUnavailableError, TokenError
from .effects import InStoreThread, started
from .outages import Outage
from .stores import AsyncSpentStore, SpentStore

# Seconds: a request that was found good may wait so long for the store, while another copy of it is spent.
_LEAST_SECONDS = 10.0

_PROBE_SECONDS = 1.0  # a name that no token has is spent for so long, to learn the epoch


class Spending:
    """Spend the names of tokens, and know what the store may have forgotten.

    When the store's epoch changes, tokens issued before that are not good any more: the store may have
    forgotten that they were used.

    Args:
        store: Where names are spent.
        leeway: Seconds that clocks may be apart.
        clock: Gives seconds since 1970.

    Raises:
        ArgumentError: If it is no such store.
    """

    def __init__(
        self, store: SpentStore | AsyncSpentStore, *, leeway: float, clock: Callable[[], float]
    ) -> None:
        if isinstance(store, type) or not callable(getattr(store, "spend", None)):
            raise ArgumentError("single_use is a store with spend(): MemoryNonceStore(), an object, or None")
        self._store = store
        self._leeway = leeway
        self._clock = clock
        blocks = not inspect.iscoroutinefunction(store.spend) and getattr(store, "blocks", True)
        self._step = InStoreThread if blocks else Here
        self._outage = Outage("store of used tokens")
        # A child goes on from what its parent knew: a store in memory is another one there.
        self._lock = PerProcess(threading.Lock)
        self._epoch: str | None = None
        self._forgotten = -math.inf  # when the store may have forgotten something, at the latest

    def start(self) -> Steps[None]:
        """Check that the store can serve, and learn its epoch; that it is unavailable now is logged.

        So a store that begins again is noticed also by a process that has met no token before.

        Raises:
            TunedDigestError: If it will not serve without somebody's help.
        """
        try:
            yield from started(self._store)
            probe = functools.partial(self._store.spend, f"p.{secrets.token_urlsafe(16)}", _PROBE_SECONDS)
            epoch: str = yield self._step(probe)
        except StoreUnavailableError as error:
            self._outage.begin(error)
        else:
            self._look_back(epoch)

    def spend(self, name: str, *, issued: float, expires: float) -> Steps[None]:
        """Spend a token's name, atomically.

        Args:
            name: The name.
            issued: When the token was issued, seconds since 1970.
            expires: When it expires.

        Raises:
            TokenError: If the token was used before, or that cannot be known any more.
            RequestRejectedError: With status 503, if the store is unavailable.
        """
        seconds = max(expires + 2 * self._leeway - self._clock(), _LEAST_SECONDS)
        try:
            epoch: str | None = yield self._step(functools.partial(self._store.spend, name, seconds))
        except StoreUnavailableError as error:
            raise self._outage.rejection(error) from error
        self._outage.end()
        if epoch is None:
            raise TokenError("the token was used before: sign a new one", step=7, reason="token used")
        if issued <= self._look_back(epoch) + self._leeway:
            raise TokenError(
                "the token is older than the list of used ones: sign a new one",
                step=7,
                reason="store forgot tokens",
            )

    def _look_back(self, epoch: str) -> float:
        with self._lock.get():
            if self._epoch is None:
                self._epoch = epoch
            elif self._epoch != epoch:
                self._epoch = epoch
                self._forgotten = self._clock()
            return self._forgotten
