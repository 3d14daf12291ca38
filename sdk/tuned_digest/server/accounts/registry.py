"""What a server knows of accounts: their keys, codes, candidates and the audit trail (tokens.md section 3).

A registry keeps, and changes all or nothing; it decides nothing. The rules are in `enrolment`. Times are
seconds since 1970; the caller gives them, a registry reads no clock. Something that expires is good before
that moment and not at it.
"""

from __future__ import annotations

__all__ = [
    "CANDIDATE_LIFETIME",
    "MOST_CANDIDATES",
    "MOST_ENTRIES",
    "MOST_TRIES",
    "USE_INTERVAL",
    "AuditEntry",
    "Candidate",
    "Code",
    "EnrolledKey",
    "KeyRegistry",
]

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

CANDIDATE_LIFETIME = 600.0  # seconds from a proposal to its `expires`; tokens.md section 3
MOST_TRIES = 5  # wrong tries that end a code; tokens.md section 3
USE_INTERVAL = 60.0  # seconds between two notes of a key's use
MOST_CANDIDATES = 10_000  # of all accounts together: about 5 MB
MOST_ENTRIES = 1_000  # of the audit trail in one answer


@dataclass(frozen=True, slots=True)
class EnrolledKey:
    """Describe a public key of an account.

    Attributes:
        thumbprint: RFC 7638 SHA-256 thumbprint of the JWK, base64url: the `kid` of its tokens.
        account: The name of its account.
        jwk: The public JWK, JSON.
        label: What its owner calls it.
        added: When it was enrolled.
        last_used: When it was last used, up to a minute off; None where it was not.
        revoked: When it was revoked; None where it is good.
    """

    thumbprint: str
    account: str
    jwk: str
    label: str
    added: float
    last_used: float | None = None
    revoked: float | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """Describe an invitation or a recovery code, whose secret part is not kept.

    Attributes:
        name: The part of it that is no secret.
        kind: ``invitation`` or ``recovery``.
        account: The account that it enrols a key of.
        hash: Argon2id hash of the secret part.
        added: When it was made.
        expires: From when on it is not good any more; None where it does not expire.
        tries: How many wrong secrets were tried with that name.
        used: When it enrolled a key; None where it has not.
    """

    name: str
    kind: str
    account: str
    hash: str = dataclasses.field(repr=False)
    added: float
    expires: float | None = None
    tries: int = 0
    used: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """Describe a key that waits to be approved by another key of the account.

    Attributes:
        thumbprint: Its thumbprint.
        account: The account that it asks for.
        jwk: The public JWK, JSON.
        label: What its owner calls it.
        nonce: The enrolment nonce.
        expires: `CANDIDATE_LIFETIME` after it was proposed.
        approved_by: Thumbprint of the key that approved; empty where none has.
    """

    thumbprint: str
    account: str
    jwk: str
    label: str
    nonce: str = dataclasses.field(repr=False)
    expires: float
    approved_by: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Describe something that was done; entries are added, and neither changed nor removed.

    Attributes:
        number: Larger than that of every entry before it.
        time: When it was done.
        account: The account that it was done to.
        what: What was done, for example ``key revoked``.
        thumbprint: The key that it was done to; empty where none.
        by: Thumbprint of the key that did it, or ``operator``, ``invitation NAME``, ``recovery code NAME``,
            ``anyone``.
        label: The label of the key that it was done to.
    """

    number: int
    time: float
    account: str
    what: str
    thumbprint: str
    by: str
    label: str = ""


class KeyRegistry(Protocol):
    """Keep the keys of accounts.

    The methods may block: middleware calls them in worker threads. Text that some registry could not keep (a
    NUL, a lone surrogate, more than 256 characters) is an ArgumentError where it would be kept, and is found
    nowhere. Every method raises StoreUnavailableError where the registry cannot do its part now. Nothing is
    changed then, unless the connection broke while the change was committed: nobody knows whether it was.
    """

    def start(self) -> None:
        """Check that it can serve.

        Raises:
            ArgumentError: If it cannot, and will not without somebody's help.
        """
        ...

    def find(self, thumbprint: str, /) -> EnrolledKey | None:
        """Find a key by one indexed read.

        Args:
            thumbprint: The key's thumbprint, as anybody may have sent it.

        Returns:
            The key, also a revoked one; None where it is not enrolled.
        """
        ...

    def note_use(self, thumbprint: str, now: float, /) -> None:
        """Note that a key was used, unless a use less than 60 s old is noted.

        Args:
            thumbprint: The key's thumbprint.
            now: The time of its use.
        """
        ...

    def keys(self, account: str | None = None, /) -> Sequence[EnrolledKey]:
        """Give the keys of an account, revoked ones too.

        Args:
            account: The account; None for all.

        Returns:
            The keys, oldest first.
        """
        ...

    def enrol(
        self,
        key: EnrolledKey,
        *,
        what: str,
        by: str,
        founds: bool = False,
        code: str = "",
        nonce: str = "",
        codes: Sequence[Code] = (),
    ) -> None:
        """Enrol a key, and whatever goes with it: all or nothing.

        A candidate of that key is removed.

        Args:
            key: The key.
            what: What the audit trail calls it.
            by: Who did it.
            founds: The account must not be there yet; else it is made where it is not.
            code: Name of the code that is used by this; empty for none.
            nonce: Enrolment nonce of the approved candidate that becomes this key; empty for none.
            codes: Recovery codes that replace the account's unused ones.

        Raises:
            EnrolmentError: With reason ``account taken``; ``key enrolled``, where it ever was; ``code
                refused``, where the code is not there, used, expired, of another account or was tried five
                times; ``not approved``, where the candidate is not there, expired, not approved, or is not
                this thumbprint, account, label and JWK; ``code taken``, where a name of `codes` is there.
        """
        ...

    def revoke(self, thumbprint: str, *, account: str, now: float, by: str) -> bool:
        """Revoke a key, and forget the candidates that it approved.

        Args:
            thumbprint: The key's thumbprint.
            account: The account that it has to be of.
            now: The time.
            by: Who does it.

        Returns:
            False where the account has no such key, it was revoked before, or the key that revokes was.
        """
        ...

    def store_codes(self, codes: Sequence[Code], *, what: str, by: str) -> None:
        """Keep codes; recovery codes replace the unused ones of their account.

        Args:
            codes: Codes of one account and kind.
            what: What the audit trail calls it.
            by: Who does it.

        Raises:
            EnrolmentError: With reason ``code taken``, where a name is there already; ``key revoked``, where
                the key that does it was.
        """
        ...

    def find_code(self, name: str, /) -> Code | None:
        """Find a code, good or not.

        Args:
            name: Its name, as anybody may have sent it.

        Returns:
            The code; None where there is none.
        """
        ...

    def count_try(self, name: str, /) -> int:
        """Count a wrong secret, atomically.

        Args:
            name: The name of the code that it was tried with.

        Returns:
            How many were tried, with this one; 0 where there is no such code.
        """
        ...

    def codes(self, account: str, kind: str, /) -> Sequence[Code]:
        """Give the codes of an account, used and expired ones too.

        Args:
            account: The account.
            kind: ``invitation`` or ``recovery``.

        Returns:
            The codes, oldest first.
        """
        ...

    def propose(self, candidate: Candidate, *, most: int) -> None:
        """Keep a candidate; another one of the same thumbprint is replaced, expired ones are removed.

        Args:
            candidate: The candidate; it is proposed `CANDIDATE_LIFETIME` before it expires.
            most: How many the account may have with it.

        Raises:
            EnrolmentError: With reason ``too many candidates``, where the account has more, or all accounts
                together have more than `MOST_CANDIDATES`.
        """
        ...

    def candidates(self, account: str, now: float, /) -> Sequence[Candidate]:
        """Give the candidates of an account that have not expired, approved or not.

        Args:
            account: The account.
            now: The time.

        Returns:
            The candidates, oldest first.
        """
        ...

    def find_candidate(self, thumbprint: str, now: float, /) -> Candidate | None:
        """Find a candidate that has not expired.

        Args:
            thumbprint: Its thumbprint, as anybody may have sent it.
            now: The time.

        Returns:
            The candidate; None where there is none.
        """
        ...

    def approve(self, thumbprint: str, *, account: str, nonce: str, label: str, by: str, now: float) -> bool:
        """Approve a candidate, atomically.

        Args:
            thumbprint: The candidate's thumbprint.
            account: Its account.
            nonce: Its nonce.
            label: Its label.
            by: Thumbprint of the key that approves.
            now: The time.

        Returns:
            False where there is no such candidate, or it differs, has expired or was approved before, or the
            key that approves was revoked.
        """
        ...

    def audit(
        self, account: str | None = None, /, *, after: int = 0, limit: int = 100
    ) -> Sequence[AuditEntry]:
        """Give entries of the audit trail.

        Args:
            account: The account; None for all.
            after: Number of the last entry that is not wanted.
            limit: How many at most; more than `MOST_ENTRIES` are never given.

        Returns:
            The entries, oldest first.
        """
        ...
