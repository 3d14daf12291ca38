"""Devices that hold a key and sign their requests to the accounts application, by joserfc alone."""

import hashlib
import json
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import argon2
import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from tuned_digest._runtime.drivers import run_blocking
from tuned_digest.keys import PublicKey
from tuned_digest.server.accounts import MemoryKeyRegistry, codes
from tuned_digest.server.accounts.application import Accounts
from tuned_digest.server.accounts.enrolment import Enrolment
from tuned_digest.server.incoming import IncomingRequest

from .clock import Clock

ORIGIN = "https://api.example.com"
"""What the server calls itself in tests, and its origin."""

NOW = 1_800_000_000.0
"""Seconds since 1970: when tests begin that have a clock of their own."""


def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hash secrets cheaply, in tests that are not about the hash."""
    quick = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    monkeypatch.setattr(codes, "_HASHER", quick)


def new_clock() -> Clock:
    """Make a clock that stands at `NOW`."""
    clock = Clock()
    clock.now = NOW
    return clock


def enrolment(clock: Clock | None = None, registry: Any = None, **options: Any) -> Enrolment:
    """Make the rules over a registry in memory."""
    told: dict[str, Any] = {"_clock": clock, "_monotonic": clock} if clock else {}
    return Enrolment(MemoryKeyRegistry() if registry is None else registry, **told, **options)


Call = Callable[[str, str, bytes, Mapping[str, str]], "Reply"]
"""Sends a request: method, path below the mount point and query, body and header fields."""


@dataclass
class Reply:
    """What a request was answered."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The content; None where there is none."""
        return json.loads(self.body) if self.body else None

    def field(self, name: str) -> str:
        """The value of a header field, empty where it is absent."""
        return ", ".join(value for key, value in self.fields if key.lower() == name.lower())


@dataclass
class Device:
    """A device: its key, its account, and the way to the server.

    Args:
        call: Sends its requests.
        account: Its account.
        label: What it is called.
        key: Its key.
        prefix: Where the application is mounted.
        clock: Gives seconds since 1970.
    """

    call: Call
    account: str = "acme"
    label: str = "laptop"
    key: Any = field(default_factory=lambda: OKPKey.generate_key("Ed25519", {"alg": "Ed25519"}))
    prefix: str = ""
    clock: Callable[[], float] = lambda: NOW
    audience: str = ORIGIN
    named: str = ""
    """The key that its tokens name, where that is another one."""

    @property
    def public(self) -> PublicKey:
        """Its public key."""
        return PublicKey.from_jwk(self.jwk)

    @property
    def thumbprint(self) -> str:
        """Its key's thumbprint."""
        thumbprint: str = self.key.thumbprint()
        return thumbprint

    @property
    def jwk(self) -> dict[str, Any]:
        """Its public JWK."""
        members: dict[str, Any] = self.key.as_dict(private=False)
        return {name: value for name, value in members.items() if name != "kid"}

    def token(self, method: str, path: str, body: bytes, **claims: Any) -> str:
        """Sign a token for a request; a claim that is None is left out."""
        algorithm = self.public.algorithm
        target, _, query = f"{ORIGIN}{self.prefix}{path}".partition("?")
        now = int(self.clock())
        made = {
            "iss": self.account,
            "sub": self.account,
            "aud": self.audience,
            "iat": now - 5,
            "exp": now + 60,
            "jti": secrets.token_urlsafe(16),
            "htm": method,
            "htu": target,
            "query": query or None,
            "content_digest": f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:",
            **claims,
        }
        header = {"alg": algorithm, "typ": "JWT", "kid": self.named or self.thumbprint}
        present = {name: value for name, value in made.items() if value is not None}
        return jwt.encode(header, present, self.key, algorithms=[algorithm])

    def send(self, method: str, path: str, content: object = None, **claims: Any) -> Reply:
        """Send a signed request, `content` as JSON or as the bytes it is."""
        body = content if isinstance(content, bytes) else b""
        fields = {}
        if content is not None and not isinstance(content, bytes):
            body = json.dumps(content).encode()
            fields["Content-Type"] = "application/json"
        fields["Authorization"] = f"Bearer {self.token(method, path, body, **claims)}"
        return self.call(method, path, body, fields)

    def asking(self, **more: Any) -> dict[str, Any]:
        """What it sends to have its key enrolled."""
        return {"account": self.account, "jwk": self.jwk, "label": self.label, **more}

    def enrol(self, **more: Any) -> Reply:
        """Ask for its key to be enrolled."""
        return self.send("POST", "/keys", self.asking(**more))

    def approve(self, other: "Device", nonce: str, /, **changes: Any) -> Reply:
        """Approve another device's key."""
        content = {
            "account": self.account,
            "thumbprint": other.thumbprint,
            "label": other.label,
            "nonce": nonce,
            **changes,
        }
        return self.send("POST", "/approvals", content)


def in_memory(accounts: Accounts, *, prefix: str = "", peer: str = "") -> Call:
    """Make the way to an application that no server serves."""

    def call(method: str, path: str, body: bytes, fields: Mapping[str, str]) -> Reply:
        below, _, query = path.partition("?")
        request = IncomingRequest(method, prefix + below, query, tuple(fields.items()), peer)
        answer = run_blocking(accounts.answer(request, unquote(below), body))
        return Reply(answer.status, list(answer.fields), answer.body)

    return call
