"""Argon2 work: the scheme ``tuned-digest-signature`` (sections 1 and 4, RFC 9106)."""

from __future__ import annotations

__all__ = ["ACCESS_TUNING", "CREATE_TUNING", "SALT_SIZE", "Tuning", "Variant", "draw_salt"]

import functools
import hmac
import re
import struct
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, cast

from .._base64 import decode_base64, encode_base64
from .._runtime.machine import usable_cores
from ..errors import ArgumentError, MalformedFieldError, ProofError
from .engines import chosen
from .job import Job
from .work import Work, read_number, unsupported

Variant = Literal["argon2d", "argon2i", "argon2id"]

SALT_SIZE = 16  # bytes, section 4
_BLAKE3 = b"nV\xa4"  # how the bytes begin whose base64 begins with "blak"
_SALT_SIZES = range(8, 49)  # bytes accepted, section 4
_HASH_SIZE = 32  # bytes, section 4

_ALGORITHM = re.compile(r"\$(argon2d|argon2i|argon2id)\$v=19\$m=(\d+),t=(\d+),p=(\d+)", re.ASCII)

# RFC 9106 section 3.1.
_MAX_UINT32 = 2**32 - 1
_MAX_LANES = 2**24 - 1
_KIB_PER_LANE = 8

_VARIANTS: tuple[Variant, ...] = ("argon2d", "argon2i", "argon2id")
_PACKED = struct.Struct(">BIII")  # variant, memory, passes, lanes

_QUICK_KIB = 512  # over all passes in one lane: about 0.3 ms

# What an estimate does once: enough memory not to fit a core's own cache, for some 3 ms a pass.
_SAMPLE_KIB = 8192
_SAMPLE_PASSES = 3
_SAMPLE_LANES = 8  # as deployed; as many are computed at once as there are cores


