"""One request's way through verification, without I/O, in the order of section 10.

`Verifier.verify` is a generator of steps like the client's exchange, and raises what it does not accept.
Cheap checks come first, the nonce is burned before anything dear is done, the body is read last.
"""

from __future__ import annotations

__all__ = [
    "Caller",
    "Classify",
    "Fields",
    "FindAccount",
    "IncomingRequest",
    "PutGrant",
    "ReadBody",
    "TakeGrant",
    "Verifier",
    "VerifyProof",
]

import json
import re
import secrets
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field

from .._grammar import ACTIONS, SCHEMES, Dialect, encode_base64
from .._steps import Step, ask
from ..authorization import Authorization, read_authorization
from ..canonical import is_signable, request_string
from ..challenge import (
    CHALLENGE_FIELDS,
    NEXT_NONCE_FIELDS,
    Challenge,
    write_challenge,
    write_next_nonce,
)
from ..errors import (
    ArgumentError,
    IdentityError,
    MalformedFieldError,
    ProofError,
    RequestRejectedError,
    SignatureError,
)
from ..signers import verify_identity, verify_signature
from ..tuning import Work
from .policy import Policy
from .stores import AsyncNonceStore, Grant, NonceStore

_NONCE_SIZE = 32  # bytes, section 1

Fields = tuple[tuple[str, str], ...]

_JSON_FIELDS: Fields = (("Cache-Control", "no-store"), ("Content-Type", "application/json"))

# RFC 9111 section 3.5: what lets a shared cache keep the response to a request with Authorization.
_SHARED = frozenset({"public", "s-maxage", "must-revalidate"})
_UNSHARED = frozenset({"private", "no-store"})
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?')


@dataclass(frozen=True, slots=True)
class Caller:
    """Say who called, as proved by a verified request: the only trusted view of it.

    Args:
        identity: The public key, base64 without padding.
        account: What the identity is registered as, None where identities are not registered.
        action: The action the request was accepted for.
    """

    identity: str
    account: object
    action: str


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """Hold what a server knows of a request before its body.

    Args:
        method: The method on the request line.
        path: The path on the wire, percent-encoded, without the query.
        authorization: The values of ``Authorization``, one for each field line.
    """

    method: str
    path: str
    authorization: Sequence[str] = field(repr=False)


@dataclass(slots=True)
class Classify(Step[str]):
    """Ask the policy which action a request is."""

    method: str
    path: str


@dataclass(slots=True)
class TakeGrant(Step[Grant | None]):
    """Ask the store for a nonce, burning it."""

    nonce: str = field(repr=False)


@dataclass(slots=True)
class PutGrant(Step[None]):
    """Ask the store to keep a nonce."""

    nonce: str = field(repr=False)
    grant: Grant


@dataclass(slots=True)
class FindAccount(Step[object]):
    """Ask for the account of an identity."""

    identity: str


@dataclass(slots=True)
class ReadBody(Step[bytes | None]):
    """Ask for the body's digest, None when it is over the limit."""


@dataclass(slots=True)
class VerifyProof(Step[None]):
    """Ask for the work to be checked; answered with `ProofError` when it does not hold."""

    request_string: bytes = field(repr=False)
    work: Work
    response: str = field(repr=False)
    nonce: str = field(repr=False)


