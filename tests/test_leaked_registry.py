"""Whoever has a copy of the key registry can sign nothing, enrol nothing and approve nothing."""

import hmac
import re
import sqlite3
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from tuned_digest import Ed25519Signer
from tuned_digest.server import MemoryNonceStore
from tuned_digest.server.accounts.application import Accounts
from tuned_digest.server.accounts.enrolment import Enrolment
from tuned_digest.server.accounts.sql import SQLKeyRegistry

from .enrolling import ORIGIN, Device, in_memory, new_clock, quick_hashes
from .tokens import encoded


@dataclass
class Leak:
    """A service, and what a thief has read of it."""

    accounts: Accounts
    owner: Device
    waiting: Device
    secrets: list[str]
    """What the owner and the operator hold, and the registry must not."""

    copy: bytes
    """The file, with its log."""

    texts: list[str]
    """Every text in every table."""

    def thief(self, **changes: Any) -> Device:
        """Somebody who has the copy, and a way to the server of their own."""
        return Device(in_memory(self.accounts, peer="203.0.113.9"), **changes)


@pytest.fixture
def leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Leak]:
    """A registry in which everything is kept that it can keep, and a copy of it."""
    quick_hashes(monkeypatch)
    clock = new_clock()
    registry = SQLKeyRegistry(tmp_path / "accounts.db")
    enrolment = Enrolment(registry, _clock=clock, _monotonic=clock)
    accounts = Accounts(enrolment, ORIGIN, single_use=MemoryNonceStore(), _clock=clock)
    call = in_memory(accounts)
    owner, waiting = Device(call), Device(call, label="phone")
    invitation = enrolment.invite("acme")
    codes = owner.enrol(invitation=invitation).json["recovery_codes"]
    unused = enrolment.invite("acme")
    assert waiting.enrol().status == 202
    copy = b"".join(file.read_bytes() for file in sorted(tmp_path.glob("accounts.db*")))
    with sqlite3.connect(tmp_path / "accounts.db") as connection:
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for table in tables for row in connection.execute(f"SELECT * FROM {table}")]
    connection.close()
    texts = sorted({value for row in rows for value in row if isinstance(value, str) and value})
    secrets = [*codes, unused, *(device.key.as_dict(private=True)["d"] for device in (owner, waiting))]
    yield Leak(accounts, owner, waiting, secrets, copy, texts)
    registry.close()


def test_holds_no_secret(leak: Leak) -> None:
    """Neither a private key nor a code stands in the file, in any spelling."""
    for secret in leak.secrets:
        bare = secret.replace("-", "")
        for spelling in (secret, bare, bare.lower(), bare[-16:]):
            assert spelling.encode() not in leak.copy
    for device in (leak.owner, leak.waiting):
        assert urlsafe_b64decode(device.key.as_dict(private=True)["d"] + "=") not in leak.copy
        assert device.public.jwk.encode() in leak.copy  # it would be found, were it there


def test_signs_nothing(leak: Leak) -> None:
    """No text of the registry is a secret that signs for a key, and no public key is a private one."""
    owner = leak.owner
    header = encoded(b'{"alg":"%b","kid":"' + owner.thumbprint.encode() + b'"}')
    raw = urlsafe_b64decode(owner.jwk["x"] + "=")
    for secret in [*(text.encode() for text in leak.texts), raw]:
        claims = owner.token("GET", "/keys", b"").split(".")[1]
        for algorithm in (b"HS256", b"Ed25519"):
            signed = f"{encoded(urlsafe_b64decode(header + '==').replace(b'%b', algorithm))}.{claims}"
            signature = encoded(hmac.digest(secret, signed.encode(), "sha256"))
            fields = {"Authorization": f"Bearer {signed}.{signature}"}
            assert leak.thief().call("GET", "/keys", b"", fields).status == 401
        seed = Ed25519Signer.from_seed(raw if secret is raw else sha256(secret).digest())
        forged = leak.thief(key=OKPKey.import_key(seed.to_pem()), named=owner.thumbprint)
        assert forged.send("GET", "/keys").status == 401
    assert owner.send("GET", "/keys").status == 200


def test_enrols_nothing(leak: Leak) -> None:
    """No text of the registry is a code that enrols a key, and no nonce in it is good for another key."""
    for text in {part for whole in leak.texts for part in (whole, *re.split(r"[ $,]", whole)) if part}:
        for way in ("invitation", "recovery_code", "nonce"):
            tried = leak.thief().enrol(**{way: text})
            assert tried.status in {400, 403, 429}
            assert "recovery_codes" not in tried.json
    owned = leak.owner.send("GET", "/keys").json
    assert [key["thumbprint"] for key in owned["keys"]] == [leak.owner.thumbprint]


def test_takes_no_key_over(leak: Leak) -> None:
    """A public key of the registry is enrolled by nobody who does not hold it, nor approved by a stranger."""
    thief = leak.thief(account="thief", named=leak.waiting.thumbprint)
    assert thief.send("POST", "/keys", {**leak.waiting.asking(), "account": "thief"}).status == 401
    (nonce,) = [text for text in leak.texts if re.fullmatch(r"[A-Za-z0-9_-]{22}", text)]
    assert leak.thief().approve(leak.waiting, nonce).status == 401
    assert leak.waiting.enrol(nonce=nonce).status == 202  # it waits still, for the owner
    assert leak.owner.approve(leak.waiting, nonce).status == 204
    assert leak.waiting.enrol(nonce=nonce).status == 201
