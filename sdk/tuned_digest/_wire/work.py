"""The kinds of work there are, and a client's limits on them (sections 1, 4 and 6)."""

from __future__ import annotations

__all__ = ["KINDS", "SCHEMES", "Limits", "names_our_scheme", "parse_work", "works_of"]

from collections.abc import Mapping
from dataclasses import dataclass, fields

from ..errors import ArgumentError, LimitExceededError
from ..proof import SearchCost, Tuning, Work

KINDS: dict[str, type[Work]] = {kind.scheme: kind for kind in (Tuning, SearchCost)}
"""Each kind by its scheme, in the order in which challenges and next nonces are written."""

SCHEMES = tuple(KINDS)
"""The authentication schemes: Argon2, and BLAKE3 search."""

_COMMON_NAME = SCHEMES[0]  # the second name contains the first


def names_our_scheme(value: str) -> bool:
    """Tell whether a field value, readable or not, could have been meant for us.

    Args:
        value: The value.

    Returns:
        True when it names one of our schemes.
    """
    return _COMMON_NAME in value.lower()


def parse_work(scheme: str, algorithm: str) -> Work:
    """Read a challenge's algorithm (section 1).

    Args:
        scheme: The challenge's scheme.
        algorithm: The algorithm parameter.

    Returns:
        Work of the scheme's kind.

    Raises:
        UnsupportedAlgorithmError: If the algorithm is not one of that scheme's.
    """
    return KINDS[scheme].parse(algorithm)


def works_of(parameters: Mapping[str, str]) -> dict[str, Work]:
    """Read the work in a next nonce's parameters (section 6).

    Args:
        parameters: The parameters.

    Returns:
        The work by scheme, empty where there is none.

    Raises:
        UnsupportedAlgorithmError: If one is not of its kind.
    """
    return {
        scheme: kind.parse_parameter(parameters[kind.parameter])
        for scheme, kind in KINDS.items()
        if kind.parameter in parameters
    }


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
        for limit, asked, unit in work.demands:
            allowed: int = getattr(self, limit)
            if asked > allowed:
                raise LimitExceededError(
                    f"the server asks for {work}: {asked} {unit}, and at most {allowed} are allowed; "
                    f"if you trust it, pass limits=Limits({limit}={asked})",
                    limit=limit,
                    asked=asked,
                    allowed=allowed,
                )
