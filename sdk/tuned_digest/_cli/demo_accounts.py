"""The part of ``tuned-digest demo`` that shows accounts: one device lets another in, a token is used once."""

from __future__ import annotations

__all__ = ["show_accounts"]

from collections.abc import Callable

import httpx

from ..events import Report
from ..httpx import SelfSignedTokenAuth
from ..keys import Ed25519Signer
from .account_client import AccountClient, Enrolled, Pending
from .accounts import MOUNT

_ACCOUNT = "acme"
_PATH = "/blobs/welcome"
_TIMEOUT = 60  # seconds

_Say = Callable[[bool, str], None]  # whether it is as it should be, and what is seen


def show_accounts(url: str, say: _Say) -> None:
    """Enrol one device after the other, use a token twice, and revoke the second device's key.

    Args:
        url: Where a server listens that lets new accounts register.
        say: Prints what is seen.
    """
    signer = Ed25519Signer.generate()
    laptop = AccountClient(f"{url}{MOUNT}", _ACCOUNT, Ed25519Signer.generate())
    phone = AccountClient(f"{url}{MOUNT}", _ACCOUNT, signer)
    print(f"\nTwo devices of the account {_ACCOUNT}, and self-signed tokens")
    print("  the first key of the account, where registration is open")
    first = laptop.enrol("laptop")
    codes = len(first.codes) if isinstance(first, Enrolled) else 0
    say(codes > 0, f"enrolled: {laptop.key.fingerprint}, laptop; {codes} recovery codes")

    _enrol_by_other(phone, laptop, say)

    auth = SelfSignedTokenAuth(url, signer, account=_ACCOUNT)
    with httpx.Client(base_url=url, timeout=_TIMEOUT) as client:
        print(f"  the phone's token, signed by itself: GET {_PATH}")
        response = client.get(_PATH, auth=auth)
        report = response.extensions.get("tuned_digest")
        trips = report.round_trips if isinstance(report, Report) else 0
        say(response.status_code == 200 and trips == 1, f"{response.status_code}, no challenge, no work")

        print("  the same token once more, as someone who had recorded it would send it")
        replayed = client.get(_PATH, headers={"Authorization": response.request.headers["Authorization"]})
        say(_is_refusal(replayed, "used before"), _shown(replayed))

        print("  the laptop revokes the phone's key, and the phone signs a new token")
        laptop.revoke(next(key for key in laptop.enrolled_keys() if key.thumbprint == phone.key.thumbprint))
        revoked = client.get(_PATH, auth=auth)
        say(_is_refusal(revoked, ""), _shown(revoked))


def _enrol_by_other(phone: AccountClient, laptop: AccountClient, say: _Say) -> None:
    print("  the second key: the phone shows 16 characters, the laptop approves the key that has them")
    pending = phone.enrol("phone")
    waiting = [key for key in laptop.candidates() if key.fingerprint == phone.key.fingerprint]
    say(isinstance(pending, Pending) and len(waiting) == 1, f"waiting: {phone.key.fingerprint}, phone")
    for key in waiting:
        laptop.approve(key)
    second = phone.enrol("phone", nonce=pending.nonce) if isinstance(pending, Pending) else pending
    say(isinstance(second, Enrolled), f"enrolled: {phone.key.fingerprint}, phone")


def _is_refusal(response: httpx.Response, why: str) -> bool:
    return response.status_code == 401 and why in response.json()["reason"]


def _shown(response: httpx.Response) -> str:
    reason = response.json()["reason"] if response.status_code == 401 else "not refused"
    return f"{response.status_code}, {reason}"
