"""The work of tuned-digest on the fastest kernels the processor offers."""

from typing import Literal, final

__all__ = [
    "Cancelled",
    "Job",
    "__version__",
    "argon2",
    "held_kib",
    "kernel",
    "release",
    "search",
    "search_holds",
]

__version__: str

class Cancelled(Exception):  # noqa: N818 - it says what happened, and is no error of the caller's
    """Say that a job was cancelled."""

@final
class Job:
    """Watch one piece of work from another thread, and stop it."""

    def __init__(self) -> None:
        """Begin unwatched and wanted."""

    def cancel(self) -> None:
        """Stop the work within milliseconds, for good: work begun with this job later stops at once."""

    @property
    def tried(self) -> int:
        """Count the candidates a search has tried so far; 0 for a hash."""

def argon2(
    password: bytes,
    salt: bytes,
    *,
    variant: Literal["argon2d", "argon2i", "argon2id"] | str,
    memory_kib: int,
    passes: int,
    lanes: int,
    threads: int,
    job: Job | None = None,
) -> bytes:
    """Hash a password with Argon2, version 0x13 (RFC 9106), without holding the GIL.

    Args:
        password: At most 2**32 - 1 bytes.
        salt: At most 2**32 - 1 bytes.
        variant: ``argon2d``, ``argon2i`` or ``argon2id``.
        memory_kib: Memory, KiB; at least 8 per lane.
        passes: Passes over the memory.
        lanes: Lanes the memory is split into.
        threads: Threads at most, the calling one among them; never more are used than lanes or usable
            cores, and no more than one for a few MiB of work.
        job: Watches and stops the work.

    Returns:
        32 bytes.

    Raises:
        ValueError: If a parameter is outside RFC 9106's range, or ``TUNED_DIGEST_KERNEL`` names a kernel that
            the processor does not offer.
        MemoryError: If the machine has not that much memory.
        Cancelled: If the job was cancelled.
    """

def search(
    string: bytes,
    *,
    bits: int,
    threads: int,
    first: int | None = None,
    candidates: int | None = None,
    job: Job | None = None,
) -> int | None:
    """Find the smallest number whose BLAKE3 digest with a string starts with enough zero bits.

    The digest is of the string and the number, an unsigned 32-bit one, little-endian. The GIL is not held.

    Args:
        string: The string.
        bits: The zero bits to find, 1 to 32.
        threads: Threads at most, the calling one among them; never more are used than usable cores, and no
            more than one for the first few thousand candidates.
        first: The number to begin with, 0 by default.
        candidates: The number before which to stop, 0 to 2**32; 2**32 by default.
        job: Watches and stops the work.

    Returns:
        The number, or None if no number below ``candidates`` will do.

    Raises:
        ValueError: If an argument is out of range, or ``TUNED_DIGEST_KERNEL`` names a kernel that the
            processor does not offer.
        Cancelled: If the job was cancelled.
    """

def search_holds(string: bytes, n: int, *, bits: int) -> bool:
    """Say whether a number's BLAKE3 digest with a string starts with enough zero bits.

    Args:
        string: The string.
        n: The number, 0 to 2**32 - 1.
        bits: The zero bits, 1 to 32.

    Returns:
        True when it does.

    Raises:
        ValueError: If an argument is out of range.
    """

def kernel() -> str:
    """Name the kernel in use: ``avx512``, ``avx2``, ``sse2``, ``neon`` or ``portable``.

    Returns:
        The one ``TUNED_DIGEST_KERNEL`` asked for at the first use, or the fastest one the processor offers.

    Raises:
        ValueError: If ``TUNED_DIGEST_KERNEL`` names no kernel, or one that the processor does not offer.
    """

def held_kib() -> int:
    """Count the memory kept for the next hash.

    Returns:
        KiB; what hashes are using now is not among them.
    """

def release() -> None:
    """Wipe the memory kept for the next hash and return it to the system now."""
