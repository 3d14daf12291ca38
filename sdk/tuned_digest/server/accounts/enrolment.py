"""Who may enrol a key, and how: the rules of tokens.md section 3, over any registry.

A key comes in by one of four ways, and the registry writes each into the audit trail:

* The operator adds it, or makes an invitation: a one-time code for one account.
* Where registration is open, the first key of a free account name is enrolled at once.
* Any other key waits as a candidate until an enrolled key of the account approves it. The approval enrols
  nothing: the new device asks once more, with its nonce.
* A recovery code enrols one key. The first key that comes over the network brings its account ten of them.

The operator's methods block. Those for devices are generators of steps, as the verifier's are.
"""

from __future__ import annotations

__all__ = ["Enrolment", "Registration"]

import base64
import hmac
import math
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from ..._runtime.steps import Here, Steps
from ...errors import ArgumentError, EnrolmentError, OverloadedError
from ...keys import PublicKey
from ..effects import InRegistryThread, started
from .devices import Asker, Enrolled, Enrolling, Overview, Waiting, check_account, check_names
from .one_time import OneTimeCodes
from .registry import CANDIDATE_LIFETIME, AuditEntry, Candidate, EnrolledKey, KeyRegistry
from .tries import AddressTries

Registration = Literal["invited", "open", "operator"]

_INVITATION_LIFETIME = 7 * 86400.0  # seconds
_NONCE_SIZE = 16  # bytes

_MOST_KEYS = 256  # of one account, without those that are revoked
_MOST_WAITING = 20  # candidates of one account
_RECENT = 30 * 86400.0  # seconds for which a recovery is shown to the account's other keys

# Keys that an address may propose or register in so many seconds, at all and for one account: fewer than may
# wait, so that one address cannot keep all places of an account.
_WINDOW = 600.0
_PROPOSED = 20
_PROPOSED_TO_ONE = 4

_RENEWED = 3  # times in so many seconds that an account has recovery codes made: they take long to hash


