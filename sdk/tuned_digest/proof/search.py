"""BLAKE3 search: the scheme ``asym-tuned-digest-signature`` (sections 1 and 4)."""

from __future__ import annotations

__all__ = ["SearchCost"]

import functools
import math
import re
import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import ClassVar

from ..errors import ArgumentError, ProofError, ProofNotFoundError
from .engines import chosen
from .job import Job
from .work import Work, read_number, unsupported

_CANDIDATES = 2**32  # section 4: n is an unsigned 32-bit number
_MAX_BITS = 32  # section 4

_RESPONSE = re.compile(r"blake3\$(0|[1-9][0-9]{0,9})\$([A-Za-z0-9+/=_-]++)")

_QUICK_BITS = 6  # 64 tries on average, about 0.1 ms of a Python loop

# What an estimate does once: enough tries for the clock to tell, on an engine of any speed.
_SAMPLE_SECONDS = 0.002
_SAMPLE_TRIES = 2**24  # at most, however soon it finds a number
_SAMPLE_BITS = 32  # seldom found in so few tries


@dataclass(frozen=True, slots=True)
class SearchCost(Work):
    """Hold the cost of a BLAKE3 search (section 4).

    Args:
        bits: Leading zero bits to find, 1 to 32.

    Raises:
        ArgumentError: If there are fewer or more.
    """

    bits: int

    scheme: ClassVar[str] = "asym-tuned-digest-signature"
    parameter: ClassVar[str] = "blake3"
    runs_alone: ClassVar[bool] = (
        True  # in Python it holds the GIL most of the time; natively it uses all cores
    )
    in_browsers: ClassVar[bool] = True
    checks_at_once: ClassVar[bool] = True
    packed_size: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= _MAX_BITS:
            raise ArgumentError(f"a search cost is 1 to {_MAX_BITS} bits, not {self.bits}")

    @classmethod
    def parse(cls, algorithm: str) -> SearchCost:
        """Read the algorithm of a challenge; see `Work.parse`."""
        family, _, bits = algorithm.partition("$")
        if family != "blake3":
            raise unsupported(algorithm)
        return cls.parse_parameter(bits)

    @classmethod
    def parse_parameter(cls, value: str) -> SearchCost:
        """Read a next nonce's parameter; see `Work.parse_parameter`."""
        try:
            return cls(read_number(value, value))
        except ArgumentError:
            raise unsupported(value) from None

    @property
    def parameter_value(self) -> str:
        """Write a next nonce's parameter; see `Work.parameter_value`."""
        return str(self.bits)

    @property
    def footprint_kib(self) -> int:
        """Count its memory: none; see `Work.footprint_kib`."""
        return 0

    @property
    def is_quick(self) -> bool:
        """Tell whether it is done at once; see `Work.is_quick`."""
        return self.bits <= _QUICK_BITS

    @property
    def demands(self) -> tuple[tuple[str, int, str], ...]:
        """List what it demands; see `Work.demands`."""
        return (("max_search_bits", self.bits, "bits"),)

    @property
    def effort(self) -> float:
        """Give its effort: the tries it takes on average; see `Work.effort`."""
        return float(2**self.bits)

    def scaled(self, factor: float) -> SearchCost:
        """Add a bit for each doubling; see `Work.scaled`."""
        return SearchCost(min(max(1, self.bits + round(math.log2(factor))), _MAX_BITS))

    def pack(self) -> bytes:
        """Write it in 1 byte; see `Work.pack`."""
        return bytes([self.bits])

    @classmethod
    def unpack(cls, packed: bytes) -> SearchCost:
        """Read what `pack` wrote; see `Work.unpack`."""
        if len(packed) != cls.packed_size:
            raise ArgumentError("these bytes are not a search cost")
        return cls(packed[0])

    def reaches(self, floor: Work) -> bool:
        """Compare with a floor: at least its bits; see `Work.reaches`."""
        return isinstance(floor, SearchCost) and self.bits >= floor.bits

    def estimate(self) -> float:
        """Estimate the seconds it takes here on average; see `Work.estimate`."""
        return _seconds_per_try() * float(2**self.bits)

    def prove(self, string: bytes, *, nonce: str, salt: bytes, job: Job) -> Generator[None, None, str]:
        """Find the smallest number that will do: ``blake3$n$nonce``; see `Work.prove`."""
        engine, first = chosen(), 0
        while first < _CANDIDATES:
            end = min(first + engine.tries_per_piece, _CANDIDATES)
            number = engine.search(string, bits=self.bits, first=first, end=end, job=job)
            if number is not None:
                return f"blake3${number}${nonce}"
            first = end
            yield
        raise ProofNotFoundError(
            f"no number below {_CANDIDATES} gives {self.bits} zero bits: ask for a fresh nonce"
        )

    def verify(self, string: bytes, response: str, *, nonce: str, job: Job) -> None:
        """Check one number with one digest; any number that will do is accepted; see `Work.verify`."""
        match = _RESPONSE.fullmatch(response)
        if match is None or match[2] != nonce or int(match[1]) >= _CANDIDATES:
            raise ProofError("response: not blake3$n$nonce with this nonce")
        if not chosen().holds(string, int(match[1]), bits=self.bits):
            raise ProofError(f"the response does not reach {self.bits} zero bits for this request")

    def __str__(self) -> str:
        return f"blake3${self.bits}"


@functools.cache
def _seconds_per_try() -> float:
    tries, seconds = 2048, 0.0
    while seconds < _SAMPLE_SECONDS and tries < _SAMPLE_TRIES:
        tries *= 2
        started = time.perf_counter()
        chosen().search(b"estimate", bits=_SAMPLE_BITS, first=0, end=tries, job=Job())
        seconds = time.perf_counter() - started
    return seconds / tries
