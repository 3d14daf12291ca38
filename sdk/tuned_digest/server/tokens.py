"""One request's way through the verification of its self-signed token, in the order of tokens.md section 2.

`TokenVerifier.verify` is a generator of steps, as `Verifier.verify` is. Nothing of a token is believed before
its signature has been checked. The body is read when all else holds, and then the token is spent.
"""

from __future__ import annotations

__all__ = ["TokenVerifier"]

import copy
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import TypeGuard
from urllib.parse import urlsplit

from .._runtime.steps import Here, Steps
from .._tokens.reading import (
    Claims,
    Expected,
    Token,
    check_binding,
    check_claims,
    check_digest,
    read_token,
    spent_name,
)
from .._wire.credentials import FIELD
from .._wire.origins import Origin
from .._wire.request import FieldValues
from ..errors import ArgumentError, IdentityError, RequestRejectedError, TokenError
from ..keys import PublicKey
from .accounts.lookups import BRIEF, KeyLookups
from .accounts.registry import EnrolledKey, KeyRegistry
from .counters import Counters, Decision, Tally
from .decoys import claims_of
from .effects import Gone, ReadBody, action_of
from .incoming import Caller, IncomingRequest, check_target
from .policy import Policy
from .refusals import Fields, bearer_field, challenged, refused
from .spending import Spending
from .stores import AsyncSpentStore, SpentStore

_LOG = logging.getLogger(__name__)

_SCHEME = "Bearer"  # RFC 6750 section 2.1
_LONGEST = 24 * 60 * 60  # seconds of a token's life: a store has to remember it so long


