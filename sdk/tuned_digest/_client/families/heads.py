"""The beginning of a 401's body: as much as is ever looked at, and as it comes in time."""

from __future__ import annotations

__all__ = ["Head"]

import time
from collections.abc import Callable

from ..._wire.challenge import REASON_LIMIT

# A body may come byte by byte, each in time for the client library's timeout.
_SECONDS = 5.0


class Head:
    """Collect the beginning of a body.

    Args:
        clock: Gives seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.content = bytearray()
        self._clock = clock
        self._until = clock() + _SECONDS

    def is_full(self, chunk: bytes) -> bool:
        """Add a chunk.

        Args:
            chunk: What came.

        Returns:
            True when no more is wanted.
        """
        self.content += chunk
        return len(self.content) >= REASON_LIMIT or self._clock() >= self._until
