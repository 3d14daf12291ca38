"""What a nonce is good for, and its one encoding for stores that keep bytes."""

from __future__ import annotations

__all__ = ["Grant"]

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from .._wire.grammar import ACTIONS
from .._wire.work import KINDS, works_of
from ..errors import ArgumentError, UnsupportedAlgorithmError
from ..proof import Work

_VERSION = "1"
_KINDS = {True: "next", False: "challenge"}

_SIZE_LIMIT = 512  # characters; the longest there can be has some 200


@dataclass(frozen=True, slots=True)
class Grant:
    """Hold what a nonce is good for.

    Args:
        prices: The work by scheme.
        scope: The actions.
        chained: True for a next nonce, False for a challenge's.
    """

    prices: Mapping[str, Work]
    scope: frozenset[str]
    chained: bool

    def encode(self) -> bytes:
        """Write the grant.

        Returns:
            ASCII, as in ``1;next;read,update;argon=$argon2d$v=19$m=65536,t=3,p=8;blake3=1``.
        """
        scope = ",".join(action for action in ACTIONS if action in self.scope)
        offered = (self.prices[scheme] for scheme in KINDS if scheme in self.prices)
        works = (f"{work.parameter}={work.parameter_value}" for work in offered)
        return ";".join([_VERSION, _KINDS[self.chained], scope, *works]).encode("ascii")

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """Read a grant.

        Args:
            encoded: What `encode` wrote, by this version or an earlier one.

        Returns:
            The grant.

        Raises:
            ArgumentError: If it is anything else.
        """
        problem = "a nonce store returned bytes that are not a grant of this version"
        try:
            _, kind, scope, *works = encoded[: _SIZE_LIMIT + 1].decode("ascii").split(";")
            prices = works_of(dict(work.split("=", 1) for work in works))
        except (UnsupportedAlgorithmError, ValueError):
            raise ArgumentError(problem) from None
        grant = cls(prices, frozenset(scope.split(",")) & frozenset(ACTIONS), kind == _KINDS[True])
        if not grant.prices or not grant.scope or grant.encode() != encoded:
            raise ArgumentError(problem)
        return grant
