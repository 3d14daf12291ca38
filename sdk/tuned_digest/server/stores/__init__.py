"""Where a server keeps the nonces it has issued: made, and taken at most once (section 10, step 4).

There is no way to look at a nonce without taking it: presented twice at once, it succeeds at most once.
"""

from __future__ import annotations

__all__ = ["AsyncNonceStore", "MemoryNonceStore", "NonceStore"]

from typing import Protocol

from ..grants import Grant
from .memory import MemoryNonceStore


class NonceStore(Protocol):
    """Issue nonces and take them back, each once.

    Middleware calls both in worker threads, so they may block. A store whose methods never block says so with
    an attribute ``blocks = False``, and is called on the event loop.
    """

    def issue(self, grant: Grant, /) -> str:
        """Make a nonce.

        Args:
            grant: What it is good for.

        Returns:
            The nonce: base64 of 32 to 96 bytes that nobody can guess, without padding (section 1).
        """
        ...

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce back, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale or was taken before.
        """
        ...


class AsyncNonceStore(Protocol):
    """Issue nonces and take them back, reached by awaiting."""

    async def issue(self, grant: Grant, /) -> str:
        """Make a nonce.

        Args:
            grant: What it is good for.

        Returns:
            The nonce: base64 of 32 to 96 bytes that nobody can guess, without padding (section 1).
        """
        ...

    async def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce back, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued, is stale or was taken before.
        """
        ...