class Enrolment:
    """Enrol keys, approve and revoke them, by the rules.

    Args:
        registry: Where accounts and keys are kept.
        registration: How an account gets its first key: ``invited``, by an invitation; ``open``, also by
            asking for a free name; ``operator``, from the operator alone, and invitations are not taken.
        invitation_lifetime: Seconds an invitation is good for.

    Raises:
        ArgumentError: If the registration is unknown, or the lifetime is not positive and finite.
    """

    def __init__(
        self,
        registry: KeyRegistry,
        *,
        registration: Registration = "invited",
        invitation_lifetime: float = _INVITATION_LIFETIME,
        _clock: Callable[[], float] = time.time,
        _monotonic: Callable[[], float] = time.monotonic,
        _randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if registration not in get_args(Registration):
            raise ArgumentError(f"registration is invited, open or operator, not {registration!r}")
        if not 0 < invitation_lifetime < math.inf:
            raise ArgumentError("invitation_lifetime is positive and finite")
        self.registry = registry
        self._registration = registration
        self._lifetime = invitation_lifetime
        self._clock = _clock
        self._randomness = _randomness
        self._step = InRegistryThread if getattr(registry, "blocks", True) else Here
        self._codes = OneTimeCodes(
            registry,
            self._step,
            takes_invitations=registration != "operator",
            clock=_clock,
            monotonic=_monotonic,
            randomness=_randomness,
        )
        self._proposed = AddressTries("keys", _PROPOSED, _WINDOW, clock=_monotonic)
        self._proposed_to_one = AddressTries("keys", _PROPOSED_TO_ONE, _WINDOW, clock=_monotonic)
        self._renewed = AddressTries("recovery codes", _RENEWED, _WINDOW, clock=_monotonic)

    def add(self, account: str, key: PublicKey, label: str) -> EnrolledKey:
        """Enrol a key in the operator's name, without recovery codes: the key can have them made.

        Args:
            account: The account; it is made where it is not there.
            key: The key.
            label: What its owner calls it.

        Returns:
            The key as it is kept.

        Raises:
            EnrolmentError: If the name or label cannot be used, or the key was enrolled before.
            StoreUnavailableError: If the registry cannot be reached.
        """
        check_names(account, label)
        enrolled = EnrolledKey(key.thumbprint, account, key.jwk, label, self._clock())
        self.registry.enrol(enrolled, what="key added", by="operator")
        return enrolled

    def invite(self, account: str) -> str:
        """Make an invitation: a code that enrols one key of the account.

        Args:
            account: The account; it is made with its first key, where it is not there.

        Returns:
            The code. It is kept nowhere, and cannot be shown again.

        Raises:
            EnrolmentError: If the name cannot be used, or invitations are not taken.
            StoreUnavailableError: If the registry cannot be reached.
        """
        check_account(account)
        if self._registration == "operator":
            raise EnrolmentError("no invitations are taken here: add the key", reason="not invited")
        text, code = self._codes.invitation(account, self._lifetime)
        self.registry.store_codes([code], what="invitation made", by="operator")
        return text

    def revoke(self, thumbprint: str) -> bool:
        """Revoke a key in the operator's name, also the last one of an account.

        Args:
            thumbprint: The key's thumbprint.

        Returns:
            False where there is no such key, or it was revoked before.

        Raises:
            StoreUnavailableError: If the registry cannot be reached.
        """
        key = self.registry.find(thumbprint)
        return key is not None and self.registry.revoke(
            thumbprint, account=key.account, now=self._clock(), by="operator"
        )

    def start(self) -> Steps[None]:
        """Check that the registry can serve."""
        yield from started(self.registry)

    def enrol(self, asked: Enrolling, asker: Asker) -> Steps[Enrolled | Waiting]:
        """Enrol a key, or let it wait for its approval.

        Args:
            asked: What is asked.
            asker: Who asks: the key itself.

        Returns:
            What became of it. Where registration is not open, that says nothing of whether the account
            exists.

        Raises:
            EnrolmentError: If a rule is against it.
            RequestRejectedError: With status 429, if too much came from this address.
            OverloadedError: If too many codes wait to be hashed.
        """
        check_names(asked.account, asked.label)
        if (yield self._step(lambda: self.registry.find(asked.key.thumbprint))) is not None:
            raise EnrolmentError(
                "this key is enrolled, or was: a key is enrolled once", reason="key enrolled"
            )
        if asked.nonce:
            return (yield from self._enrol_approved(asked))
        if asked.invitation:
            name = yield from self._codes.check(asked.invitation, "invitation", asked.account, asker)
            by = f"invitation {name}"
            return (yield from self._enrol_by_code(asked, asker, "key invited", by, name))
        if asked.recovery_code:
            name = yield from self._codes.check(asked.recovery_code, "recovery", asked.account, asker)
            by = f"recovery code {name}"
            return (yield from self._enrol_by_code(asked, asker, "key recovered", by, name))
        self._proposed_to_one.begin(asker.peer, asked.account)
        self._proposed.begin(asker.peer)
        if self._registration == "open":
            registered = yield from self._register(asked, asker)
            if registered is not None:
                return registered
        return (yield from self._propose(asked))

    def approve(self, account: str, thumbprint: str, label: str, nonce: str, asker: Asker) -> Steps[None]:
        """Approve a candidate.

        Args:
            account: The account.
            thumbprint: The candidate's thumbprint.
            label: Its label.
            nonce: Its nonce.
            asker: Who approves: a key of the account.

        Raises:
            EnrolmentError: If no such candidate waits.
        """
        now, by = self._clock(), asker.thumbprint

        def approve() -> bool:
            return self.registry.approve(
                thumbprint, account=account, nonce=nonce, label=label, by=by, now=now
            )

        if not (yield self._step(approve)):
            raise EnrolmentError(
                "no such key waits for approval: it differs, has expired or was approved before",
                reason="no candidate",
            )

    def revoke_one(self, account: str, thumbprint: str, asker: Asker) -> Steps[None]:
        """Revoke a key of the asker's account, its own too.

        The last key can be revoked only while recovery codes are left: they are the way back. The last two
        keys that each revoke themselves at the same moment may both go; then the operator is the way back.

        Args:
            account: The account.
            thumbprint: The key's thumbprint.
            asker: Who revokes: a key of the account.

        Raises:
            EnrolmentError: If there is no such key, or it is the last one and no recovery code is left.
        """
        now = self._clock()

        def revoke() -> None:
            good = {key.thumbprint for key in self.registry.keys(account) if key.revoked is None}
            if good == {thumbprint} and not self._codes.recovery_left(account):
                raise EnrolmentError(
                    "this is the account's last key, and no recovery code is left: make new ones first",
                    reason="last key",
                )
            if thumbprint not in good or not self.registry.revoke(
                thumbprint, account=account, now=now, by=asker.thumbprint
            ):
                raise EnrolmentError("the account has no such key, or it was revoked", reason="no such key")

        yield self._step(revoke)

    def renew_recovery_codes(self, account: str, asker: Asker) -> Steps[Sequence[str]]:
        """Make ten recovery codes, which replace those that are left.

        Args:
            account: The account.
            asker: Who asks: a key of the account.

        Returns:
            The codes. They are kept nowhere, and cannot be shown again.

        Raises:
            EnrolmentError: If the asker's key was revoked meanwhile.
            RequestRejectedError: With status 429, after three times in ten minutes.
            OverloadedError: If too many codes wait to be hashed.
        """
        self._renewed.begin("any", account)  # wherever it comes from
        try:
            texts, codes = yield from self._codes.recovery_codes(account, asker)
        except OverloadedError:  # none was made
            self._renewed.forgive("any", account)
            raise
        by = asker.thumbprint
        yield self._step(lambda: self.registry.store_codes(codes, what="recovery codes made", by=by))
        return texts

    def overview(self, account: str) -> Steps[Overview]:
        """Show the keys of an account.

        Args:
            account: The account.

        Returns:
            The keys.
        """
        since = self._clock() - _RECENT

        def look() -> Overview:
            keys = self.registry.keys(account)
            codes = self.registry.codes(account, "recovery")
            used = {code.used for code in codes if code.used is not None and code.used >= since}
            # A code is used in the moment in which its key is added.
            recoveries = [key for key in keys if key.added in used]
            return Overview(keys, self._codes.recovery_left(account), recoveries)

        overview: Overview = yield self._step(look)
        return overview

    def candidates(self, account: str) -> Steps[Sequence[Waiting]]:
        """Show what waits for approval by a key of an account.

        Args:
            account: The account.

        Returns:
            The candidates that are not approved yet, oldest first.
        """
        now = self._clock()
        found: Sequence[Candidate] = yield self._step(lambda: self.registry.candidates(account, now))
        return [Waiting(one, one.expires - now) for one in found if not one.approved_by]

    def audit(self, account: str, after: int) -> Steps[Sequence[AuditEntry]]:
        """Show the next entries of an account's audit trail, a hundred at most.

        Args:
            account: The account.
            after: Number of the last entry that is not wanted.

        Returns:
            The entries, oldest first.
        """
        entries: Sequence[AuditEntry] = yield self._step(lambda: self.registry.audit(account, after=after))
        return entries

    def _enrol_approved(self, asked: Enrolling) -> Steps[Enrolled | Waiting]:
        """Enrol a candidate that was approved; one that was not goes on waiting."""
        now = self._clock()
        candidate: Candidate | None = yield self._step(
            lambda: self.registry.find_candidate(asked.key.thumbprint, now)
        )
        if candidate is None or not _is_same(candidate, asked):
            raise EnrolmentError(
                "no such key waits for approval: it has expired, or account, label or nonce differ. "
                "Ask again without a nonce",
                reason="not approved",
            )
        if not candidate.approved_by:
            return Waiting(candidate, candidate.expires - now)
        key, _ = yield from self._new_key(asked)
        by, nonce = candidate.approved_by, candidate.nonce
        yield self._step(lambda: self.registry.enrol(key, what="key enrolled", by=by, nonce=nonce))
        return Enrolled(key)

    def _enrol_by_code(
        self, asked: Enrolling, asker: Asker, what: str, by: str, code: str
    ) -> Steps[Enrolled]:
        key, is_first = yield from self._new_key(asked)
        enrolled = (yield from self._enrol_first(key, asker, what, by, code)) if is_first else None
        if enrolled is None:
            yield self._step(lambda: self.registry.enrol(key, what=what, by=by, code=code))
            enrolled = Enrolled(key)
        return enrolled

    def _register(self, asked: Enrolling, asker: Asker) -> Steps[Enrolled | None]:
        """Enrol the first key of an account name that is nobody's, not even of somebody who was invited."""
        account = asked.account
        if (yield self._step(lambda: self.registry.keys(account) or self._codes.is_invited(account))):
            return None
        return (yield from self._enrol_first(self._row(asked), asker, "key registered", "anyone"))

    def _enrol_first(
        self, key: EnrolledKey, asker: Asker, what: str, by: str, code: str = ""
    ) -> Steps[Enrolled | None]:
        """Enrol the first key of an account, with recovery codes; None where it is not the first any more."""
        texts, codes = yield from self._codes.recovery_codes(key.account, asker)
        try:
            yield self._step(
                lambda: self.registry.enrol(key, what=what, by=by, founds=True, code=code, codes=codes)
            )
        except EnrolmentError as error:
            if error.reason != "account taken":
                raise
            return None
        return Enrolled(key, texts)

    def _new_key(self, asked: Enrolling) -> Steps[tuple[EnrolledKey, bool]]:
        """Make the row of a key, and say whether the account has none yet."""
        keys: Sequence[EnrolledKey] = yield self._step(lambda: self.registry.keys(asked.account))
        if sum(key.revoked is None for key in keys) >= _MOST_KEYS:
            raise EnrolmentError(f"an account has {_MOST_KEYS} keys at most", reason="too many keys")
        return self._row(asked), not keys

    def _row(self, asked: Enrolling) -> EnrolledKey:
        return EnrolledKey(asked.key.thumbprint, asked.account, asked.key.jwk, asked.label, self._clock())

    def _propose(self, asked: Enrolling) -> Steps[Waiting]:
        nonce = base64.urlsafe_b64encode(self._randomness(_NONCE_SIZE)).rstrip(b"=").decode("ascii")
        expires = self._clock() + CANDIDATE_LIFETIME
        key = asked.key
        candidate = Candidate(key.thumbprint, asked.account, key.jwk, asked.label, nonce, expires)
        yield self._step(lambda: self.registry.propose(candidate, most=_MOST_WAITING))
        return Waiting(candidate, CANDIDATE_LIFETIME)


def _is_same(candidate: Candidate, asked: Enrolling) -> bool:
    facts = (candidate.account, candidate.label, candidate.jwk)
    nonces = (nonce.encode("utf-8", "surrogatepass") for nonce in (candidate.nonce, asked.nonce))
    return facts == (asked.account, asked.label, asked.key.jwk) and hmac.compare_digest(*nonces)
