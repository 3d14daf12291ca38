"""What every kind of work has in common (sections 1, 4 and 6).

A kind of work belongs to one authentication scheme and stands whole in one file: how it is written and
read, what it demands of a machine, how it is done, and how it is checked. `argon2.py` and `search.py`
hold one each; `_wire/work.py` lists them. Nothing else asks of which kind a work is.
"""

from __future__ import annotations

__all__ = ["Work", "read_number", "unsupported"]

import re
from abc import ABC, abstractmethod
from collections.abc import Generator
from typing import ClassVar, Self

from ..errors import UnsupportedAlgorithmError
from .job import Job

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")  # no sign, no leading zero, and never more than 10 digits

_SHOWN = 80  # characters of an algorithm that an error repeats


class Work(ABC):
    """Stand for the work that a server asks for with a nonce."""

    __slots__ = ()

    scheme: ClassVar[str]
    """The authentication scheme this kind belongs to."""

    parameter: ClassVar[str]
    """The parameter that holds it in a next nonce (section 6)."""

    runs_alone: ClassVar[bool]
    """Whether a second piece of this kind at the same time would only slow both."""

    in_browsers: ClassVar[bool]
    """Whether browsers do it: their copies of the fields hold this kind alone (sections 1 and 6)."""

    checks_at_once: ClassVar[bool]
    """Whether checking it takes no longer than a digest of a few bytes, however long doing it takes."""

    packed_size: ClassVar[int]
    """How many bytes `pack` writes."""

    @classmethod
    @abstractmethod
    def parse(cls, algorithm: str) -> Self:
        """Read the algorithm of a challenge (section 1).

        Args:
            algorithm: The parameter's value.

        Returns:
            The work.

        Raises:
            UnsupportedAlgorithmError: If it is another kind, or outside its range.
        """

    @classmethod
    @abstractmethod
    def parse_parameter(cls, value: str) -> Self:
        """Read the value of `parameter` in a next nonce (section 6).

        Args:
            value: The parameter's value.

        Returns:
            The work.

        Raises:
            UnsupportedAlgorithmError: If it is another kind, or outside its range.
        """

    @property
    @abstractmethod
    def parameter_value(self) -> str:
        """Write it as the value of `parameter` in a next nonce (section 6)."""

    @property
    @abstractmethod
    def footprint_kib(self) -> int:
        """Count the memory it takes, KiB."""

    @property
    @abstractmethod
    def is_quick(self) -> bool:
        """Tell whether doing it takes less time than three hops to a thread, 0.3 ms."""

    @property
    @abstractmethod
    def demands(self) -> tuple[tuple[str, int, str], ...]:
        """List what it demands: the field of `Limits` that bounds it, how much, and the unit."""

    @property
    @abstractmethod
    def effort(self) -> float:
        """Give a number that grows in proportion to what doing it takes; good among works of one kind."""

    @abstractmethod
    def scaled(self, factor: float) -> Self:
        """Make work of about that many times the effort, for a policy whose price follows load.

        Args:
            factor: How many times, above 0.

        Returns:
            The nearest there is, within the range of its kind.
        """

    @abstractmethod
    def pack(self) -> bytes:
        """Write it in few bytes, always the same number for one kind.

        Returns:
            The bytes, for `unpack`.
        """

    @classmethod
    @abstractmethod
    def unpack(cls, packed: bytes) -> Self:
        """Read what `pack` wrote.

        Args:
            packed: The bytes; `packed_size` of them.

        Returns:
            The work.

        Raises:
            ArgumentError: If they are anything else.
        """

    @abstractmethod
    def reaches(self, floor: Work) -> bool:
        """Compare with a policy's floor (section 10, step 6).

        Args:
            floor: The least work the policy accepts.

        Returns:
            True when this is of the same kind, and at least that.
        """

    @abstractmethod
    def estimate(self) -> float:
        """Estimate what it takes on this machine, alone; a search on average.

        The first estimate for either kind does a few milliseconds of it.

        Returns:
            Seconds. The work seldom takes less than half of them, or more than twice as many.
        """

    @abstractmethod
    def prove(self, string: bytes, *, nonce: str, salt: bytes, job: Job) -> Generator[None, None, str]:
        """Do the work, a piece at a time: what runs several at once may turn to others in between.

        Args:
            string: The request string (section 3).
            nonce: The nonce, repeated in a search's response.
            salt: The salt of an Argon2 digest, 8 to 48 bytes; a search uses none.
            job: Watches and stops the work.

        Yields:
            Nothing, after each piece but the last.

        Returns:
            The response.

        Raises:
            ArgumentError: If the salt is too short or too long.
            ProofAbandonedError: If the job was cancelled.
            ProofNotFoundError: If a search finds nothing.
        """

    @abstractmethod
    def verify(self, string: bytes, response: str, *, nonce: str, job: Job) -> None:
        """Check that a response is this work for one request.

        Args:
            string: The request string as the server builds it.
            response: The response presented.
            nonce: The nonce presented.
            job: Stops the check.

        Raises:
            ProofError: If it is not.
            ProofAbandonedError: If the job was cancelled, and the engine can stop.
        """


def read_number(digits: str, algorithm: str) -> int:
    """Read one number of an algorithm.

    Args:
        digits: The number.
        algorithm: The whole of it, for the error.

    Returns:
        The number, at least 1.

    Raises:
        UnsupportedAlgorithmError: If it has a sign, a leading zero or more than 10 digits.
    """
    if not _NUMBER.fullmatch(digits):
        raise unsupported(algorithm)
    return int(digits)


def unsupported(algorithm: str) -> UnsupportedAlgorithmError:
    """Say that an algorithm is none that this package knows.

    Args:
        algorithm: The algorithm as the server wrote it.

    Returns:
        The error to raise.
    """
    shown = algorithm if len(algorithm) <= _SHOWN else algorithm[:_SHOWN] + "..."
    return UnsupportedAlgorithmError(f"algorithm {shown!r} is not supported", algorithm=algorithm)
