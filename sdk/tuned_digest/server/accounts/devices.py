"""What devices ask that hold a key, what they may call it, and what they are answered."""

from __future__ import annotations

__all__ = ["Asker", "Enrolled", "Enrolling", "Overview", "Waiting", "check_account", "check_names"]

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ...errors import EnrolmentError
from ...keys import PublicKey
from ..effects import Gone
from .registry import Candidate, EnrolledKey

_ACCOUNT = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_LONGEST_LABEL = 64  # characters


@dataclass(frozen=True, slots=True)
class Asker:
    """Say who asks.

    Args:
        thumbprint: The key that signed the request.
        peer: The address that it came from; empty where the server does not tell.
        gone: Ends when the client has gone; None where that is not watched for.
    """

    thumbprint: str
    peer: str = ""
    gone: Gone | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Enrolling:
    """Hold what a device asks that wants its key enrolled, and has proved that it holds the key.

    Args:
        account: The account.
        key: The key.
        label: What its owner calls it.
        invitation: An invitation, as typed.
        recovery_code: A recovery code, as typed.
        nonce: The enrolment nonce that it was given before.
    """

    account: str
    key: PublicKey
    label: str
    invitation: str = field(default="", repr=False)
    recovery_code: str = field(default="", repr=False)
    nonce: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """Say that a key was enrolled.

    Args:
        key: The key.
        recovery_codes: The account's recovery codes, where they were made with it.
    """

    key: EnrolledKey
    recovery_codes: Sequence[str] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Say that a key waits for its approval.

    Args:
        candidate: The key, and its nonce.
        expires_in: Seconds that it waits at most.
    """

    candidate: Candidate
    expires_in: float


@dataclass(frozen=True, slots=True)
class Overview:
    """Show the keys of an account to one of them.

    Args:
        keys: All keys, revoked ones too, oldest first.
        recovery_codes_left: Recovery codes that are good.
        recoveries: The keys that were enrolled by a recovery code in the last 30 days.
    """

    keys: Sequence[EnrolledKey]
    recovery_codes_left: int
    recoveries: Sequence[EnrolledKey]


def check_account(account: str) -> None:
    """Refuse what cannot be the name of an account.

    Args:
        account: The name.

    Raises:
        EnrolmentError: If it is something else than 1 to 64 of a few characters.
    """
    if not _ACCOUNT.fullmatch(account):
        raise EnrolmentError(
            "an account name is 1 to 64 of a-z, 0-9, dot, dash and underscore, and begins with a letter or "
            "digit",
            reason="bad request",
        )


def check_names(account: str, label: str) -> None:
    """Refuse what cannot be the name of an account, or the label of a key.

    Args:
        account: The name of the account.
        label: The label. Control characters are refused, and those that change the direction of what stands
            beside them: people read labels before they approve a key.

    Raises:
        EnrolmentError: If one of them cannot be used.
    """
    check_account(account)
    if not 1 <= len(label) <= _LONGEST_LABEL or not label.isprintable() or label != label.strip():
        raise EnrolmentError(
            f"a label is 1 to {_LONGEST_LABEL} printable characters, with no space at its ends",
            reason="bad request",
        )
