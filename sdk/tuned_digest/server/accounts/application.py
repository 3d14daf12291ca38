"""The endpoints where devices enrol, approve and revoke keys: a request and its body in, an answer out.

Without I/O, as the verifier is: `Accounts.answer` is a generator of steps, which the drivers in `asgi` and
`wsgi` perform. Paths are those below the place where the application is mounted; a token is bound to the path
on the wire. Every request but that for ``/openapi.json`` is signed by a bound token that is used once: of an
enrolled key, or, at ``POST /keys`` alone, of the key in the body.
"""

from __future__ import annotations

__all__ = ["Accounts"]

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._runtime.steps import Steps
from ..._tokens.reading import read_token
from ...errors import (
    ArgumentError,
    EnrolmentError,
    IdentityError,
    OverloadedError,
    RequestRejectedError,
    StoreUnavailableError,
)
from ...keys import PublicKey
from ...keys.public_keys import read_once
from ..counters import Decision
from ..effects import Gone
from ..incoming import Caller, IncomingRequest
from ..outages import Outage
from ..refusals import bad_request, refused, unavailable
from ..stores import AsyncSpentStore, SpentStore
from ..tokens import TokenVerifier
from .contents import Answer, answered, read_members, refusal
from .devices import Asker, Enrolling, Waiting
from .enrolment import Enrolment
from .memory import MemoryKeyRegistry
from .openapi import document
from .registry import EnrolledKey
from .tries import AddressTries

_KEY_PATH = re.compile(r"/keys/([A-Za-z0-9_-]{43})")  # RFC 7638, SHA-256
_AFTER = re.compile(r"(?:after=([0-9]{1,15}))?")

_WAYS = ("invitation", "recovery_code", "nonce")  # to enrol a key: at most one of them is sent

_STATUSES = {
    "bad request": 400,
    "code refused": 403,
    "not approved": 403,
    "too many keys": 403,
    "key revoked": 403,
    "no candidate": 404,
    "no such key": 404,
    "key enrolled": 409,
    "last key": 409,
    "too many candidates": 429,
    "code taken": 503,
}
"""What is answered to an `EnrolmentError`, by its reason."""

_RETRY_AFTER = {429: "60", 503: "1"}  # seconds: a candidate expires, and a code is drawn again

# Anybody can make a key and sign with it, and every token that is used takes a place in the store until it
# expires: strangers who bring neither a code nor a nonce get 3,000 a minute, which is 16,000 places, and one
# address 100, whatever it brings. A device that waits for its approval asks some 30 times.
_MINUTE = 60.0
_STRANGERS = 3000
_STRANGERS_OF_ONE = 100
_ADDRESSES = 4096  # remembered: at most 4 KiB each

# What a refusal of a token is counted as may tell which keys exist: the client is told this.
_TOKEN_REASONS = {400: "bad request", 401: "token refused"}


@dataclass(frozen=True, slots=True)
class _Call:
    """One request."""

    request: IncomingRequest
    body: bytes = field(repr=False)
    gone: Gone | None
    named: str
    """The thumbprint in its path; empty where there is none."""


_Serve = Callable[[_Call], Steps[Answer]]
_ServeSigned = Callable[[_Call, str, Asker], Steps[Answer]]


