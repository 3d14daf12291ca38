"""One request's way through verification, without I/O, in the order of section 10.

`Verifier.verify` is a generator of steps like the client's exchange, and raises what it does not accept.
Cheap checks come first, the nonce is burned before anything dear is done, the body is read last.
"""

from __future__ import annotations

__all__ = ["Verifier"]

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from blake3 import blake3

from .._base64 import encode_base64
from .._runtime.steps import Steps
from .._wire.challenge import (
    CHALLENGE_FIELDS,
    NEXT_NONCE_FIELDS,
    Challenge,
    NextNonce,
    Terms,
    write_challenge,
    write_next_nonce,
)
from .._wire.credentials import Credentials
from .._wire.grammar import Dialect
from .._wire.profiles import PROFILES, Profile
from .._wire.request import FieldValues, SignedRequest, mapped_path
from .._wire.work import KINDS, SCHEMES
from ..errors import (
    ArgumentError,
    IdentityError,
    MalformedFieldError,
    OverloadedError,
    ProofError,
    RequestRejectedError,
    SignatureError,
    StoreUnavailableError,
)
from ..keys import PublicKey, verify_signature
from .accounts.lookups import BRIEF, KeyLookups
from .accounts.registry import EnrolledKey, KeyRegistry
from .checks import CheckQueue
from .counters import Counters, Decision, Tally
from .effects import Effects, Gone, ReadBody, action_of
from .grants import Grant
from .incoming import Caller, IncomingRequest, check_target
from .outages import Outage
from .policy import Policy
from .refusals import Fields, bad_request, challenged, unavailable
from .stores import AsyncNonceStore, NonceStore

_BLANK = "?"  # stands for a nonce, and is in none
_MOST_FORMS = 256  # kept at once: a policy has a few, one that follows load a few for each price

# RFC 9111 section 3.5: what lets a shared cache keep the response to a request with Authorization. The other
# fields say the same to caches that a server's owner runs (RFC 9213; Surrogate-Control is its forerunner).
_CACHE_FIELDS = ("Cache-Control", "CDN-Cache-Control", "Surrogate-Control")
_PUBLIC = frozenset({"public", "s-maxage", "must-revalidate"})
_SHARED = dict.fromkeys(_CACHE_FIELDS, _PUBLIC) | {"Surrogate-Control": _PUBLIC | {"max-age"}}
_UNSHARED = frozenset({"private", "no-store"})
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*+"?+')


