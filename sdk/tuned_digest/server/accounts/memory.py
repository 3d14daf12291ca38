"""The keys of accounts in the memory of one process, for tests and trials."""

from __future__ import annotations

__all__ = ["MemoryKeyRegistry"]

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..._runtime.forks import PerProcess
from ...errors import ArgumentError
from ..stores._alone import PATIENCE, require_alone
from ._checks import check_approved, check_storable, check_unused, refusal
from .registry import (
    CANDIDATE_LIFETIME,
    MOST_CANDIDATES,
    MOST_ENTRIES,
    USE_INTERVAL,
    AuditEntry,
    Candidate,
    Code,
    EnrolledKey,
)


class MemoryKeyRegistry:
    """Keep the keys of accounts in this process: a restart forgets them all.

    A forked child has what its parent had then, and neither learns what the other does later.
    """

    blocks = False

    def __init__(self) -> None:
        self._accounts: set[str] = set()
        self._keys: dict[str, EnrolledKey] = {}
        self._codes: dict[str, Code] = {}
        self._candidates: dict[str, Candidate] = {}
        self._audit: list[AuditEntry] = []
        self._lock = PerProcess(threading.RLock)

    def start(self) -> None:
        """Refuse to serve beside other workers of the same server, as far as the system tells.

        Raises:
            ArgumentError: If there are others: they would not notice that a key is revoked.
        """
        try:
            require_alone(type(self).__name__, patience=PATIENCE)
        except ArgumentError:
            raise ArgumentError(
                "this server runs more than one worker process, and MemoryKeyRegistry serves only one: run "
                "one worker, or use SQLKeyRegistry"
            ) from None

    def find(self, thumbprint: str, /) -> EnrolledKey | None:
        """Find a key; see `KeyRegistry.find`."""
        return self._keys.get(thumbprint)

    def note_use(self, thumbprint: str, now: float, /) -> None:
        """Note that a key was used; see `KeyRegistry.note_use`."""
        with self._lock.get():
            key = self._keys.get(thumbprint)
            if key is not None and (key.last_used is None or key.last_used <= now - USE_INTERVAL):
                self._keys[thumbprint] = replace(key, last_used=now)

    def keys(self, account: str | None = None, /) -> Sequence[EnrolledKey]:
        """Give the keys of an account; see `KeyRegistry.keys`."""
        with self._lock.get():
            keys = [key for key in self._keys.values() if account in {None, key.account}]
        return sorted(keys, key=lambda key: (key.added, key.thumbprint))

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
        """Enrol a key; see `KeyRegistry.enrol`."""
        check_storable(key, *codes, AuditEntry(0, key.added, key.account, what, key.thumbprint, by))
        with self._lock.get():
            if founds and key.account in self._accounts:
                raise refusal("account taken")
            if key.thumbprint in self._keys:
                raise refusal("key enrolled")
            if code:
                check_unused(self._codes.get(code), key)
            if nonce:
                check_approved(self._candidates.get(key.thumbprint), key, nonce)
            self._check_names(codes)
            self._accounts.add(key.account)
            self._keys[key.thumbprint] = key
            self._candidates.pop(key.thumbprint, None)
            if code:
                self._codes[code] = replace(self._codes[code], used=key.added)
            self._note(key.added, key.account, what, key.thumbprint, by, key.label)
            if codes:
                self._keep(codes)
                self._note(key.added, key.account, "recovery codes made", key.thumbprint, by, key.label)

    def revoke(self, thumbprint: str, *, account: str, now: float, by: str) -> bool:
        """Revoke a key; see `KeyRegistry.revoke`."""
        check_storable(AuditEntry(0, now, "", "", "", by))
        with self._lock.get():
            key = self._keys.get(thumbprint)
            if key is None or key.account != account or key.revoked is not None or self._was_revoked(by):
                return False
            self._keys[thumbprint] = replace(key, revoked=now)
            for candidate in list(self._candidates.values()):
                if candidate.approved_by == thumbprint:
                    del self._candidates[candidate.thumbprint]
            self._note(now, account, "key revoked", thumbprint, by, key.label)
            return True

    def store_codes(self, codes: Sequence[Code], *, what: str, by: str) -> None:
        """Keep codes; see `KeyRegistry.store_codes`."""
        if not codes:
            return
        check_storable(*codes, AuditEntry(0, 0, "", what, "", by))
        with self._lock.get():
            if self._was_revoked(by):
                raise refusal("key revoked")
            self._check_names(codes)
            self._keep(codes)
            self._note(codes[0].added, codes[0].account, what, "", by)

    def find_code(self, name: str, /) -> Code | None:
        """Find a code; see `KeyRegistry.find_code`."""
        return self._codes.get(name)

    def count_try(self, name: str, /) -> int:
        """Count a wrong secret; see `KeyRegistry.count_try`."""
        with self._lock.get():
            code = self._codes.get(name)
            if code is None:
                return 0
            self._codes[name] = replace(code, tries=code.tries + 1)
            return code.tries + 1

    def codes(self, account: str, kind: str, /) -> Sequence[Code]:
        """Give the codes of an account; see `KeyRegistry.codes`."""
        with self._lock.get():
            codes = [code for code in self._codes.values() if (code.account, code.kind) == (account, kind)]
        return sorted(codes, key=lambda code: (code.added, code.name))

    def propose(self, candidate: Candidate, *, most: int) -> None:
        """Keep a candidate; see `KeyRegistry.propose`."""
        check_storable(candidate)
        with self._lock.get():
            others = {
                other.thumbprint: other
                for other in self._candidates.values()
                if other.expires > candidate.expires - CANDIDATE_LIFETIME
                and other.thumbprint != candidate.thumbprint
            }
            own = [other for other in others.values() if other.account == candidate.account]
            if len(own) >= most or len(others) >= MOST_CANDIDATES:
                raise refusal("too many candidates")
            self._candidates = {**others, candidate.thumbprint: candidate}

    def candidates(self, account: str, now: float, /) -> Sequence[Candidate]:
        """Give the candidates of an account; see `KeyRegistry.candidates`."""
        with self._lock.get():
            found = [one for one in self._candidates.values() if one.account == account and one.expires > now]
        return sorted(found, key=lambda one: (one.expires, one.thumbprint))

    def find_candidate(self, thumbprint: str, now: float, /) -> Candidate | None:
        """Find a candidate; see `KeyRegistry.find_candidate`."""
        candidate = self._candidates.get(thumbprint)
        return candidate if candidate is not None and candidate.expires > now else None

    def approve(self, thumbprint: str, *, account: str, nonce: str, label: str, by: str, now: float) -> bool:
        """Approve a candidate; see `KeyRegistry.approve`."""
        check_storable(AuditEntry(0, now, "", "", "", by))
        with self._lock.get():
            candidate = self.find_candidate(thumbprint, now)
            if (
                candidate is None
                or (candidate.account, candidate.nonce, candidate.label) != (account, nonce, label)
                or candidate.approved_by
                or self._was_revoked(by)
            ):
                return False
            self._candidates[thumbprint] = replace(candidate, approved_by=by)
            self._note(now, account, "key approved", thumbprint, by, label)
            return True

    def audit(
        self, account: str | None = None, /, *, after: int = 0, limit: int = 100
    ) -> Sequence[AuditEntry]:
        """Give entries of the audit trail; see `KeyRegistry.audit`."""
        with self._lock.get():
            later = self._audit[max(after, 0) :]  # the first entry is number 1
        entries = [entry for entry in later if account in {None, entry.account}]
        return entries[: max(0, min(limit, MOST_ENTRIES))]

    def _was_revoked(self, by: str) -> bool:
        key = self._keys.get(by)
        return key is not None and key.revoked is not None

    def _check_names(self, codes: Iterable[Code]) -> None:
        names = [code.name for code in codes]
        if len({*names}) < len(names) or not self._codes.keys().isdisjoint(names):
            raise refusal("code taken")

    def _keep(self, codes: Sequence[Code]) -> None:
        replaced = {code.account for code in codes if code.kind == "recovery"}
        for code in list(self._codes.values()):
            if code.kind == "recovery" and code.used is None and code.account in replaced:
                del self._codes[code.name]
        self._codes.update({code.name: code for code in codes})

    def _note(self, time: float, account: str, what: str, thumbprint: str, by: str, label: str = "") -> None:
        number = len(self._audit) + 1
        self._audit.append(AuditEntry(number, time, account, what, thumbprint, by, label))