class Accounts:
    """Answer the requests of devices, by the rules of an `Enrolment`.

    Args:
        enrolment: The rules, and the registry.
        audience: What the server calls itself in tokens, usually its origin.
        single_use: Where tokens that were used are remembered.
        origin: The origin that tokens are bound to, None where that is the audience.
        max_lifetime: Seconds between a token's ``iat`` and ``exp`` at most.
        leeway: Seconds that clocks may be apart.
        on_decision: Called with each decision about a token; it must be quick.

    Raises:
        ArgumentError: If one of these is of another kind.
    """

    def __init__(
        self,
        enrolment: Enrolment,
        audience: str,
        *,
        single_use: SpentStore | AsyncSpentStore,
        origin: str | None = None,
        max_lifetime: float = 300,
        leeway: float = 10,
        on_decision: Callable[[Decision], None] | None = None,
        _clock: Callable[[], float] = time.time,
        _monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not isinstance(enrolment, Enrolment):
            raise ArgumentError("enrolment is an Enrolment: pass Enrolment(registry)")
        self._enrolment = enrolment
        self._verifier = TokenVerifier(
            enrolment.registry,
            audience,
            single_use=single_use,
            require_bound=True,
            origin=origin,
            max_lifetime=max_lifetime,
            leeway=leeway,
            on_decision=on_decision,
            _clock=_clock,
        )
        self._strangers = AddressTries(
            "requests", _STRANGERS_OF_ONE, _MINUTE, capacity=_ADDRESSES, clock=_monotonic
        )
        self._all_strangers = AddressTries("requests", _STRANGERS, _MINUTE, clock=_monotonic)
        self._outage = Outage("key registry")
        self._document = answered(200, document())
        signed = self._signed
        self.routes: Mapping[str, Mapping[str, _Serve]] = {
            "/keys": {"GET": signed(self._list_keys), "POST": self._enrol},
            "/keys/{thumbprint}": {"DELETE": signed(self._revoke)},
            "/candidates": {"GET": signed(self._list_candidates)},
            "/approvals": {"POST": signed(self._approve)},
            "/recovery-codes": {"POST": signed(self._renew_recovery_codes)},
            "/audit": {"GET": signed(self._list_entries)},
            "/openapi.json": {"GET": self._describe},
        }

    def start(self) -> Steps[None]:
        """Check, when the application starts, that registry and store can serve.

        What is unavailable now is logged, and no reason not to start.

        Raises:
            TunedDigestError: If one of them will not serve without somebody's help.
        """
        yield from self._verifier.start()

    def answer(
        self, request: IncomingRequest, path: str, body: bytes, gone: Gone | None = None
    ) -> Steps[Answer]:
        """Answer one request.

        Args:
            request: The request, its path as on the wire.
            path: The path below the place where the application is mounted, decoded.
            body: Its body, 16 KiB at most.
            gone: Ends when the client has closed its connection; its hashes are given up then.

        Returns:
            The answer.

        Raises:
            ProofAbandonedError: If the client has gone.
        """
        match = _KEY_PATH.fullmatch(path)
        route, named = ("/keys/{thumbprint}", match[1]) if match else (path, "")
        serves = self.routes.get(route) if match or "{" not in path else None
        try:
            if serves is None:
                raise refused(404, "there is no such path", "no such path")
            serve = serves.get(request.method)
            if serve is None:
                allowed = ("Allow", ", ".join(serves))
                raise refused(405, "this path has other methods: see Allow", "no such method", allowed)
            return (yield from serve(_Call(request, body, gone, named)))
        except RequestRejectedError as rejection:
            return refusal(rejection)
        except EnrolmentError as error:
            return _not_done(error)
        except OverloadedError as error:
            return refusal(unavailable("too many codes wait to be checked", error.retry_after))
        except StoreUnavailableError as error:
            return refusal(self._outage.rejection(error))

    def _signed(self, serve: _ServeSigned) -> _Serve:
        """Serve requests that an enrolled key has signed."""

        def serve_signed(call: _Call) -> Steps[Answer]:
            caller = yield from _verified(self._verifier, call)
            asker = Asker(_thumbprint(call.request), call.request.peer, call.gone)
            answer = yield from serve(call, str(caller.account), asker)
            self._outage.end()
            return answer

        return serve_signed

    def _enrol(self, call: _Call) -> Steps[Answer]:
        """Enrol the key that signs the request: no other request is verified with a key that it brings."""
        members = _members(call, ("account", "jwk", "label"), _WAYS)
        if len(members.keys() & set(_WAYS)) > 1:
            raise bad_request(f"at most one of {', '.join(_WAYS)} is sent")
        self._strangers.begin(call.request.peer)
        try:
            key = read_once(members.pop("jwk"))
        except IdentityError as error:
            raise bad_request(str(error)) from None
        asked = Enrolling(key=key, **members)
        verifier = self._verifier.over(_OneKey(key, asked.account), lambda jwk: key)
        brings_nothing = not members.keys() & set(_WAYS)
        yield from _verified(verifier, call, self._count_stranger if brings_nothing else _count_nothing)
        done = yield from self._enrolment.enrol(asked, Asker(key.thumbprint, call.request.peer, call.gone))
        self._outage.end()
        if isinstance(done, Waiting):
            return answered(202, _waiting(done))
        content = {"account": asked.account, "thumbprint": key.thumbprint, "label": asked.label}
        codes = {"recovery_codes": done.recovery_codes} if done.recovery_codes else {}
        return answered(201, {**content, **codes})

    def _count_stranger(self) -> None:
        self._all_strangers.begin("anywhere")

    def _list_keys(self, call: _Call, account: str, asker: Asker) -> Steps[Answer]:
        shown = yield from self._enrolment.overview(account)
        content = {
            "account": account,
            "keys": [_key(key) for key in shown.keys],
            "recovery_codes_left": shown.recovery_codes_left,
            "recoveries": [_key(key) for key in shown.recoveries],
        }
        return answered(200, content)

    def _revoke(self, call: _Call, account: str, asker: Asker) -> Steps[Answer]:
        yield from self._enrolment.revoke_one(account, call.named, asker)
        return answered(204)

    def _list_candidates(self, call: _Call, account: str, asker: Asker) -> Steps[Answer]:
        found = yield from self._enrolment.candidates(account)
        return answered(
            200, {"candidates": [{**_waiting(one), "label": one.candidate.label} for one in found]}
        )

    def _approve(self, call: _Call, account: str, asker: Asker) -> Steps[Answer]:
        members = _members(call, ("account", "thumbprint", "label", "nonce"))
        if members["account"] != account:
            raise refused(403, "the key that signs is not of this account", "other account")
        yield from self._enrolment.approve(asker=asker, **members)
        return answered(204)

    def _renew_recovery_codes(self, call: _Call, account: str, asker: Asker) -> Steps[Answer]:
        codes = yield from self._enrolment.renew_recovery_codes(account, asker)
        return answered(201, {"recovery_codes": codes})

    def _list_entries(self, call: _Call, account: str, asker: Asker) -> Steps[Answer]:
        match = _AFTER.fullmatch(call.request.query)
        if match is None:
            raise bad_request("the query is after=N, N the number of an entry, or nothing")
        entries = yield from self._enrolment.audit(account, int(match[1] or 0))
        shown = ("number", "time", "what", "thumbprint", "by", "label")
        return answered(
            200, {"entries": [{name: getattr(entry, name) for name in shown} for entry in entries]}
        )

    def _describe(self, call: _Call) -> Steps[Answer]:
        yield from ()
        return self._document


class _OneKey(MemoryKeyRegistry):
    """Know one key, as if it were enrolled: a request that proves that its sender holds it."""

    def __init__(self, key: PublicKey, account: str) -> None:
        super().__init__()
        self._key = EnrolledKey(key.thumbprint, account, key.jwk, "", 0)

    def find(self, thumbprint: str, /) -> EnrolledKey | None:
        return self._key if thumbprint == self._key.thumbprint else None


def _count_nothing() -> None:
    """Let anybody in."""


def _verified(
    verifier: TokenVerifier, call: _Call, count: Callable[[], None] = _count_nothing
) -> Steps[Caller]:
    """Verify a token; the client is told no more than `TokenVerifier` tells it.

    `count` is called once the signature was checked, before the token takes a place among the used ones.
    """

    def read() -> bytes:
        count()
        return verifier.new_digest(call.body).digest()

    try:
        return (yield from verifier.verify(call.request, read, call.gone))
    except RequestRejectedError as error:
        reason = _TOKEN_REASONS.get(error.status, error.reason)
        raise RequestRejectedError(
            str(error), status=error.status, fields=error.fields, body=error.body, reason=reason
        ) from error


def _thumbprint(request: IncomingRequest) -> str:
    """Say which key has signed a request that was verified."""
    (written,) = request.values("Authorization")
    return read_token(written.split()[-1]).kid


def _members(call: _Call, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    return read_members(call.request.values("Content-Type"), call.body, required, optional)


def _waiting(waiting: Waiting) -> dict[str, object]:
    candidate = waiting.candidate
    return {
        "thumbprint": candidate.thumbprint,
        "fingerprint": _fingerprint(candidate.thumbprint),
        "nonce": candidate.nonce,
        "expires_in": int(waiting.expires_in),
    }


def _key(key: EnrolledKey) -> dict[str, object]:
    return {
        "thumbprint": key.thumbprint,
        "fingerprint": _fingerprint(key.thumbprint),
        "label": key.label,
        "added": key.added,
        "last_used": key.last_used,
        "revoked": key.revoked,
    }


def _fingerprint(thumbprint: str) -> str:
    return PublicKey("", "", thumbprint, "", None).fingerprint


def _not_done(error: EnrolmentError) -> Answer:
    status = _STATUSES[error.reason]
    fields = [("Retry-After", _RETRY_AFTER[status])] if status in _RETRY_AFTER else []
    return refusal(refused(status, str(error), error.reason, *fields))
