"""What a device asks an accounts application, and the answers, checked: no server is believed blindly."""

from __future__ import annotations

__all__ = ["AccountClient", "Enrolled", "ListedKey", "Pending"]

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import EnrolmentError
from ..keys import Ed25519Signer, PrivateKeySigner, PublicKey
from .showing import shown, shown_fingerprint
from .signed_calls import SignedCalls

_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")  # RFC 7638, SHA-256
_CODE = re.compile(r"[0-9A-Z-]{1,64}")
_MOST_CODES = 100
_LONGEST_NONCE = 256  # characters
_LONGEST_WAIT = 600.0  # seconds that a key waits for approval: tokens.md section 3

_OTHER_CODES = {
    "invitation": "ask the operator for a new invitation",
    "recovery_code": "take another recovery code",
}
"""What to do when a code is refused, by its kind."""


@dataclass(frozen=True)
class Enrolled:
    """Say that this device's key is enrolled.

    Args:
        label: What the device is called.
        codes: The recovery codes that were made with it, if any.
        was_before: Whether it was enrolled before this was asked.
    """

    label: str
    codes: Sequence[str] = field(default=(), repr=False)
    was_before: bool = False


@dataclass(frozen=True)
class Pending:
    """Say that this device's key waits for approval.

    Args:
        nonce: The enrolment nonce.
        seconds: How long it waits.
    """

    nonce: str = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class ListedKey:
    """Hold a key of the account, or one that waits.

    Args:
        thumbprint: Its thumbprint.
        label: What its owner calls it, as the server has it.
        is_revoked: Whether it was revoked.
        nonce: The enrolment nonce of one that waits.
        seconds: How long it waits.
    """

    thumbprint: str
    label: str
    is_revoked: bool = False
    nonce: str = field(default="", repr=False)
    seconds: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Give its 16 characters, made here and not by the server."""
        return shown_fingerprint(self.thumbprint)

    @property
    def row(self) -> tuple[str, str]:
        """Give what is shown of it."""
        return self.fingerprint, shown(self.label)


class AccountClient:
    """Ask an accounts application for what a device can have done.

    Every method raises TunedDigestError where the server refuses, is away, or answers something else.

    Args:
        url: Where the application is mounted, as `checked_url` gives it.
        account: The account.
        signer: This device's key.

    Raises:
        IdentityError: If the key cannot be enrolled.
        MissingExtraError: If joserfc is not installed.
    """

    def __init__(self, url: str, account: str, signer: Ed25519Signer | PrivateKeySigner) -> None:
        self.url = url
        self.account = account
        self.key = PublicKey.of(signer)
        self._calls = SignedCalls(url, account, signer)

    def enrol(self, label: str, **way: str) -> Enrolled | Pending:
        """Ask for this device's key to be enrolled.

        Args:
            label: What the device is called.
            way: ``invitation``, ``recovery_code`` or ``nonce``; none of them to have it approved.

        Returns:
            What became of it.
        """
        content = {"account": self.account, "jwk": json.loads(self.key.jwk), "label": label, **way}
        try:
            reply = self._calls.send("POST", "/keys", content, wanted=(201, 202))
        except EnrolmentError as error:
            for kind in _OTHER_CODES.keys() & way.keys():
                if error.reason == "code refused":
                    raise EnrolmentError(f"{error}: {_OTHER_CODES[kind]}", reason=error.reason) from None
            own = self._own_key() if error.reason == "key enrolled" else None
            if own is None:
                raise
            return Enrolled(own.label, was_before=True)  # an answer was lost, or the command is run again
        if reply.members.get("thumbprint") != self.key.thumbprint:
            raise self._calls.unexpected()
        if reply.status == 201:
            return Enrolled(label, self._codes(reply.members.get("recovery_codes", [])))
        return Pending(self._nonce(reply.members), self._seconds(reply.members))

    def candidates(self) -> Sequence[ListedKey]:
        """List the keys that wait for approval."""
        reply = self._calls.send("GET", "/candidates", wanted=(200,))
        return self._keys(reply.members.get("candidates"), are_waiting=True)

    def approve(self, key: ListedKey) -> None:
        """Approve a key.

        Args:
            key: A key that waits.
        """
        content: dict[str, object] = {
            "account": self.account,
            "thumbprint": key.thumbprint,
            "label": key.label,
            "nonce": key.nonce,
        }
        self._calls.send("POST", "/approvals", content, wanted=(204,))

    def enrolled_keys(self) -> Sequence[ListedKey]:
        """List the keys of the account that are not revoked."""
        reply = self._calls.send("GET", "/keys", wanted=(200,))
        return [key for key in self._keys(reply.members.get("keys")) if not key.is_revoked]

    def revoke(self, key: ListedKey) -> None:
        """Revoke a key.

        Args:
            key: A key of the account.
        """
        self._calls.send("DELETE", f"/keys/{key.thumbprint}", wanted=(204,))

    def renew_recovery_codes(self) -> Sequence[str]:
        """Have recovery codes made, in place of those that are left."""
        reply = self._calls.send("POST", "/recovery-codes", wanted=(201,))
        return self._codes(reply.members.get("recovery_codes"))

    def _own_key(self) -> ListedKey | None:
        """Find this device's key, where it is one of the account, and good."""
        try:
            keys = self.enrolled_keys()
        except EnrolmentError:
            return None
        return next((key for key in keys if key.thumbprint == self.key.thumbprint), None)

    def _keys(self, found: object, *, are_waiting: bool = False) -> list[ListedKey]:
        if not isinstance(found, list):
            raise self._calls.unexpected()
        return [self._key(one, are_waiting) for one in found]

    def _key(self, found: object, is_waiting: bool) -> ListedKey:
        if not isinstance(found, dict):
            raise self._calls.unexpected()
        thumbprint, label = found.get("thumbprint"), found.get("label")
        if not isinstance(thumbprint, str) or not _THUMBPRINT.fullmatch(thumbprint):
            raise self._calls.unexpected()
        if not isinstance(label, str):
            raise self._calls.unexpected()
        if is_waiting:
            return ListedKey(thumbprint, label, nonce=self._nonce(found), seconds=self._seconds(found))
        return ListedKey(thumbprint, label, found.get("revoked") is not None)

    def _nonce(self, members: dict[str, Any]) -> str:
        nonce = members.get("nonce")
        if not isinstance(nonce, str) or not 0 < len(nonce) <= _LONGEST_NONCE:
            raise self._calls.unexpected()
        return nonce

    def _seconds(self, members: dict[str, Any]) -> float:
        seconds = members.get("expires_in")
        if not isinstance(seconds, int | float) or not seconds >= 0:
            raise self._calls.unexpected()
        return min(seconds, _LONGEST_WAIT)

    def _codes(self, found: object) -> Sequence[str]:
        if not isinstance(found, list) or len(found) > _MOST_CODES:
            raise self._calls.unexpected()
        if not all(isinstance(code, str) and _CODE.fullmatch(code) for code in found):
            raise self._calls.unexpected()
        return tuple(found)
