"""Wait for a place at a store or registry that only so many may use at once."""

from __future__ import annotations

__all__ = ["acquired"]

from contextlib import suppress

import anyio

from ...errors import StoreUnavailableError


async def acquired(places: anyio.Semaphore, seconds: float, what: str = "nonce store") -> None:
    """Take a place.

    Args:
        places: How many there are.
        seconds: How long to wait for one.
        what: What they are places at.

    Raises:
        StoreUnavailableError: If none was free in that time.
    """
    with suppress(anyio.WouldBlock):
        places.acquire_nowait()  # without a timer, which would take as long as a thread does
        return
    try:
        with anyio.fail_after(seconds):
            await places.acquire()
    except TimeoutError:
        message = f"no place at the {what} was free for {seconds:.0f} s: it is slow, or hangs"
        raise StoreUnavailableError(message) from None
