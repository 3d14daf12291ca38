"""Where a server keeps the nonces it has issued: made, and taken at most once (section 10, step 4).

There is no way to look at a nonce without taking it: presented twice at once, it succeeds at most once.
A store that cannot do its part raises `StoreUnavailableError`, and the request is answered with 503.
"""

from __future__ import annotations

__all__ = ["AsyncNonceStore", "AsyncSpentStore", "MemoryNonceStore", "NonceStore", "SpentStore"]

from collections.abc import Sequence
from typing import Protocol

from ..grants import Grant
from .memory import MemoryNonceStore


class NonceStore(Protocol):
    """Issue nonces and take them back, each once.

    Middleware calls the methods in worker threads, so they may block. These attributes are optional:

    * ``blocks = False``: no method ever blocks, so all are called on the event loop.
    * ``issue_blocks = False``: `issue` does not block, whatever `take` does.
    * ``holds = False``: nothing is kept of an issued nonce, so none is taken for a request whose signature
      or identity is refused.
    * ``start()``, sync or async: checks, when the application starts, that the store can serve; it raises
      an error of this package when it cannot.
    """

    def issue(self, *grants: Grant) -> Sequence[str]:
        """Make nonces: all that one response brings, in one operation.

        Args:
            grants: What they are good for.

        Returns:
            A nonce for each: base64 of 32 to 96 bytes that nobody can guess, without padding (section 1).

        Raises:
            StoreUnavailableError: If that cannot be done now.
        """
        ...

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce back, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale or was taken before.

        Raises:
            StoreUnavailableError: If that cannot be told now.
        """
        ...


class AsyncNonceStore(Protocol):
    """Issue nonces and take them back, reached by awaiting; else as `NonceStore`."""

    async def issue(self, *grants: Grant) -> Sequence[str]:
        """Make nonces; see `NonceStore.issue`."""
        ...

    async def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce back, atomically; see `NonceStore.take`."""
        ...


class SpentStore(Protocol):
    """Remember what was spent: the part of a store that sealed nonces and tokens need."""

    def spend(self, name: str, seconds: float, /) -> str | None:
        """Remember a name, atomically, unless it is remembered already.

        Args:
            name: What is spent, up to 128 characters of ASCII.
            seconds: How long to remember it.

        Returns:
            The store's epoch, up to 64 characters: a store that may have forgotten something, for example
            at a restart, begins another one. None when the name was spent before.

        Raises:
            StoreUnavailableError: If that cannot be told now, or there is no room. Nothing is forgotten to
                make room.
        """
        ...


class AsyncSpentStore(Protocol):
    """Remember what was spent, reached by awaiting; else as `SpentStore`."""

    async def spend(self, name: str, seconds: float, /) -> str | None:
        """Remember a name, atomically; see `SpentStore.spend`."""
        ...
