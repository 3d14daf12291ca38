"""Which code does the work: the native companion where it is installed, else argon2-cffi and blake3.

Both give the same answers.
"""

from __future__ import annotations

__all__ = ["Engine", "Portable", "chosen"]

import functools
import time
from typing import Protocol

from argon2.exceptions import HashingError
from argon2.low_level import ARGON2_VERSION, Type, core, error_to_str, ffi, hash_secret_raw
from blake3 import blake3

from .._runtime.machine import usable_cores
from ..errors import TunedDigestError
from .job import Job
from .native import native_engine

_HASH_SIZE = 32  # bytes, section 4
_TYPES = {"argon2d": Type.D, "argon2i": Type.I, "argon2id": Type.ID}
_PREFIX_SIZE = 4  # bytes of the digest that the zero bits are counted in

# Giving the GIL away every 256 tries, about 0.2 ms, keeps an event loop in another thread free; a search
# that nobody waits for any more ends as soon.
_TRIES_PER_TURN = 256


class Engine(Protocol):
    """Do the work of section 4, safe to call from any thread."""

    tries_per_piece: int
    """Numbers tried in one call of a search, after which others may have their turn."""

    @property
    def name(self) -> str:
        """Name the code, and the processor's instructions where it chooses among them."""
        ...

    def digest(
        self, string: bytes, salt: bytes, *, variant: str, memory_kib: int, passes: int, lanes: int, job: Job
    ) -> bytes:
        """Digest a string with Argon2.

        Args:
            string: The request string.
            salt: 8 to 48 bytes.
            variant: ``argon2d``, ``argon2i`` or ``argon2id``.
            memory_kib: Memory, KiB.
            passes: Passes over the memory.
            lanes: Lanes.
            job: Watches and stops the work.

        Returns:
            32 bytes.

        Raises:
            ProofAbandonedError: If the job was cancelled, and this engine can stop.
            TunedDigestError: If there is not enough memory.
        """
        ...

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Find the smallest number whose digest with a string starts with enough zero bits.

        Args:
            string: The request string.
            bits: The zero bits to find.
            first: The first number to try.
            end: The number after the last.
            job: Watches and stops the work.

        Returns:
            The number, None if none will do.

        Raises:
            ProofAbandonedError: If the job was cancelled.
        """
        ...

    def holds(self, string: bytes, number: int, *, bits: int) -> bool:
        """Tell whether a number's digest with a string starts with enough zero bits.

        Args:
            string: The request string.
            number: 0 to 2**32 - 1.
            bits: The zero bits.

        Returns:
            True when it does.
        """
        ...


class Portable:
    """Work with argon2-cffi and blake3: a running digest cannot be stopped."""

    name = "argon2-cffi, blake3"
    tries_per_piece = 65536  # some 50 ms

    def digest(
        self, string: bytes, salt: bytes, *, variant: str, memory_kib: int, passes: int, lanes: int, job: Job
    ) -> bytes:
        """Digest a string with Argon2; see `Engine.digest`."""
        if lanes == 1:
            try:
                return hash_secret_raw(
                    string, salt, passes, memory_kib, lanes, _HASH_SIZE, _TYPES[variant], ARGON2_VERSION
                )
            except HashingError as error:
                raise TunedDigestError(f"Argon2 with {memory_kib} KiB failed: {error}") from None
        return _digest_in_lanes(string, salt, variant, memory_kib, passes, lanes)

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Find the smallest number that will do; see `Engine.search`."""
        prefix = blake3(string)
        ceiling = (1 << (32 - bits)).to_bytes(_PREFIX_SIZE, "big")  # compares as the number does
        for start in range(first, end, _TRIES_PER_TURN):
            stop = min(start + _TRIES_PER_TURN, end)
            for n in range(start, stop):
                attempt = prefix.copy()
                attempt.update(n.to_bytes(4, "little"))
                if attempt.digest(length=_PREFIX_SIZE) < ceiling:
                    return n
            job.go_on(stop)
            time.sleep(0)
        return None

    def holds(self, string: bytes, number: int, *, bits: int) -> bool:
        """Tell whether a number will do; see `Engine.holds`."""
        digest = blake3(string + number.to_bytes(4, "little")).digest(length=_PREFIX_SIZE)
        return not int.from_bytes(digest, "big") >> (32 - bits)


def _digest_in_lanes(
    string: bytes, salt: bytes, variant: str, memory_kib: int, passes: int, lanes: int
) -> bytes:
    """Digest with as many threads as usable cores.

    argon2-cffi's simpler call starts a thread for each lane. More threads than cores are slower, and keep an
    event loop in another thread waiting; the digest is the same whatever their number.
    """
    digest = ffi.new("uint8_t[]", _HASH_SIZE)
    password, salted = ffi.new("uint8_t[]", string), ffi.new("uint8_t[]", salt)
    context = ffi.new(
        "argon2_context *",
        {
            "out": digest,
            "outlen": _HASH_SIZE,
            "version": ARGON2_VERSION,
            "pwd": password,
            "pwdlen": len(string),
            "salt": salted,
            "saltlen": len(salt),
            "t_cost": passes,
            "m_cost": memory_kib,
            "lanes": lanes,
            "threads": min(lanes, usable_cores()),
        },
    )
    problem = core(context, _TYPES[variant].value)
    if problem:
        raise TunedDigestError(
            f"Argon2 with {memory_kib} KiB, {passes} passes and {lanes} lanes failed: {error_to_str(problem)}"
        )
    return bytes(ffi.buffer(digest))


@functools.cache
def chosen() -> Engine:
    """Choose the engine, on the first call.

    Returns:
        The native one where it is installed and not switched off.

    Raises:
        ArgumentError: If ``TUNED_DIGEST_KERNEL`` asks for a kernel the processor does not have.
    """
    return native_engine() or Portable()