class TokenVerifier:
    """Verify requests that carry a token signed by the client, by one read of the key's row.

    Args:
        registry: Where keys are enrolled.
        audience: What the server calls itself in ``aud``: usually its origin.
        single_use: Where used tokens are remembered: any store with `spend`, sync or async. None accepts a
            token as often as it comes while it lives, and one without ``jti`` too. A store that begins again
            while this process runs, as Redis does after a restart, makes older tokens be refused. What a
            `MemoryNonceStore` knows ends with its process: a token that was used shortly before a restart is
            then good once more, as long as it lives.
        require_bound: Refuse tokens that are not bound to their request.
        max_lifetime: Seconds between a token's ``iat`` and ``exp`` at most.
        leeway: Seconds that a client's clock may be off, in either direction.
        origin: What the target URI in bound tokens begins with: the origin that clients use, and the part of
            the path, if any, that a proxy takes off. By default `audience`, where that is an origin.
        policy: Which action a request is; what it costs has no meaning here.
        realm: What refusals call the part of the server that is protected; by default `audience`.
        on_decision: Called with each decision; it must be quick.

    Raises:
        ArgumentError: If one of these cannot be used, or `origin` is needed.
        MissingExtraError: If joserfc is not installed.
    """

    new_digest = staticmethod(hashlib.sha256)
    """How bodies are digested (RFC 9530)."""

    schemes = (_SCHEME.lower(),)
    """The authentication schemes that it verifies, in lower case."""

    def __init__(
        self,
        registry: KeyRegistry,
        audience: str,
        *,
        single_use: SpentStore | AsyncSpentStore | None,
        require_bound: bool = True,
        max_lifetime: float = 300,
        leeway: float = 10,
        origin: str | None = None,
        policy: Policy | None = None,
        realm: str | None = None,
        on_decision: Callable[[Decision], None] | None = None,
        _clock: Callable[[], float] = time.time,
    ) -> None:
        if not _is_printable(audience):
            raise ArgumentError("audience is text of ASCII characters, such as https://api.example.com")
        if policy is not None and not isinstance(policy, Policy):
            raise ArgumentError("policy is a Policy: pass Policy(), an object")
        if realm is not None and not _is_printable(realm):
            raise ArgumentError("realm is text of ASCII characters")
        if on_decision is not None and not callable(on_decision):
            raise ArgumentError("on_decision is a function of a decision")
        if not 0 < max_lifetime <= _LONGEST or not 0 <= leeway <= _LONGEST:
            raise ArgumentError(
                f"max_lifetime is above 0 and leeway is not below, and both up to {_LONGEST} s"
            )
        self._keys = KeyLookups(registry)
        self._read_key: Callable[[str], PublicKey] = PublicKey.from_jwk
        self._spending = None if single_use is None else Spending(single_use, leeway=leeway, clock=_clock)
        self._audience = audience
        self._origin = _origin_of(audience if origin is None else origin, may_have_path=origin is not None)
        if not self._origin and (origin is not None or require_bound):
            raise ArgumentError(
                "origin is what URLs of clients begin with, as https://api.example.com: bound tokens need it"
            )
        self._require_bound = require_bound
        self._max_lifetime = max_lifetime
        self._leeway = leeway
        self._policy = policy or Policy()
        self._realm = audience if realm is None else realm
        self._tally = Tally(on_decision)
        self._clock = _clock

    def start(self) -> Steps[None]:
        """Check, when the application starts, that the registry and the store can serve.

        That one is unavailable now is logged, and no reason not to start.

        Raises:
            TunedDigestError: If one of them will not serve without somebody's help.
        """
        yield from self._keys.start()
        if self._spending is not None:
            yield from self._spending.start()

    def over(self, registry: KeyRegistry, read_key: Callable[[str], PublicKey]) -> TokenVerifier:
        """Make a verifier with other keys; settings, used tokens and counters are shared.

        Args:
            registry: Where the keys are.
            read_key: Reads the JWK of one.

        Returns:
            The verifier.
        """
        other = copy.copy(self)
        other._keys = KeyLookups(registry)
        other._read_key = read_key
        return other

    def counters(self) -> Counters:
        """Count what was done since this object was made, in this process; there are no nonces and no work.

        Returns:
            The counters.
        """
        return self._tally.counters(running=0, waiting=0, price=1.0)

    def verify(
        self, request: IncomingRequest, read_body: ReadBody, gone: Gone | None = None
    ) -> Steps[Caller]:
        """Verify one request.

        Args:
            request: The request.
            read_body: Reads and digests its body with SHA-256, called when all else holds.
            gone: Has no meaning here: nothing takes long.

        Returns:
            Who called.

        Raises:
            RequestRejectedError: If it is not accepted; it carries the response.
        """
        try:
            caller = yield from self._verified(request, read_body)
        except TokenError as error:
            _LOG.info("a token was refused at step %d: %s", error.step, error.reason)
            rejection = yield from self._refusal(request, error)
            self._tally.refuse(rejection.status, rejection.reason)
            raise rejection from error
        except RequestRejectedError as rejection:
            self._tally.refuse(rejection.status, rejection.reason)
            raise
        self._tally.accept(caller.action, caller.identity)
        return caller

    def grant_next(self, caller: Caller, status: int, fields: FieldValues) -> Steps[Fields]:
        """Grant nothing: a client signs its next token itself.

        Args:
            caller: Who called.
            status: The response's status code.
            fields: Its header fields.

        Returns:
            No header fields to add.
        """
        yield from ()
        return ()

    def _verified(self, request: IncomingRequest, read_body: ReadBody) -> Steps[Caller]:
        check_target(request)
        written = _written(request)
        if written is None:
            raise (yield from self._challenged(request))
        token = read_token(written)  # step 1
        enrolled, key, claims = yield from self._signed(token)
        now = self._clock()
        self._check(claims, enrolled, now)  # step 5
        is_bound = check_binding(claims, self._wanted(request), is_required=self._require_bound)  # step 6
        digest: bytes = yield Here(read_body)
        if is_bound:
            check_digest(claims, digest)
        if abs((later := self._clock()) - now) > BRIEF:
            # While the body came the key may have been revoked, and the token may have expired.
            enrolled, key, claims = yield from self._signed(token)
            self._check(claims, enrolled, later)
        if self._spending is not None:  # step 7
            name = spent_name(token, claims)
            yield from self._spending.spend(name, issued=claims["iat"], expires=claims["exp"])
        action = yield from action_of(self._policy, request)
        yield from self._keys.note_use(enrolled, self._clock())
        return Caller(key.identity or key.thumbprint, enrolled.account, action, _SCHEME)

    def _signed(self, token: Token) -> Steps[tuple[EnrolledKey, PublicKey, Claims]]:
        """Find the key, and check the signature (steps 2 to 4); no refusal tells the client which it was."""
        enrolled = yield from self._keys.find(token.kid)
        key = None
        if enrolled is None:
            reason = "unknown key"
        elif enrolled.revoked is not None:
            reason = "revoked key"
        else:
            key, reason = self._usable(enrolled), "unusable key"
        claims = claims_of(token, key, reason)
        assert enrolled is not None
        assert key is not None
        return enrolled, key, claims

    def _usable(self, enrolled: EnrolledKey) -> PublicKey | None:
        try:
            return self._read_key(enrolled.jwk)
        except IdentityError as error:
            _LOG.error("the key registry has a key that cannot be used, %s: %s", enrolled.thumbprint, error)
            return None

    def _check(self, claims: Claims, key: EnrolledKey, now: float) -> None:
        check_claims(claims, Expected(self._audience, key.account, now, self._leeway, self._max_lifetime))

    def _wanted(self, request: IncomingRequest) -> Mapping[str, str]:
        """Say what the claims of a bound token have to be; without an origin none are good."""
        wanted = {"htm": request.method}
        if self._origin:
            wanted["htu"] = self._origin + request.path
        if request.query:
            wanted["query"] = request.query
        return wanted

    def _challenged(self, request: IncomingRequest) -> Steps[RequestRejectedError]:
        action = yield from action_of(self._policy, request)
        return challenged("authorization required", action, (bearer_field(self._realm),))

    def _refusal(self, request: IncomingRequest, error: TokenError) -> Steps[RequestRejectedError]:
        """Say which check failed; log and counters alone say more (RFC 6750 section 3.1)."""
        message = str(error)
        if error.status == 400:
            field = bearer_field(self._realm, "invalid_request", message)
            return refused(400, message, error.reason, field)
        action = yield from action_of(self._policy, request)
        field = bearer_field(self._realm, "invalid_token", message)
        return challenged(message, action, (field,), counted_as=error.reason)


def _written(request: IncomingRequest) -> str | None:
    """Give the token that a request carries, None where it has no credentials of this scheme."""
    values = request.values(FIELD)
    if len(values) > 1:
        raise TokenError(
            "the request has several Authorization fields", step=1, status=400, reason="malformed token"
        )
    return _cut(values[0]) if values else None


def _cut(value: str) -> str | None:
    scheme, _, token = value.strip(" \t").partition(" ")
    return token.lstrip(" ") if scheme.lower() == _SCHEME.lower() else None


def _origin_of(text: object, *, may_have_path: bool) -> str:
    """Write the origin that a text is, and the path behind it; empty where it is none."""
    if not _is_printable(text):
        return ""
    try:
        origin = Origin.parse(text)
    except ArgumentError:
        return ""
    parts = urlsplit(text)
    path = parts.path.rstrip("/")
    if parts.query or parts.fragment or "@" in parts.netloc or (path and not may_have_path):
        return ""
    return f"{origin}{path}"


def _is_printable(text: object) -> TypeGuard[str]:
    return isinstance(text, str) and text.isascii() and text.isprintable() and bool(text)