@dataclass(frozen=True, slots=True)
class Tuning(Work):
    """Hold Argon2 parameters (RFC 9106 section 3.1).

    Args:
        variant: ``argon2d``, ``argon2i`` or ``argon2id``.
        memory_kib: Memory, KiB; at least 8 per lane.
        passes: Passes over the memory.
        lanes: Lanes the memory is split into.

    Raises:
        ArgumentError: If a parameter is outside RFC 9106's range.
    """

    variant: Variant
    memory_kib: int
    passes: int
    lanes: int

    scheme: ClassVar[str] = "tuned-digest-signature"
    parameter: ClassVar[str] = "argon"
    runs_alone: ClassVar[bool] = False
    in_browsers: ClassVar[bool] = False
    checks_at_once: ClassVar[bool] = False
    packed_size: ClassVar[int] = _PACKED.size

    def __post_init__(self) -> None:
        if self.variant not in _VARIANTS:
            raise ArgumentError(f"{self.variant!r} is not an Argon2 variant")
        if not 1 <= self.lanes <= _MAX_LANES:
            raise ArgumentError(f"lanes are 1 to {_MAX_LANES}, not {self.lanes}")
        if not 1 <= self.passes <= _MAX_UINT32:
            raise ArgumentError(f"passes are 1 to {_MAX_UINT32}, not {self.passes}")
        if not _KIB_PER_LANE * self.lanes <= self.memory_kib <= _MAX_UINT32:
            raise ArgumentError(
                f"memory for {self.lanes} lanes is {_KIB_PER_LANE * self.lanes} to {_MAX_UINT32} KiB, "
                f"not {self.memory_kib}"
            )

    @classmethod
    def parse(cls, algorithm: str) -> Tuning:
        """Read the algorithm of a challenge; see `Work.parse`."""
        match = _ALGORITHM.fullmatch(algorithm)
        if match is None:
            raise unsupported(algorithm)
        memory, passes, lanes = (read_number(digits, algorithm) for digits in match.groups()[1:])
        try:
            return cls(cast("Variant", match[1]), memory, passes, lanes)  # the pattern allows no other
        except ArgumentError:
            raise unsupported(algorithm) from None

    @classmethod
    def parse_parameter(cls, value: str) -> Tuning:
        """Read a next nonce's parameter; see `Work.parse_parameter`."""
        return cls.parse(value)

    @property
    def parameter_value(self) -> str:
        """Write a next nonce's parameter; see `Work.parameter_value`."""
        return str(self)

    @property
    def work_kib(self) -> int:
        """Count the memory filled over all passes, KiB."""
        return self.memory_kib * self.passes

    @property
    def footprint_kib(self) -> int:
        """Count its memory; see `Work.footprint_kib`."""
        return self.memory_kib

    @property
    def is_quick(self) -> bool:
        """Tell whether it is done at once; see `Work.is_quick`."""
        return self.lanes == 1 and self.memory_kib * self.passes <= _QUICK_KIB

    @property
    def demands(self) -> tuple[tuple[str, int, str], ...]:
        """List what it demands; see `Work.demands`."""
        return (
            ("max_memory_kib", self.memory_kib, "KiB"),
            ("max_passes", self.passes, "passes"),
            ("max_lanes", self.lanes, "lanes"),
            ("max_work_kib", self.work_kib, "KiB over all passes"),
        )

    @property
    def effort(self) -> float:
        """Give its effort: the memory filled over all passes, KiB; see `Work.effort`."""
        return float(self.work_kib)

    def scaled(self, factor: float) -> Tuning:
        """Multiply the passes; see `Work.scaled`."""
        passes = min(max(1, round(self.passes * factor)), _MAX_UINT32)
        return replace(self, passes=passes)

    def pack(self) -> bytes:
        """Write it in 13 bytes; see `Work.pack`."""
        return _PACKED.pack(_VARIANTS.index(self.variant), self.memory_kib, self.passes, self.lanes)

    @classmethod
    def unpack(cls, packed: bytes) -> Tuning:
        """Read what `pack` wrote; see `Work.unpack`."""
        if len(packed) != _PACKED.size or packed[0] >= len(_VARIANTS):
            raise ArgumentError("these bytes are not a tuning")
        variant, memory_kib, passes, lanes = _PACKED.unpack(packed)
        return cls(_VARIANTS[variant], memory_kib, passes, lanes)

    def reaches(self, floor: Work) -> bool:
        """Compare with a floor: the same variant, at least its memory and passes; see `Work.reaches`."""
        return (
            isinstance(floor, Tuning)
            and self.variant == floor.variant
            and self.memory_kib >= floor.memory_kib
            and self.passes >= floor.passes
        )

    def estimate(self) -> float:
        """Estimate the seconds it takes here; see `Work.estimate`."""
        per_kib, per_kib_and_pass = _costs()
        cores = min(_SAMPLE_LANES, usable_cores())
        return self.memory_kib * (per_kib + per_kib_and_pass * self.passes) * cores / min(self.lanes, cores)

    def prove(self, string: bytes, *, nonce: str, salt: bytes, job: Job) -> Generator[None, None, str]:
        """Digest a request string, in one piece: ``b64(salt)$b64(hash)``; see `Work.prove`."""
        if len(salt) not in _SALT_SIZES:
            raise ArgumentError(
                f"a salt has {_SALT_SIZES.start} to {_SALT_SIZES.stop - 1} bytes, not {len(salt)}"
            )
        yield from ()  # one piece
        return f"{encode_base64(salt)}${encode_base64(self._digest(string, salt, job))}"

    def verify(self, string: bytes, response: str, *, nonce: str, job: Job) -> None:
        """Digest a request string again and compare, in constant time; see `Work.verify`."""
        salt_text, _, hash_text = response.partition("$")
        try:
            salt = decode_base64(salt_text, "response", "salt")
            presented = decode_base64(hash_text, "response", "hash")
        except MalformedFieldError as error:
            raise ProofError(str(error)) from None
        if len(salt) not in _SALT_SIZES or len(presented) != _HASH_SIZE:
            raise ProofError("response: the salt or the hash has an impossible size")
        if not hmac.compare_digest(presented, self._digest(string, salt, job)):
            raise ProofError("the response is not the digest of this request")

    def _digest(self, string: bytes, salt: bytes, job: Job) -> bytes:
        return chosen().digest(
            string,
            salt,
            variant=self.variant,
            memory_kib=self.memory_kib,
            passes=self.passes,
            lanes=self.lanes,
            job=job,
        )

    def __str__(self) -> str:
        return f"${self.variant}$v=19$m={self.memory_kib},t={self.passes},p={self.lanes}"


# Deployed usage, section 1.
ACCESS_TUNING = Tuning("argon2d", 65536, 3, 8)
CREATE_TUNING = Tuning("argon2d", 262144, 5, 8)


def draw_salt(randomness: Callable[[int], bytes]) -> bytes:
    """Draw a salt whose base64 cannot be mistaken for a search's response.

    Args:
        randomness: Gives that many random bytes.

    Returns:
        16 bytes.
    """
    while True:
        salt = randomness(SALT_SIZE)
        if not salt.startswith(_BLAKE3) or not encode_base64(salt).startswith("blake3"):
            return salt


@functools.cache
def _costs() -> tuple[float, float]:
    """Time two digests: memory costs once for being had, and with each pass."""
    short = _seconds(Tuning("argon2d", _SAMPLE_KIB, 1, _SAMPLE_LANES))
    long = _seconds(Tuning("argon2d", _SAMPLE_KIB, 1 + _SAMPLE_PASSES, _SAMPLE_LANES))
    per_pass = max(long - short, 0) / _SAMPLE_PASSES
    return max(short - per_pass, 0) / _SAMPLE_KIB, per_pass / _SAMPLE_KIB


def _seconds(tuning: Tuning) -> float:
    started = time.perf_counter()
    tuning._digest(b"estimate", bytes(SALT_SIZE), Job())
    return time.perf_counter() - started