class Verifier:
    """Verify requests, challenge those that are not signed, and grant next nonces.

    Args:
        store: Where issued nonces are kept.
        policy: Which action a request is, and what it costs.
        accounts: The `KeyRegistry` where keys are enrolled, in which a revoked key is an unknown one. Or a
            function, sync or async: identity (base64) to account, None for an unknown one. Without it any
            identity may call.
        admit_strangers: Let identities call that have no account; `Policy` can name a price for them.
        signed_path: Path on the wire to the path clients sign, where they sign another.
        dialect: ``deployed`` or ``list``: how challenges and next nonces are written.
        repeat_fields: Also write ``uno-www-authn`` and ``uno-authn-info``, for browsers.
        checks: Where checks of work wait for their turn, bounded and shared out.
        on_decision: Called with each decision; it must be quick.

    Raises:
        ArgumentError: If one of these is of another kind, or the dialect is unknown.
        MissingExtraError: If `accounts` is a registry, and joserfc is not installed.
    """

    new_digest = staticmethod(blake3)
    """How bodies are digested (section 3)."""

    schemes = SCHEMES
    """The authentication schemes that it verifies, in lower case."""

    def __init__(
        self,
        store: NonceStore | AsyncNonceStore,
        *,
        policy: Policy | None = None,
        accounts: KeyRegistry | Callable[[str], object | Awaitable[object]] | None = None,
        admit_strangers: bool = False,
        signed_path: Callable[[str], str] | None = None,
        dialect: Dialect = "deployed",
        repeat_fields: bool = True,
        checks: CheckQueue | None = None,
        on_decision: Callable[[Decision], None] | None = None,
        _profiles: Sequence[Profile] = PROFILES,
        _clock: Callable[[], float] = time.time,
    ) -> None:
        if isinstance(store, type) or not (hasattr(store, "issue") and hasattr(store, "take")):
            raise ArgumentError("store is a nonce store: pass MemoryNonceStore(), an object")
        if policy is not None and not isinstance(policy, Policy):
            raise ArgumentError("policy is a Policy: pass Policy(), an object")
        registry = cast("KeyRegistry", accounts) if hasattr(accounts, "find") else None
        find_account = cast("Callable[[str], object]", accounts) if registry is None else None
        if find_account is not None and not callable(find_account):
            raise ArgumentError(
                "accounts is a KeyRegistry, or a function of an identity: pass accounts.get for a dict"
            )
        if on_decision is not None and not callable(on_decision):
            raise ArgumentError("on_decision is a function of a decision")
        if admit_strangers and accounts is None:
            raise ArgumentError("admit_strangers needs accounts: without them everybody is a stranger")
        if dialect not in ("deployed", "list"):
            raise ArgumentError(f"a dialect is deployed or list, not {dialect!r}")
        self._policy = policy or Policy()
        self._are_registered = accounts is not None and not admit_strangers
        self._has_accounts = accounts is not None
        self._tally = Tally(on_decision)
        self._effects = Effects(store, self._policy, find_account, checks or CheckQueue(), self._tally)
        self._keys = None if registry is None else KeyLookups(registry)
        self._clock = _clock
        self._signed_path = signed_path
        self._dialect: Dialect = dialect
        self._repeat_fields = repeat_fields
        self._profiles = _profiles
        self._outage = Outage("nonce store")
        self._forms: dict[tuple[object, ...], list[tuple[str, str]]] = {}

    def start(self) -> Steps[None]:
        """Check, when the application starts, that the store can serve, and a registry.

        That one is unavailable now is logged, and no reason not to start: a worker that is started while
        Redis is away answers with 503 until Redis is back.

        Raises:
            TunedDigestError: If one of them will not serve without somebody's help.
        """
        try:
            yield from self._effects.start()
        except StoreUnavailableError as error:
            self._outage.begin(error)
        if self._keys is not None:
            yield from self._keys.start()

    def counters(self) -> Counters:
        """Count what was done since this object was made, in this process.

        Returns:
            The counters.
        """
        return self._effects.counters()

    def verify(
        self, request: IncomingRequest, read_body: ReadBody, gone: Gone | None = None
    ) -> Steps[Caller]:
        """Verify one request.

        Args:
            request: The request.
            read_body: Reads and digests its body, called when all else holds.
            gone: Ends when the client has closed its connection; its check is given up then.

        Returns:
            Who called.

        Raises:
            RequestRejectedError: If it is not accepted; it carries the response.
            ProofAbandonedError: If the client has gone.
        """
        try:
            caller = yield from self._verified(request, read_body, gone)
        except StoreUnavailableError as error:
            rejection = self._outage.rejection(error)
            self._tally.refuse(rejection.status, rejection.reason)
            raise rejection from error
        except RequestRejectedError as rejection:
            self._tally.refuse(rejection.status, rejection.reason)
            raise
        self._tally.accept(caller.action, caller.identity)
        return caller

    def _verified(self, request: IncomingRequest, read_body: ReadBody, gone: Gone | None) -> Steps[Caller]:
        check_target(request)
        profile, credentials = self._credentials(request)
        if credentials is None:
            raise (yield from self._challenged(request, "authorization required"))
        path = mapped_path(self._signed_path, request.path)
        if not path.startswith("/") or not path.isascii():
            raise bad_request("the request target is not a path that can be signed")
        signed = SignedRequest(
            request.method, request.authority, request.path, request.query, path, request.values
        )
        identity = encode_base64(credentials.identity)
        began = self._clock()
        account, key = yield from self._authenticated(request, signed, profile, credentials, identity)
        policy = self._policy.select(request.path, identity, account)
        grant: Grant | None = yield self._effects.take(credentials.nonce)
        if grant is None:
            raise (yield from self._challenged(request, "unknown nonce", policy))
        action = yield from action_of(self._policy, request)
        priced_as = self._policy.priced_as(request.method, action)
        work = grant.prices.get(credentials.scheme)
        floor = policy.floor(priced_as).get(credentials.scheme)
        if priced_as not in grant.scope or work is None or floor is None or not work.reaches(floor):
            raise (yield from self._challenged(request, "scope mismatch", policy))
        signed.digest = yield self._effects.read(read_body)
        string = profile.work_string(signed, credentials)
        try:
            yield self._effects.check(
                string,
                work,
                credentials,
                identity=identity,
                peer=request.peer,
                is_registered=account is not None,
                gone=gone,
            )
        except ProofError:
            raise (yield from self._challenged(request, "challenge verification failed", policy)) from None
        except OverloadedError as error:
            raise unavailable("too many requests wait to be checked", error.retry_after) from None
        if key is not None and self._keys is not None:
            if abs(self._clock() - began) > BRIEF:  # it may have been revoked while body and work took long
                _, key = yield from self._account(identity)
                if key is None:
                    raise (yield from self._challenged(request, "unknown identity"))
            yield from self._keys.note_use(key, self._clock())
        return Caller(identity, account, action, credentials.scheme)

    def grant_next(self, caller: Caller, status: int, fields: FieldValues) -> Steps[Fields]:
        """Grant next nonces with the response to a verified request (section 6).

        Args:
            caller: Who called.
            status: The response's status code.
            fields: Its header fields.

        Returns:
            The header fields to add: none to a 401, a 5xx or what a shared cache may keep, and none while
            the store is unavailable.
        """
        if status == 401 or status >= 500 or _is_publicly_cacheable(fields):
            return ()
        scopes = self._policy.select(None, caller.identity, caller.account).scopes()
        grants = [Grant(prices, scope, True, caller.identity) for scope, prices in scopes]
        try:
            nonces: Sequence[str] = yield self._effects.issue(grants)
        except StoreUnavailableError as error:
            self._outage.begin(error)
            return ()
        self._outage.end()  # one that issues can also take
        values: list[tuple[str, str]] = []
        for nonce, grant in zip(nonces, grants, strict=True):
            values += [(scheme, form.replace(_BLANK, nonce)) for scheme, form in self._form(grant)]
        return self._named(NEXT_NONCE_FIELDS, values)

    def _form(self, grant: Grant) -> list[tuple[str, str]]:
        """Write next nonces once for each kind of grant, with a blank for the nonce."""
        kind = (grant.scope, *grant.prices.values())
        form = self._forms.get(kind)
        if form is None:
            if len(self._forms) >= _MOST_FORMS:
                self._forms.clear()
            terms = Terms(grant.prices, grant.scope, self._dialect, self._profiles[0])
            form = self._forms[kind] = write_next_nonce(NextNonce(_BLANK, terms))
        return form

    def _credentials(self, request: IncomingRequest) -> tuple[Profile, Credentials | None]:
        """Read the credentials, and name the profile; the first one where there are none."""
        try:
            for profile in self._profiles:
                credentials = profile.read(request.values)
                if credentials is not None:
                    return profile, credentials
        except MalformedFieldError as error:
            raise bad_request(str(error)) from None
        return self._profiles[0], None

    def _authenticated(
        self,
        request: IncomingRequest,
        signed: SignedRequest,
        profile: Profile,
        credentials: Credentials,
        identity: str,
    ) -> Steps[tuple[object, EnrolledKey | None]]:
        """Check identity, signature and registration; what fails here has burned its nonce too.

        Gives the account, and its key where a registry tells both.
        """
        try:
            message = profile.signed_bytes(signed, credentials)
            verify_signature(credentials.identity, message, credentials.signature)
        except IdentityError as error:
            yield from self._effects.discard(credentials.nonce)
            raise bad_request(str(error)) from None
        except SignatureError:
            yield from self._effects.discard(credentials.nonce)
            raise (yield from self._challenged(request, "signature verification failed")) from None
        if not self._has_accounts:
            return None, None
        account, key = yield from self._account(identity)
        if account is None or account is False:  # as a set's __contains__ says it
            if self._are_registered:
                yield from self._effects.discard(credentials.nonce)
                raise (yield from self._challenged(request, "unknown identity"))
            return None, None
        return account, key

    def _account(self, identity: str) -> Steps[tuple[object, EnrolledKey | None]]:
        if self._keys is None:
            return (yield self._effects.find_account(identity)), None
        key = yield from self._keys.find(PublicKey.from_identity(identity).thumbprint)
        return (None, None) if key is None or key.revoked is not None else (key.account, key)

    def _challenged(
        self, request: IncomingRequest, reason: str, policy: Policy | None = None
    ) -> Steps[RequestRejectedError]:
        """Make a 401 with a fresh nonce, the same under each scheme."""
        action = self._policy.priced_as(request.method, (yield from action_of(self._policy, request)))
        prices = (policy or self._policy.select(request.path, None, None)).price(action)
        actions = self._policy.challenged_for(request.method, action)
        (nonce,) = yield self._effects.issue([Grant(prices, actions, chained=False)])
        self._outage.end()
        values = [
            (
                scheme,
                write_challenge(
                    Challenge(scheme, nonce, str(work), work, actions, self._dialect, self._profiles[0])
                ),
            )
            for scheme in KINDS
            if (work := prices.get(scheme)) is not None
        ]
        return challenged(reason, action, self._named(CHALLENGE_FIELDS, values))

    def _named(self, names: tuple[str, str], values: Sequence[tuple[str, str]]) -> Fields:
        """Put values, each with its scheme, into the first field, and those for browsers into the second."""
        repeated = [value for scheme, value in values if KINDS[scheme].in_browsers and self._repeat_fields]
        return (*((names[0], value) for _, value in values), *((names[1], value) for value in repeated))


def _is_publicly_cacheable(fields: FieldValues) -> bool:
    """Tell whether a shared cache may keep the response to a signed request (RFC 9111 section 3.5)."""
    for name in _CACHE_FIELDS:
        if not (values := fields(name)):
            continue
        text = _QUOTED.sub("", ",".join(values)).replace(";", ",")
        directives = [directive.strip(" \t").lower() for directive in text.split(",")]
        # With an argument, private holds for the fields it names alone (RFC 9111 section 5.2.2.7).
        if not _UNSHARED & set(directives) and any(
            directive.partition("=")[0].rstrip() in _SHARED[name] for directive in directives
        ):
            return True
    return False