class Verifier:
    """Verify requests, challenge those that are not signed, and grant next nonces.

    Args:
        store: Where issued nonces are kept.
        policy: Which action a request is, and what it costs.
        accounts: Identity (base64) to account, None for an unknown one; sync or async. Without it any
            identity may call.
        signed_path: Path on the wire to the path clients sign, where they sign another.
        dialect: ``deployed`` or ``list``: how challenges and next nonces are written.
        repeat_fields: Also write ``uno-www-authn`` and ``uno-authn-info``, for browsers.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: If one of these is of another kind, or the dialect is unknown.
    """

    def __init__(
        self,
        store: NonceStore | AsyncNonceStore,
        *,
        policy: Policy | None = None,
        accounts: Callable[[str], object | Awaitable[object]] | None = None,
        signed_path: Callable[[str], str] | None = None,
        dialect: Dialect = "deployed",
        repeat_fields: bool = True,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if isinstance(store, type) or not (hasattr(store, "put") and hasattr(store, "take")):
            raise ArgumentError("store is a nonce store: pass MemoryNonceStore(), an object")
        if policy is not None and not isinstance(policy, Policy):
            raise ArgumentError("policy is a Policy: pass Policy(), an object")
        if accounts is not None and not callable(accounts):
            raise ArgumentError("accounts is a function of an identity: pass accounts.get for a dict")
        if dialect not in ("deployed", "list"):
            raise ArgumentError(f"a dialect is deployed or list, not {dialect!r}")
        self.store = store
        self.policy = policy or Policy()
        self.accounts = accounts
        self._signed_path = signed_path
        self._dialect: Dialect = dialect
        self._repeat_fields = repeat_fields
        self._randomness = randomness

    def verify(self, request: IncomingRequest) -> Generator[Step[object], object, Caller]:
        """Verify one request.

        Args:
            request: The request.

        Returns:
            Who called.

        Raises:
            RequestRejectedError: If it is not accepted; it carries the response.
        """
        if not is_signable(request.method, request.path):
            raise _refused(400, "requests of this method are never signed, and so not served")
        if not request.path.startswith("/") or not request.path.isascii():
            raise _refused(400, "the request target is not a path")
        credential = self._credential(request)
        if credential is None:
            raise (yield from self._challenged(request, "authorization required"))
        account = yield from self._authenticated(request, credential)
        grant = yield from ask(TakeGrant(credential.nonce))
        if grant is None:
            raise (yield from self._challenged(request, "unknown nonce"))
        action = yield from self._action(request)
        work, floor = grant.prices.get(credential.scheme), self.policy.floor(action).get(credential.scheme)
        if action not in grant.scope or work is None or floor is None or not work.reaches(floor):
            raise (yield from self._challenged(request, "scope mismatch"))
        path = (self._signed_path(request.path) or "/") if self._signed_path else request.path
        if not path.startswith("/"):
            raise _refused(400, "the request target is not a path that can be signed")
        digest = yield from ask(ReadBody())
        if digest is None:
            raise _refused(413, "the body is larger than this server takes")
        string = request_string(credential.nonce, request.method, path, digest)
        try:
            yield from ask(VerifyProof(string, work, credential.response, credential.nonce))
        except ProofError:
            raise (yield from self._challenged(request, "challenge verification failed")) from None
        return Caller(encode_base64(credential.identity), account, action)

    def grant_next(self, status: int, cache_control: str) -> Generator[Step[object], object, Fields]:
        """Grant next nonces with the response to a verified request (section 6).

        Args:
            status: The response's status code.
            cache_control: Its Cache-Control field, empty where there is none.

        Returns:
            The header fields to add: none to a 401, a 5xx or what a shared cache may keep.
        """
        if status == 401 or status >= 500 or _is_publicly_cacheable(cache_control):
            return ()
        values: list[tuple[str, str]] = []
        for scope, prices in self.policy.scopes():
            nonce = yield from self._issue(Grant(prices, scope, chained=True))
            values += [
                (scheme, write_next_nonce(nonce, prices[scheme], scope, self._dialect))
                for scheme in SCHEMES
                if scheme in prices
            ]
        return self._named(NEXT_NONCE_FIELDS, values)

    def _action(self, request: IncomingRequest) -> Generator[Step[object], object, str]:
        action = yield from ask(Classify(request.method, request.path))
        if action not in ACTIONS:
            raise ArgumentError(f"the policy's action is one of {', '.join(ACTIONS)}, not {action!r}")
        return action

    def _credential(self, request: IncomingRequest) -> Authorization | None:
        try:
            return read_authorization(request.authorization)
        except MalformedFieldError as error:
            raise _refused(400, str(error)) from None

    def _authenticated(
        self, request: IncomingRequest, credential: Authorization
    ) -> Generator[Step[object], object, object]:
        """Check identity, signature and registration; what fails here has burned its nonce too."""
        try:
            verify_identity(credential.identity)
            verify_signature(credential.identity, credential.response.encode("ascii"), credential.signature)
        except IdentityError as error:
            yield from ask(TakeGrant(credential.nonce))
            raise _refused(400, str(error)) from None
        except SignatureError:
            yield from ask(TakeGrant(credential.nonce))
            raise (yield from self._challenged(request, "signature verification failed")) from None
        if self.accounts is None:
            return None
        account = yield from ask(FindAccount(encode_base64(credential.identity)))
        if account is None:
            yield from ask(TakeGrant(credential.nonce))
            raise (yield from self._challenged(request, "unknown identity"))
        return account

    def _challenged(
        self, request: IncomingRequest, reason: str
    ) -> Generator[Step[object], object, RequestRejectedError]:
        """Make a 401 with a fresh nonce, the same under each scheme."""
        action = yield from self._action(request)
        prices = self.policy.price(action)
        actions = frozenset({action})
        nonce = yield from self._issue(Grant(prices, actions, chained=False))
        values = [
            (scheme, write_challenge(Challenge(scheme, nonce, str(work), work, actions, self._dialect)))
            for scheme in SCHEMES
            if (work := prices.get(scheme)) is not None
        ]
        fields = (*self._named(CHALLENGE_FIELDS, values), *_JSON_FIELDS)
        body = _json({"reason": reason, "action": action})
        return RequestRejectedError(reason, status=401, fields=fields, body=body)

    def _named(self, names: tuple[str, str], values: Sequence[tuple[str, str]]) -> Fields:
        """Put values, each with its scheme, into the first field, a search's into the second too."""
        repeated = [value for scheme, value in values if scheme == SCHEMES[1] and self._repeat_fields]
        return (*((names[0], value) for _, value in values), *((names[1], value) for value in repeated))

    def _issue(self, grant: Grant) -> Generator[Step[object], object, str]:
        nonce = encode_base64(self._randomness(_NONCE_SIZE))
        yield from ask(PutGrant(nonce, grant))
        return nonce


def _is_publicly_cacheable(cache_control: str) -> bool:
    """Tell whether a shared cache may keep the response to a signed request (RFC 9111 section 3.5)."""
    directives = [directive.strip(" \t").lower() for directive in _QUOTED.sub("", cache_control).split(",")]
    # With an argument, private holds for the fields it names alone (RFC 9111 section 5.2.2.7).
    return not _UNSHARED & set(directives) and any(name.partition("=")[0] in _SHARED for name in directives)


def _refused(status: int, message: str) -> RequestRejectedError:
    """Make a refusal that brings no nonce."""
    return RequestRejectedError(message, status=status, fields=_JSON_FIELDS, body=_json({"message": message}))


def _json(content: Mapping[str, str]) -> bytes:
    return json.dumps(content).encode("ascii")
