"""Which code does the work: the native companion where it is installed, else argon2-cffi and blake3.

Both give the same answers.
"""

from __future__ import annotations

__all__ = ["Engine", "Portable", "chosen"]

import functools
import time
from typing import Protocol

from argon2.low_level import ARGON2_VERSION, Type, core, error_to_str, ffi
from blake3 import blake3

from .._runtime.machine import usable_cores
from ..errors import TunedDigestError
from .job import Job
from .native import native_engine

_HASH_SIZE = 32  # bytes, section 4
_TYPES = {"argon2d": Type.D.value, "argon2i": Type.I.value, "argon2id": Type.ID.value}
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
        # argon2-cffi's simpler call starts a thread for each lane. More threads than cores are slower, and
        # keep an event loop in another thread waiting; the digest is the same whatever their number.
        context = ffi.new("argon2_context *")
        context.out = digest = ffi.new("uint8_t[]", _HASH_SIZE)
        context.outlen = _HASH_SIZE
        context.version = ARGON2_VERSION
        context.pwd = password = ffi.new("uint8_t[]", string)
        context.pwdlen = len(string)
        context.salt = salted = ffi.new("uint8_t[]", salt)
        context.saltlen = len(salt)
        context.t_cost = passes
        context.m_cost = memory_kib
        context.lanes = lanes
        context.threads = min(lanes, usable_cores()) if lanes > 1 else 1
        problem = core(context, _TYPES[variant])
        if problem:
            raise TunedDigestError(
                f"Argon2 with {memory_kib} KiB, {passes} passes and {lanes} lanes failed: "
                f"{error_to_str(problem)}"
            )
        del password, salted  # which the context does not keep alive
        return bytes(ffi.buffer(digest))

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


@functools.cache
def chosen() -> Engine:
    """Choose the engine, on the first call.

    Returns:
        The native one where it is installed and not switched off.

    Raises:
        ArgumentError: If ``TUNED_DIGEST_KERNEL`` asks for a kernel the processor does not have.
    """
    return native_engine() or Portable()
