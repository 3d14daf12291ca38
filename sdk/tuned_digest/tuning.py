"""The work a server asks for: Argon2 parameters or a search cost (sections 1, 4), and a client's limits.

`Tuning` and `SearchCost` are the two kinds of `Work`; each belongs to one authentication scheme.
"""

from __future__ import annotations

__all__ = [
    "ACCESS_TUNING",
    "CREATE_TUNING",
    "Limits",
    "SearchCost",
    "Tuning",
    "Variant",
    "Work",
    "parse_cost",
    "parse_tuning",
    "parse_work",
]

import re
from dataclasses import dataclass, fields
from typing import Literal, cast

from ._grammar import SCHEMES
from .errors import ArgumentError, LimitExceededError, UnsupportedAlgorithmError

Variant = Literal["argon2d", "argon2i", "argon2id"]

_TUNING = re.compile(r"\$(argon2d|argon2i|argon2id)\$v=19\$m=(\d+),t=(\d+),p=(\d+)", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,9}")  # no sign, no leading zero, and never more than 10 digits

# RFC 9106 section 3.1.
_MAX_UINT32 = 2**32 - 1
_MAX_LANES = 2**24 - 1
_KIB_PER_LANE = 8

_MAX_COST = 32  # bits, section 4


@dataclass(frozen=True, slots=True)
class Tuning:
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

    def __post_init__(self) -> None:
        if self.variant not in ("argon2d", "argon2i", "argon2id"):
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

    @property
    def scheme(self) -> str:
        """Name the authentication scheme this work belongs to."""
        return SCHEMES[0]

    @property
    def work_kib(self) -> int:
        """Count the memory filled over all passes, KiB."""
        return self.memory_kib * self.passes

    def reaches(self, floor: Work) -> bool:
        """Compare with a policy's floor: same algorithm, at least its memory and passes (section 10).

        Args:
            floor: The least work the policy accepts.

        Returns:
            True when this is at least that.
        """
        return (
            isinstance(floor, Tuning)
            and self.variant == floor.variant
            and self.memory_kib >= floor.memory_kib
            and self.passes >= floor.passes
        )

    def __str__(self) -> str:
        return f"${self.variant}$v=19$m={self.memory_kib},t={self.passes},p={self.lanes}"


@dataclass(frozen=True, slots=True)
class SearchCost:
    """Hold the cost of a BLAKE3 search (section 4).

    Args:
        bits: Leading zero bits to find, 1 to 32.

    Raises:
        ArgumentError: If there are fewer or more.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= _MAX_COST:
            raise ArgumentError(f"a search cost is 1 to {_MAX_COST} bits, not {self.bits}")

    @property
    def scheme(self) -> str:
        """Name the authentication scheme this work belongs to."""
        return SCHEMES[1]

    def reaches(self, floor: Work) -> bool:
        """Compare with a policy's floor: at least its bits (section 10).

        Args:
            floor: The least work the policy accepts.

        Returns:
            True when this is at least that.
        """
        return isinstance(floor, SearchCost) and self.bits >= floor.bits

    def __str__(self) -> str:
        return f"blake3${self.bits}"


Work = Tuning | SearchCost

# Deployed usage, section 1.
ACCESS_TUNING = Tuning("argon2d", 65536, 3, 8)
CREATE_TUNING = Tuning("argon2d", 262144, 5, 8)


def parse_tuning(text: str) -> Tuning:
    """Read Argon2 parameters in PHC form without salt and hash (section 1).

    Args:
        text: As in ``$argon2d$v=19$m=65536,t=3,p=8``.

    Returns:
        The tuning.

    Raises:
        UnsupportedAlgorithmError: If it is anything else.
    """
    match = _TUNING.fullmatch(text)
    if match is None:
        raise _unsupported(text)
    variant = cast("Variant", match[1])  # the pattern allows no other
    try:
        return Tuning(variant, _number(match[2], text), _number(match[3], text), _number(match[4], text))
    except ArgumentError:
        raise _unsupported(text) from None


def parse_cost(text: str) -> SearchCost:
    """Read a search cost (section 6).

    Args:
        text: A decimal number of bits.

    Returns:
        The cost.

    Raises:
        UnsupportedAlgorithmError: If it is not 1 to 32.
    """
    try:
        return SearchCost(_number(text, text))
    except ArgumentError:
        raise _unsupported(text) from None


def parse_work(scheme: str, text: str) -> Work:
    """Read a challenge's algorithm (section 1).

    Args:
        scheme: The challenge's scheme.
        text: The algorithm parameter.

    Returns:
        A tuning for the first scheme, a cost for the second.

    Raises:
        UnsupportedAlgorithmError: If the algorithm is not one of that scheme's.
    """
    if scheme == SCHEMES[0]:
        return parse_tuning(text)
    family, _, bits = text.partition("$")
    if family != "blake3":
        raise _unsupported(text)
    return parse_cost(bits)


def _number(digits: str, algorithm: str) -> int:
    if not _NUMBER.fullmatch(digits):
        raise _unsupported(algorithm)
    return int(digits)


def _unsupported(algorithm: str) -> UnsupportedAlgorithmError:
    shown = algorithm if len(algorithm) <= 80 else algorithm[:80] + "..."
    return UnsupportedAlgorithmError(f"algorithm {shown!r} is not supported", algorithm=algorithm)


@dataclass(frozen=True, slots=True)
class Limits:
    """Say how much work a client does for a server at most.

    The defaults allow twice the memory of the deployed create tuning and three times its work, and a
    search of some ten seconds in a Python loop.

    Args:
        max_memory_kib: Argon2 memory, KiB.
        max_passes: Argon2 passes.
        max_lanes: Argon2 lanes.
        max_work_kib: Argon2 memory times passes, KiB.
        max_search_bits: Leading zero bits of a search.

    Raises:
        ArgumentError: If a limit is not a positive number.
    """

    max_memory_kib: int = 524288
    max_passes: int = 16
    max_lanes: int = 64
    max_work_kib: int = 4194304
    max_search_bits: int = 24

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ArgumentError(f"{field.name} is at least 1")

    def check(self, work: Work) -> None:
        """Refuse work beyond these limits, before anything is allocated.

        Args:
            work: What a server asks for.

        Raises:
            LimitExceededError: If a limit is exceeded.
        """
        if isinstance(work, SearchCost):
            self._check(work, "max_search_bits", work.bits, "bits")
            return
        self._check(work, "max_memory_kib", work.memory_kib, "KiB")
        self._check(work, "max_passes", work.passes, "passes")
        self._check(work, "max_lanes", work.lanes, "lanes")
        self._check(work, "max_work_kib", work.work_kib, "KiB over all passes")

    def _check(self, work: Work, limit: str, asked: int, unit: str) -> None:
        allowed: int = getattr(self, limit)
        if asked > allowed:
            raise LimitExceededError(
                f"the server asks for {work}: {asked} {unit}, and at most {allowed} are allowed; "
                f"if you trust it, pass limits=Limits({limit}={asked})",
                limit=limit,
                asked=asked,
                allowed=allowed,
            )
