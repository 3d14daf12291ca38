"""Self-signed tokens made by joserfc, and the verifier that they are shown, driven by hand."""

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tuned_digest._tokens.reading import content_digest
from tuned_digest.errors import RequestRejectedError, TokenError
from tuned_digest.keys import PublicKey
from tuned_digest.server import Caller, EnrolledKey, IncomingRequest, MemoryKeyRegistry, TokenVerifier
from tuned_digest.server.refusals import refused

from .clock import Clock
from .driving import perform

AUDIENCE = "https://api.example.com"
NOW = 1_764_100_000.0
ACCOUNT = "acme-42"

_KINDS: dict[str, Callable[[], Any]] = {
    "Ed25519": lambda: OKPKey.generate_key("Ed25519"),
    "ES256": lambda: ECKey.generate_key("P-256"),
    "ES384": lambda: ECKey.generate_key("P-384"),
    "RS256": lambda: RSAKey.generate_key(2048),
    "PS256": lambda: RSAKey.generate_key(2048),
}


def vectors() -> Any:
    """Read the known answers of tokens.md."""
    return json.loads(Path(__file__).with_name("tokens_vectors.json").read_text())


def new_clock() -> Clock:
    """Make a clock that stands at `NOW`."""
    clock = Clock()
    clock.now = NOW
    return clock


@dataclass
class Holder:
    """Somebody who holds a private key, and signs whatever a test wants."""

    algorithm: str = "Ed25519"
    account: str = ACCOUNT
    private: Any = None

    def __post_init__(self) -> None:
        """Make a key."""
        self.private = self.private or _KINDS[self.algorithm]()
        public = {**self.private.as_dict(private=False), "alg": self.algorithm}
        self.public = PublicKey.from_jwk({name: public[name] for name in public if name != "kid"})

    @property
    def enrolled(self) -> EnrolledKey:
        """The row of this key."""
        return EnrolledKey(self.public.thumbprint, self.account, self.public.jwk, "laptop", NOW - 1000)

    def header(self) -> dict[str, Any]:
        """Give the header of a good token."""
        return {"alg": self.algorithm, "typ": "JWT", "kid": self.public.thumbprint}

    def claims(
        self,
        target: str = "/a",
        method: str = "GET",
        body: bytes = b"",
        *,
        now: float = NOW,
        jti: str = "once",
    ) -> dict[str, Any]:
        """Give the claims of a good token that is bound to a request."""
        path, _, query = target.partition("?")
        return {
            "iss": self.account,
            "sub": self.account,
            "aud": AUDIENCE,
            "iat": int(now) - 5,
            "exp": int(now) + 55,
            "jti": jti,
            "htm": method,
            "htu": AUDIENCE + path,
            "content_digest": content_digest(hashlib.sha256(body).digest()),
            **({"query": query} if query else {}),
        }

    def sign(self, claims: Mapping[str, Any] | bytes, header: Mapping[str, Any] | None = None) -> str:
        """Sign claims, or any bytes, under a header."""
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        registry = jws.JWSRegistry(algorithms=list(_KINDS), strict_check_header=False)
        registry.max_header_length = registry.max_payload_length = 2**20
        return jws.serialize_compact(
            dict(self.header() if header is None else header), payload, self.private, registry=registry
        )

    def sign_octets(self, header: bytes, payload: bytes) -> str:
        """Sign a header that no library would write."""
        text = f"{encoded(header)}.{encoded(payload)}"
        model = jws.JWSRegistry.algorithms[self.algorithm]
        return f"{text}.{encoded(model.sign(text.encode(), self.private))}"

    def authorization(self, *arguments: Any, **options: Any) -> str:
        """Write the field of a good request."""
        return f"Bearer {self.sign(self.claims(*arguments, **options))}"


def encoded(octets: bytes) -> str:
    """Write a part of a token."""
    return urlsafe_b64encode(octets).rstrip(b"=").decode()


class CountedRegistry(MemoryKeyRegistry):
    """A registry that notes what it is asked."""

    blocks = False

    def __init__(self, *holders: Holder) -> None:
        super().__init__()
        self.story: list[str] = []
        for holder in holders:
            self.add(holder)

    def add(self, holder: Holder) -> None:
        """Enrol a key."""
        self.enrol(holder.enrolled, what="key added", by="operator")

    def find(self, thumbprint: str, /) -> EnrolledKey | None:
        """Find a key."""
        self.story.append("find")
        return super().find(thumbprint)

    def note_use(self, thumbprint: str, now: float, /) -> None:
        """Note a use."""
        self.story.append("note")
        super().note_use(thumbprint, now)


@dataclass
class SpentSet:
    """The smallest store of used tokens."""

    story: list[str]
    epoch: str = "first"
    spent: dict[str, float] = field(default_factory=dict)
    problem: Exception | None = None
    blocks = False

    def spend(self, name: str, seconds: float, /) -> str | None:
        """Spend a name."""
        self.story.append("spend")
        if self.problem is not None:
            raise self.problem
        if name in self.spent:
            return None
        self.spent[name] = seconds
        return self.epoch


class TokenServer:
    """A token verifier, its registry and store, and what they are asked.

    Args:
        holders: Whose keys are enrolled.
        options: What else the verifier is told.
    """

    def __init__(self, *holders: Holder, limit: int = 1024, **options: Any) -> None:
        self.registry = CountedRegistry(*holders)
        self.story = self.registry.story
        """What was done, in order: ``find``, ``read`` the body, ``spend``, ``note``."""
        self.clock = new_clock()
        self.store = SpentSet(self.story)
        self.limit = limit
        told: dict[str, Any] = {"single_use": self.store, "_clock": self.clock, **options}
        audience = told.pop("audience", AUDIENCE)
        self.verifier = TokenVerifier(told.pop("registry", self.registry), audience, **told)

    def verify(
        self,
        method: str,
        target: str,
        authorization: str | Sequence[str],
        body: bytes = b"",
        *,
        seconds: float = 0,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> Caller:
        """Verify one request; its body takes some seconds to come, in which something else is done."""

        def read() -> bytes:
            self.story.append("read")
            self.clock.now += seconds
            meanwhile()
            if len(body) > self.limit:
                raise refused(413, "the body is larger than this server takes", "body too large")
            return self.verifier.new_digest(body).digest()

        path, _, query = target.partition("?")
        values = [authorization] if isinstance(authorization, str) else authorization
        request = IncomingRequest(method, path, query, [("Authorization", value) for value in values])
        return perform(self.verifier.verify(request, read))

    def outcome(self, *arguments: Any, **options: Any) -> "Caller | Refusal":
        """Verify one request, and give what came of it."""
        try:
            return self.verify(*arguments, **options)
        except RequestRejectedError as rejection:
            return Refusal(rejection)

    def refusal(self, *arguments: Any, **options: Any) -> "Refusal":
        """Verify one request that is to be refused."""
        outcome = self.outcome(*arguments, **options)
        assert isinstance(outcome, Refusal), f"{outcome} was let through"
        return outcome


class Refusal:
    """A refusal, as a client sees it and as the server's log does."""

    def __init__(self, rejection: RequestRejectedError) -> None:
        self.status = rejection.status
        self.fields = rejection.fields
        self.body = rejection.body
        self.reason = rejection.reason
        self.seen = (rejection.status, rejection.fields, rejection.body)
        """All that a client sees."""
        cause = rejection.__cause__
        self.step = cause.step if isinstance(cause, TokenError) else 0

    @property
    def challenge(self) -> str:
        """The challenge."""
        (value,) = [value for name, value in self.fields if name == "WWW-Authenticate"]
        return value
