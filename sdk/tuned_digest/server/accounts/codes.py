"""Codes that enrol a key: made, written for typing, read, hashed and checked (tokens.md section 3).

A code has a name, by which its row is found, and a secret, of which an Argon2id hash is kept. People see one
text of 28 characters in seven groups. Strangers know no names, so their tries end nobody's code.
"""

from __future__ import annotations

__all__ = ["HASHING", "UNKNOWN_HASH", "WrittenCode", "check_secret", "hash_secret", "make_code", "read_code"]

import re
from collections.abc import Callable
from dataclasses import dataclass, field

import argon2
from argon2.exceptions import Argon2Error, InvalidHashError

from ...errors import EnrolmentError
from ...proof import Tuning

# Crockford's base32: no I, L, O and U. Who reads or types an I or L means 1, and O means 0.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_MEANT = str.maketrans("ILO", "110", "-\N{HYPHEN}\N{NON-BREAKING HYPHEN}\N{EN DASH} \t\N{NO-BREAK SPACE}")
_WRITTEN = re.compile(f"[{_ALPHABET}]+")

_NAME_LENGTH = 12  # characters, 60 bits: nobody meets one by trying, and none is drawn twice in practice
_SECRET_LENGTH = 16  # characters, 80 bits
_GROUP = 4  # characters
_LONGEST_TEXT = 128  # characters of a code as typed, with all that separates its groups

HASHING = Tuning("argon2id", 19 * 1024, 2, 1)
"""How secrets are hashed: OWASP's Password Storage Cheat Sheet, 19 MiB and 2 passes (RFC 9106 gives no such
small set; its section 4 asks for what the machine affords). About 25 ms."""

_HASHER = argon2.PasswordHasher(
    time_cost=HASHING.passes, memory_cost=HASHING.memory_kib, parallelism=HASHING.lanes
)

UNKNOWN_HASH = (
    f"$argon2id$v=19$m={HASHING.memory_kib},t={HASHING.passes},p={HASHING.lanes}$"
    "AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
"""The hash of no secret that anybody knows: an unknown name costs what a known one does."""


@dataclass(frozen=True, slots=True)
class WrittenCode:
    """Hold a code as its owner has it.

    Args:
        name: The public part, 12 characters: finds the row.
        secret: The secret part, 16 characters.
    """

    name: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """Write it in groups of four, for people to copy."""
        characters = self.name + self.secret
        return "-".join(characters[at : at + _GROUP] for at in range(0, len(characters), _GROUP))


def make_code(randomness: Callable[[int], bytes]) -> WrittenCode:
    """Make a code.

    Args:
        randomness: Gives that many random bytes.

    Returns:
        The code.
    """
    drawn = randomness(_NAME_LENGTH + _SECRET_LENGTH)
    characters = "".join(_ALPHABET[octet % len(_ALPHABET)] for octet in drawn)  # 32 divides 256: no bias
    return WrittenCode(characters[:_NAME_LENGTH], characters[_NAME_LENGTH:])


def read_code(text: str) -> WrittenCode:
    """Read a code as somebody typed it: letter case, dashes and spaces do not matter.

    Args:
        text: What was typed.

    Returns:
        The code.

    Raises:
        EnrolmentError: With reason ``bad request``, where it cannot be one. The text is not repeated.
    """
    characters = text.upper().translate(_MEANT) if len(text) <= _LONGEST_TEXT else ""
    if len(characters) != _NAME_LENGTH + _SECRET_LENGTH or not _WRITTEN.fullmatch(characters):
        raise EnrolmentError("a code has seven groups of four letters and digits", reason="bad request")
    return WrittenCode(characters[:_NAME_LENGTH], characters[_NAME_LENGTH:])


def hash_secret(secret: str) -> str:
    """Hash the secret part of a code, which takes about 25 ms.

    Args:
        secret: The secret part.

    Returns:
        Its Argon2id hash, with a salt of its own.
    """
    return _HASHER.hash(secret)


def check_secret(hashed: str, secret: str) -> None:
    """Check the secret part of a code, in constant time, which takes about 25 ms.

    Args:
        hashed: What `hash_secret` gave, or `UNKNOWN_HASH`.
        secret: The secret part, as it was sent.

    Raises:
        EnrolmentError: With reason ``code refused``, where it is another one.
    """
    try:
        _HASHER.verify(hashed, secret)
    except (Argon2Error, InvalidHashError):
        raise EnrolmentError("the code is not good", reason="code refused") from None
