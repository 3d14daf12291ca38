"""Names that were spent, in memory: none is forgotten before its time."""

from __future__ import annotations

__all__ = ["SpentNames"]

import heapq
import math

from ...errors import StoreUnavailableError

_STRIDE = 60  # seconds: names whose time ends within the same one are forgotten together
_BITE = 2  # names forgotten for each that comes: more than come, and never many at once


class SpentNames:
    """Remember names, each at least until its time is over, and up to a minute longer.

    Args:
        capacity: Names remembered.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._names: set[str] = set()
        self._ending: dict[int, list[str]] = {}  # by stride
        self._strides: list[int] = []  # a heap of those

    def __len__(self) -> int:
        """Count the names remembered."""
        return len(self._names)

    def spend(self, name: str, seconds: float, now: float) -> bool:
        """Remember a name.

        Args:
            name: The name.
            seconds: How long to remember it.
            now: Seconds.

        Returns:
            False when it is remembered already.

        Raises:
            StoreUnavailableError: If there is no room.
        """
        for _ in range(_BITE):
            self._forget(now)
        if name in self._names:
            return False
        if len(self._names) >= self._capacity:
            raise StoreUnavailableError(
                f"{self._capacity} spent nonces are remembered, and none of them has expired. Allow more, or "
                "issue nonces with a shorter lifetime",
                retry_after=self._strides[0] * _STRIDE - now,
            )
        self._names.add(name)
        self._end(name, math.ceil((now + seconds) / _STRIDE))
        return True

    def _end(self, name: str, stride: int) -> None:
        if stride not in self._ending:
            self._ending[stride] = []
            heapq.heappush(self._strides, stride)
        self._ending[stride].append(name)

    def _forget(self, now: float) -> None:
        """Forget one name whose time is over."""
        if self._strides and self._strides[0] * _STRIDE <= now:
            ended = self._ending[self._strides[0]]
            self._names.remove(ended.pop())
            if not ended:
                del self._ending[heapq.heappop(self._strides)]
