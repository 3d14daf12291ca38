"""One piece of work, watched and stopped from another thread."""

from __future__ import annotations

__all__ = ["Job", "abandoned"]

from collections.abc import Callable

from ..errors import ProofAbandonedError


class Job:
    """Watch one piece of work, and stop it when nobody waits for it any more.

    Args:
        on_progress: Called by a search, in its thread, with how many numbers it has tried; what it raises
            ends the search.
    """

    def __init__(self, on_progress: Callable[[int], None] | None = None) -> None:
        self._on_progress = on_progress
        self._stop: Callable[[], None] | None = None
        self._is_cancelled = False

    def cancel(self) -> None:
        """Stop the work, for good: a search between two tries, a digest where the engine can."""
        self._is_cancelled = True
        if self._stop is not None:
            self._stop()

    def stop_with(self, stop: Callable[[], None]) -> None:
        """Say how the work is stopped; it is at once where it was cancelled already.

        Args:
            stop: Called when the job is cancelled, from another thread.
        """
        self._stop = stop
        if self._is_cancelled:
            stop()

    def go_on(self, tried: int) -> None:
        """Report progress, and see whether anybody still waits.

        Args:
            tried: Numbers tried so far.

        Raises:
            ProofAbandonedError: If the job was cancelled.
        """
        if self._is_cancelled:
            raise abandoned()
        if self._on_progress is not None:
            self._on_progress(tried)


def abandoned() -> ProofAbandonedError:
    """Say that a job was cancelled.

    Returns:
        The error, the same from each engine.
    """
    return ProofAbandonedError("nobody waits for this proof any more")
