"""Nonces of which nothing is stored until they are spent."""

from __future__ import annotations

__all__ = ["AsyncStatelessNonceStore", "StatelessNonceStore"]

import inspect
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, cast

from blake3 import blake3

from ..._base64 import encode_base64
from ..._runtime.forks import PerProcess
from ...errors import ArgumentError, StoreUnavailableError
from ..grants import Grant
from ._alone import PATIENCE, require_alone
from ._sealing import EPOCH_SIZE, Sealed, Sealer
from ._window import Window

if TYPE_CHECKING:
    from . import AsyncSpentStore, SpentStore

_SKEW = 60  # seconds by which the clocks of servers that share keys may differ
_PROBE_SIZE = 18  # bytes of a name that is spent to learn the epoch: as many as a nonce's name stands for
_ALONE = bytes(EPOCH_SIZE)  # the epoch of nonces that only the process that sealed them takes


class StatelessNonceStore:
    """Seal what a nonce is good for into the nonce: nothing is kept until it is spent.

    Without `spent` one process serves, and takes its own nonces alone. It remembers which of the latest were
    taken in a fixed memory of 1 bit each; older ones are retired. With `spent` all that share the keys and
    that store take each other's nonces, and each name is remembered until its nonce is stale everywhere. A
    nonce counts only in the epoch of that store in which it was sealed, so one that has forgotten something
    brings no nonce back.

    A key is for one region or instance: where it is not known, its nonces are not either.

    Args:
        keys: 32 secret random bytes each. The first one seals, all of them open.
        spent: Where spent nonces are remembered: any store with `spend`, such as SQLite or Redis.
        lifetime: Seconds a next nonce is good for (section 7).
        challenge_lifetime: Seconds the nonce of a challenge is good for: longer than the dearest work.
        window: Without `spent`, how many of the latest next nonces, and of the latest challenges, are good:
            a flood of challenges retires no next nonce.
        namespace: Separates servers that share keys.
        several_processes: Without `spent`, serve although other workers do; see `MemoryNonceStore`.
        clock: Gives seconds since 1970, to within 60 s of all that share the keys.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: If a key or a number cannot be used, or `spent` is of another kind.
    """

    holds = False
    issue_blocks = False

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        spent: SpentStore | None = None,
        lifetime: float = 86400,
        challenge_lifetime: float = 300,
        window: int = 2**24,
        namespace: str = "",
        several_processes: bool = False,
        clock: Callable[[], float] = time.time,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if spent is not None and not _has_spend(spent, is_async=False):
            raise ArgumentError(
                "spent is a store with spend(): for an async one use AsyncStatelessNonceStore"
            )
        if window <= 0:
            raise ArgumentError("window is positive")
        self.blocks: bool = spent is not None and getattr(spent, "blocks", True)
        self._spent = spent
        self._is_alone = spent is None and not several_processes
        self._issuer = _Issuer(
            Sealer(keys, namespace),
            lifetimes=(challenge_lifetime, lifetime),
            window=window if spent is None else None,
            begin=self._require_alone,
            clock=clock,
            randomness=randomness,
        )

    def start(self) -> None:
        """Check that the store can serve: `spent` too, or that no other worker is there.

        Without this the first use does so.

        Raises:
            ArgumentError: If there are other workers, see `MemoryNonceStore.start`.
            StoreUnavailableError: If `spent` cannot be reached.
        """
        self._require_alone(PATIENCE)
        begin = getattr(self._spent, "start", None)
        if begin is not None:
            begin()
        self._epoch()

    def issue(self, *grants: Grant) -> list[str]:
        """Seal nonces.

        Only the first call of a process may block, unless `start` was called.

        Args:
            grants: What they are good for.

        Returns:
            A nonce for each, of 56 to 84 bytes.

        Raises:
            StoreUnavailableError: If this process does not know the epoch yet, and `spent` does not say.
            ArgumentError: On the first use, as `start`.
        """
        return self._issuer.issue(grants, self._epoch())

    def take(self, nonce: str, /) -> Grant | None:
        """Open a nonce, and spend it, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued here, is stale, retired or of another epoch, or
            was taken before.

        Raises:
            StoreUnavailableError: If `spent` cannot be reached, or has no room.
            ArgumentError: On the first use, as `start`.
        """
        fresh = self._issuer.open(nonce)
        if fresh is None:
            return None
        sealed, seconds = fresh
        if self._spent is None:
            return sealed.grant if self._issuer.retire(sealed) else None
        return self._issuer.granted(sealed, self._spent.spend(sealed.name, seconds))

    def _epoch(self) -> bytes:
        known = self._issuer.epoch
        if known is not None or self._spent is None:
            return known or _ALONE
        return self._issuer.learn(self._spent.spend(*self._issuer.probe()))

    def _require_alone(self, patience: float = 0.0) -> None:
        if self._is_alone:
            require_alone(type(self).__name__, patience=patience)


