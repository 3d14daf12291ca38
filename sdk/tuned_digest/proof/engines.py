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

from .._machine import usable_cores
from ..errors import TunedDigestError
from ..tuning import SearchCost, Tuning
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

    @property
    def name(self) -> str:
        """Name the code, and the processor's instructions where it chooses among them."""
        ...

    def digest(self, string: bytes, tuning: Tuning, salt: bytes, job: Job) -> bytes:
        """Digest a string with Argon2.

        Args:
            string: The request string.
            tuning: The parameters.
            salt: 8 to 48 bytes.
            job: Watches and stops the work.

        Returns:
            32 bytes.

        Raises:
            ProofAbandonedError: If the job was cancelled, and this engine can stop.
            TunedDigestError: If there is not enough memory.
        """
        ...

    def search(self, string: bytes, cost: SearchCost, candidates: int, job: Job) -> int | None:
        """Find the smallest number whose digest with a string starts with enough zero bits.

        Args:
            string: The request string.
            cost: The zero bits to find.
            candidates: How many numbers to try.
            job: Watches and stops the work.

        Returns:
            The number, None if none will do.

        Raises:
            ProofAbandonedError: If the job was cancelled.
        """
        ...

    def holds(self, string: bytes, cost: SearchCost, number: int) -> bool:
        """Tell whether a number's digest with a string starts with enough zero bits.

        Args:
            string: The request string.
            cost: The zero bits.
            number: 0 to 2**32 - 1.

        Returns:
            True when it does.
        """
        ...


class Portable:
    """Work with argon2-cffi and blake3: a running digest cannot be stopped."""

    name = "argon2-cffi, blake3"

    def digest(self, string: bytes, tuning: Tuning, salt: bytes, job: Job) -> bytes:
        """Digest a string with Argon2; see `Engine.digest`."""
        # argon2-cffi's simpler call starts a thread for each lane. More threads than cores are slower, and
        # keep an event loop in another thread waiting; the digest is the same whatever their number.
        threads = min(tuning.lanes, usable_cores()) if tuning.lanes > 1 else 1
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
                "t_cost": tuning.passes,
                "m_cost": tuning.memory_kib,
                "lanes": tuning.lanes,
                "threads": threads,
            },
        )
        problem = core(context, _TYPES[tuning.variant].value)
        if problem:
            raise TunedDigestError(f"Argon2 with {tuning} failed: {error_to_str(problem)}")
        return bytes(ffi.buffer(digest))

    def search(self, string: bytes, cost: SearchCost, candidates: int, job: Job) -> int | None:
        """Find the smallest number that will do; see `Engine.search`."""
        prefix = blake3(string)
        ceiling = (1 << (32 - cost.bits)).to_bytes(_PREFIX_SIZE, "big")  # compares as the number does
        for first in range(0, candidates, _TRIES_PER_TURN):
            for n in range(first, min(first + _TRIES_PER_TURN, candidates)):
                attempt = prefix.copy()
                attempt.update(n.to_bytes(4, "little"))
                if attempt.digest(length=_PREFIX_SIZE) < ceiling:
                    return n
            job.go_on(min(first + _TRIES_PER_TURN, candidates))
            time.sleep(0)
        return None

    def holds(self, string: bytes, cost: SearchCost, number: int) -> bool:
        """Tell whether a number will do; see `Engine.holds`."""
        digest = blake3(string + number.to_bytes(4, "little")).digest(length=_PREFIX_SIZE)
        return not int.from_bytes(digest, "big") >> (32 - cost.bits)


@functools.cache
def chosen() -> Engine:
    """Choose the engine, on the first call.

    Returns:
        The native one where it is installed and not switched off.

    Raises:
        ArgumentError: If ``TUNED_DIGEST_KERNEL`` asks for a kernel the processor does not have.
    """
    return native_engine() or Portable()
