"""Wait for a place at a store that only so many may use at once."""

from __future__ import annotations

__all__ = ["acquired"]

import anyio

from ...errors import StoreUnavailableError


async def acquired(places: anyio.Semaphore, seconds: float) -> None:
    """Take a place.

    Args:
        places: How many there are.
        seconds: How long to wait for one.

    Raises:
        StoreUnavailableError: If none was free in that time.
    """
    try:
        with anyio.fail_after(seconds):
            await places.acquire()
    except TimeoutError:
        message = f"no place at the nonce store was free for {seconds:.0f} s: it is slow, or hangs"
        raise StoreUnavailableError(message) from None