class AsyncStatelessNonceStore:
    """Seal what a nonce is good for into the nonce; what was spent is reached by awaiting.

    Args:
        keys: As for `StatelessNonceStore`, like the rest.
        spent: Where spent nonces are remembered: any store with an async `spend`.
        lifetime: Seconds a next nonce is good for (section 7).
        challenge_lifetime: Seconds the nonce of a challenge is good for.
        namespace: Separates servers that share keys.
        clock: Gives seconds since 1970.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: If a key or a lifetime cannot be used, or `spent` is of another kind.
    """

    holds = False

    def __init__(
        self,
        keys: Sequence[bytes],
        *,
        spent: AsyncSpentStore,
        lifetime: float = 86400,
        challenge_lifetime: float = 300,
        namespace: str = "",
        clock: Callable[[], float] = time.time,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not _has_spend(spent, is_async=True):
            raise ArgumentError("spent is a store with an async spend(); else use StatelessNonceStore")
        self._spent = spent
        self._issuer = _Issuer(
            Sealer(keys, namespace),
            lifetimes=(challenge_lifetime, lifetime),
            clock=clock,
            randomness=randomness,
        )

    async def start(self) -> None:
        """Check that the store can serve; see `StatelessNonceStore.start`."""
        begin = getattr(self._spent, "start", None)
        begun = begin() if begin is not None else None
        if inspect.isawaitable(begun):
            await cast("Awaitable[object]", begun)
        await self._epoch()

    async def issue(self, *grants: Grant) -> list[str]:
        """Seal nonces; see `StatelessNonceStore.issue`."""
        return self._issuer.issue(grants, await self._epoch())

    async def take(self, nonce: str, /) -> Grant | None:
        """Open a nonce, and spend it, atomically; see `StatelessNonceStore.take`."""
        fresh = self._issuer.open(nonce)
        if fresh is None:
            return None
        sealed, seconds = fresh
        return self._issuer.granted(sealed, await self._spent.spend(sealed.name, seconds))

    async def _epoch(self) -> bytes:
        known = self._issuer.epoch
        return known or self._issuer.learn(await self._spent.spend(*self._issuer.probe()))


class _Issuer:
    """Seal and open nonces: all that needs no waiting.

    Args:
        sealer: Seals and opens.
        lifetimes: Seconds that challenges and next nonces are good for.
        window: How many of the latest of each this process knows; None where `spent` knows them.
        begin: Called before a process seals its first.
        clock: Gives seconds since 1970.
        randomness: Gives that many random bytes.
    """

    def __init__(
        self,
        sealer: Sealer,
        *,
        lifetimes: tuple[float, float],
        window: int | None = None,
        begin: Callable[[], None] = lambda: None,
        clock: Callable[[], float],
        randomness: Callable[[int], bytes],
    ) -> None:
        if min(lifetimes) <= 0:
            raise ArgumentError("lifetimes are positive")
        self._sealer = sealer
        self._lifetimes = lifetimes
        self._clock = clock
        self._randomness = randomness

        def draw() -> _Process:
            begin()
            return _Process(sealer.new_instance(randomness), window)

        # A forked child that went on with its parent's numbers would seal two nonces under one IV.
        self._process = PerProcess(draw)

    @property
    def epoch(self) -> bytes | None:
        """The epoch that this process knows of."""
        return self._process.get().epoch

    def probe(self) -> tuple[str, float]:
        """Make a name that nobody has spent, and say for how many seconds it is remembered."""
        return encode_base64(self._randomness(_PROBE_SIZE)), _SKEW

    def learn(self, epoch: str | None) -> bytes:
        """Note the epoch that a spent store told when it remembered a name."""
        if epoch is None:  # nobody else draws the same 18 bytes: the answer was lost, and it was asked again
            raise StoreUnavailableError("the store of spent nonces lost an answer: it is asked again later")
        digest = blake3(epoch.encode()).digest()[:EPOCH_SIZE]
        self._process.get().epoch = digest
        return digest

    def issue(self, grants: Sequence[Grant], epoch: bytes) -> list[str]:
        """Seal nonces in an epoch."""
        process, now = self._process.get(), self._clock()
        return [
            self._sealer.seal(
                Sealed(
                    process.instance,
                    process.next_number(chained=grant.chained),
                    int(now + self._lifetimes[grant.chained]),
                    epoch,
                    grant,
                )
            )
            for grant in grants
        ]

    def open(self, nonce: str) -> tuple[Sealed, float] | None:
        """Open a nonce that is fresh, and say for how many seconds it has to be remembered."""
        sealed = self._sealer.open(nonce)
        if sealed is None:
            return None
        left = sealed.expiry - self._clock()
        return (sealed, left + _SKEW) if 0 < left <= self._lifetimes[sealed.grant.chained] + _SKEW else None

    def granted(self, sealed: Sealed, epoch: str | None) -> Grant | None:
        """Give what a nonce is good for if a spent store remembered it, in the epoch it was sealed in."""
        return sealed.grant if epoch is not None and self.learn(epoch) == sealed.epoch else None

    def retire(self, sealed: Sealed) -> bool:
        """Take a nonce of this process, where nothing else knows it."""
        process = self._process.get()
        return sealed.instance == process.instance and process.take_number(sealed.number)


class _Process:
    """What one process seals: even numbers are challenges', odd ones next nonces'."""

    def __init__(self, instance: bytes, window: int | None) -> None:
        self.instance = instance
        self.epoch: bytes | None = None
        self._lock = threading.Lock()
        self._counts = [0, 0]
        self._windows = [Window(window), Window(window)] if window is not None else []

    def next_number(self, *, chained: bool) -> int:
        """Give a number that this process never gave before."""
        with self._lock:
            count = self._counts[chained]
            self._counts[chained] += 1
            for window in self._windows[chained : chained + 1]:
                window.add()
        return 2 * count + chained

    def take_number(self, number: int) -> bool:
        """Take a number; say with False that it was taken before, or is retired."""
        with self._lock:
            return self._windows[number % 2].take(number // 2)


def _has_spend(spent: object, *, is_async: bool) -> bool:
    spend = getattr(spent, "spend", None)
    return not isinstance(spent, type) and callable(spend) and inspect.iscoroutinefunction(spend) == is_async
