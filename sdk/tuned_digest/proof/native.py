"""The work done by the native companion, ``tuned-digest-native``.

``TUNED_DIGEST_NATIVE=0`` in the environment leaves it out; that is read once, when the first work is done.
"""

from __future__ import annotations

__all__ = ["Native", "native_engine"]

import os
from types import ModuleType
from typing import Any

from .._runtime.machine import usable_cores
from ..errors import ArgumentError, TunedDigestError
from .job import Job, abandoned


class Native:
    """Work with the companion's kernels.

    Args:
        module: The companion, `tuned_digest_native`.

    Raises:
        ArgumentError: If ``TUNED_DIGEST_KERNEL`` asks for a kernel the processor does not have.
    """

    tries_per_piece = 2**24  # some 100 ms; a search is stopped within them

    def __init__(self, module: ModuleType) -> None:
        self._native: Any = module  # typed by its own project
        try:
            self.name = f"tuned-digest-native, {module.kernel()}"
        except ValueError as error:
            raise ArgumentError(str(error)) from None

    def digest(
        self, string: bytes, salt: bytes, *, variant: str, memory_kib: int, passes: int, lanes: int, job: Job
    ) -> bytes:
        """Digest a string with Argon2; see `engines.Engine.digest`."""
        watched = self._native.Job()
        job.stop_with(watched.cancel)
        try:
            digest: bytes = self._native.argon2(
                string,
                salt,
                variant=variant,
                memory_kib=memory_kib,
                passes=passes,
                lanes=lanes,
                threads=usable_cores() if lanes > 1 else 1,  # counting takes longer than a small hash
                job=watched,
            )
        except self._native.Cancelled:
            raise abandoned() from None
        except MemoryError as error:
            raise TunedDigestError(f"Argon2 with {memory_kib} KiB failed: {error}") from None
        return digest

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Find the smallest number that will do; see `engines.Engine.search`."""
        watched = self._native.Job()
        job.stop_with(watched.cancel)
        try:
            found: int | None = self._native.search(
                string, bits=bits, threads=usable_cores(), first=first, candidates=end, job=watched
            )
        except self._native.Cancelled:
            raise abandoned() from None
        if found is None:
            job.go_on(end)
        return found

    def holds(self, string: bytes, number: int, *, bits: int) -> bool:
        """Tell whether a number will do; see `engines.Engine.holds`."""
        holds: bool = self._native.search_holds(string, number, bits=bits)
        return holds


def native_engine() -> Native | None:
    """Find the companion.

    Returns:
        It, None where it is not installed or is switched off.

    Raises:
        ArgumentError: If ``TUNED_DIGEST_KERNEL`` asks for a kernel the processor does not have.
    """
    if os.environ.get("TUNED_DIGEST_NATIVE") == "0":
        return None
    try:
        import tuned_digest_native  # noqa: PLC0415  # an extra: there or not
    except ImportError:
        return None
    return Native(tuned_digest_native)
