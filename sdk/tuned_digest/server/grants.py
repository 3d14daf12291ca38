"""What a nonce is good for, and its one encoding for stores that keep bytes."""

from __future__ import annotations

__all__ = ["Grant"]

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from .._wire.grammar import ACTIONS
from .._wire.work import KINDS
from ..errors import ArgumentError
from ..proof import Work

_VERSION = 1
_CHAINED = 0x80  # the highest bit of the second byte; below it a bit for each action
_HEAD_SIZE = 3  # bytes: version, kind and scope, schemes


@dataclass(frozen=True, slots=True)
class Grant:
    """Hold what a nonce is good for.

    Args:
        prices: The work by scheme.
        scope: The actions.
        chained: True for a next nonce, False for a challenge's.
        identity: Whom a next nonce is for (base64), so that a store can share its room out; empty for a
            challenge's. It is not encoded, and anybody may use the nonce.
    """

    prices: Mapping[str, Work]
    scope: frozenset[str]
    chained: bool
    identity: str = field(default="", compare=False)

    def encode(self) -> bytes:
        """Write the grant.

        Returns:
            At most 32 bytes: version, kind and scope, schemes, and the work of each scheme.
        """
        scope = sum(1 << number for number, action in enumerate(ACTIONS) if action in self.scope)
        schemes = sum(1 << number for number, scheme in enumerate(KINDS) if scheme in self.prices)
        works = (self.prices[scheme].pack() for scheme in KINDS if scheme in self.prices)
        return bytes([_VERSION, scope | (_CHAINED if self.chained else 0), schemes]) + b"".join(works)

    @classmethod
    def decode(cls, encoded: bytes) -> Self:
        """Read a grant.

        Args:
            encoded: What `encode` wrote.

        Returns:
            The grant.

        Raises:
            ArgumentError: If it is anything else.
        """
        if len(encoded) < _HEAD_SIZE or encoded[0] != _VERSION:
            raise _unreadable()
        flags, schemes, packed = encoded[1], encoded[2], encoded[_HEAD_SIZE:]
        prices: dict[str, Work] = {}
        try:
            for number, (scheme, kind) in enumerate(KINDS.items()):
                if schemes >> number & 1:
                    prices[scheme] = kind.unpack(packed[: kind.packed_size])
                    packed = packed[kind.packed_size :]
        except ArgumentError:
            raise _unreadable() from None
        scope = frozenset(action for number, action in enumerate(ACTIONS) if flags >> number & 1)
        grant = cls(prices, scope, chained=flags >= _CHAINED)
        if not prices or not scope or grant.encode() != encoded:
            raise _unreadable()
        return grant


def _unreadable() -> ArgumentError:
    return ArgumentError("a nonce store returned bytes that are not a grant of this version")
