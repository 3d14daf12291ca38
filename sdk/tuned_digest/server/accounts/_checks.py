"""What every registry refuses, and why."""

from __future__ import annotations

__all__ = ["check_approved", "check_storable", "check_unused", "is_storable", "refusal"]

import dataclasses
import math

from ...errors import ArgumentError, EnrolmentError
from .registry import MOST_TRIES, AuditEntry, Candidate, Code, EnrolledKey

# Characters. The longest JWK is that of an RSA key of 4,096 bits, about 750; `kid` has 256 at most (section
# 2). PostgreSQL indexes up to 2,704 bytes, SQLite any number.
_LONGEST_TEXT = 256
_LONGEST = {"jwk": 4096, "by": 512, "hash": 512}

_REFUSALS = {
    "account taken": "there is an account of that name: choose another one",
    "key enrolled": "the key is enrolled, or was: make a new one",
    "key revoked": "the key that asks for this was revoked",
    "code refused": "the code is unknown, used, expired or for another account: ask for another one",
    "code taken": "there is a code of that name: make another one",
    "not approved": "no key of the account has approved this key and label in the last ten minutes",
    "too many candidates": "too many keys wait for approval: try again in ten minutes",
}


def is_storable(text: str) -> bool:
    """Say whether every registry can hold a text of the usual length.

    Args:
        text: A thumbprint, name, label or the like, as anybody may have sent it.

    Returns:
        False for more than 256 characters, a NUL (PostgreSQL refuses it) or a lone surrogate (no UTF-8).
    """
    return _is_text(text, _LONGEST_TEXT)


def check_storable(*records: EnrolledKey | Code | Candidate | AuditEntry) -> None:
    """Refuse what some registry could not hold.

    Args:
        records: What is to be kept.

    Raises:
        ArgumentError: If a text is too long, or has a NUL or a lone surrogate, or a number is not finite.
    """
    for record in records:
        for field in dataclasses.fields(record):
            value = getattr(record, field.name)
            longest = _LONGEST.get(field.name, _LONGEST_TEXT)
            if isinstance(value, str):
                if not _is_text(value, longest):
                    raise ArgumentError(
                        f"{field.name} has a NUL, a lone surrogate or more than {longest} characters"
                    )
            elif value is not None and not math.isfinite(value):
                raise ArgumentError(f"{field.name} is not a finite number")


def check_unused(code: Code | None, key: EnrolledKey) -> None:
    """Refuse a code that cannot enrol a key.

    Args:
        code: What is kept under the name that was given.
        key: The key to be enrolled.

    Raises:
        EnrolmentError: With reason ``code refused``.
    """
    if (
        code is None
        or code.account != key.account
        or code.used is not None
        or code.tries >= MOST_TRIES
        or (code.expires is not None and code.expires <= key.added)
    ):
        raise refusal("code refused")


def check_approved(candidate: Candidate | None, key: EnrolledKey, nonce: str) -> None:
    """Refuse a key that was not approved as it is.

    Args:
        candidate: The candidate that is kept of that thumbprint.
        key: The key to be enrolled.
        nonce: Its enrolment nonce.

    Raises:
        EnrolmentError: With reason ``not approved``.
    """
    if (
        candidate is None
        or not candidate.approved_by
        or candidate.nonce != nonce
        or candidate.expires <= key.added
        or (candidate.account, candidate.jwk, candidate.label) != (key.account, key.jwk, key.label)
    ):
        raise refusal("not approved")


def refusal(reason: str) -> EnrolmentError:
    """Make the error of what is not done.

    Args:
        reason: Its reason.

    Returns:
        The error, to be raised.
    """
    return EnrolmentError(_REFUSALS[reason], reason=reason)


def _is_text(text: str, longest: int) -> bool:
    if len(text) > longest or "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
