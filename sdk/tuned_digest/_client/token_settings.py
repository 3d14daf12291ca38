"""What an auth object for self-signed tokens was told, what it keeps, and how it makes a token."""

from __future__ import annotations

__all__ = ["Members", "TokenSettings"]

import contextlib
import copy
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Self, cast

import anyio
import anyio.lowlevel

from .. import events
from .._runtime.forks import PerProcess
from .._runtime.steps import Either, Step, Steps
from .._tokens.making import TokenRequest, base64url, encoded, signature_problem
from .._tokens.reading import content_digest
from .._wire.origins import Origin, ServedOrigins
from ..errors import ArgumentError
from ..keys import AsyncSigner, Signer
from .bodies import Body
from .carriage import DIGEST_FIELD
from .exchange import Fields, Target
from .records import Records
from .settings import Resources, signed_by

Members = Mapping[str, object] | Callable[[TokenRequest], Mapping[str, object]]

_JTI_SIZE = 16  # bytes: 128 random bits (tokens.md section 1)
_MARGIN = 10.0  # seconds before its end at which a kept token is no longer used (the same)
_ORIGINS = 256  # origins that something is kept of
_LATEST = 2**53  # beyond it a time may be too large for a float
_PATIENCE = 5.0  # seconds to wait for a token that another call is signing


@dataclass(frozen=True, slots=True)
class _Kept:
    credentials: str = dataclasses.field(repr=False)
    until: float


@dataclass(frozen=True)
class TokenSettings:
    """Hold what an auth object was told.

    Args:
        origins: The origins it signs for.
        signer: The key.
        algorithm: What it signs by, as the key has it.
        header: The header of every token, without what a function adds.
        more_header: Header parameters to add, replace, or with None remove.
        account: The account.
        audience: What the server calls itself, None for the request's origin.
        lifetime: Seconds from now to a token's end.
        skew: Seconds from a token's ``iat`` to now.
        bind: Whether a token is bound to its request.
        reuse: Whether a token is kept for further requests.
        claims: Claims to add, replace, or with None remove.
        scheme: What stands before the token in the field; empty for nothing.
        field: The field.
        fields: Further fields of each request.
        also: Settings of further tokens, each in a field of its own.
        on_event: Called with each event, None where nobody listens.
        resources: What this process spends on bodies.
        clock: Gives seconds since 1970.
        randomness: Gives that many random bytes.
    """

    origins: ServedOrigins
    signer: Signer | AsyncSigner
    algorithm: str
    header: Mapping[str, object] = dataclasses.field(repr=False)
    more_header: Members
    account: str
    audience: str | None
    lifetime: float
    skew: float
    bind: bool
    reuse: bool
    claims: Members = dataclasses.field(repr=False)
    scheme: str
    field: str
    fields: tuple[tuple[str, str], ...] = dataclasses.field(repr=False)
    also: tuple[TokenSettings, ...]
    on_event: Callable[[events.Event], None] | None
    resources: Resources
    clock: Callable[[], float]
    randomness: Callable[[int], bytes]
    records: Records = dataclasses.field(default_factory=Records, init=False)
    offsets: dict[Origin, float] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _kept: dict[Origin, _Kept] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _signing: PerProcess[dict[Origin, Future[None]]] = dataclasses.field(
        default_factory=lambda: PerProcess[dict[Origin, Future[None]]](dict), init=False, repr=False
    )
    _names: dict[Origin, str] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # What was learnt stays: other threads are changing it.
        told = (member.name for member in dataclasses.fields(self) if member.init)
        return type(self)(**{name: copy.deepcopy(getattr(self, name), memo) for name in told})

    @functools.cached_property
    def further(self) -> tuple[str, ...]:
        """Name the fields that a request gets beside the one that carries its token."""
        names = [DIGEST_FIELD, *(other.field for other in self.also)]
        return (*names, *(name for one in (self, *self.also) for name, _ in one.fields))

    @functools.cached_property
    def digests(self) -> bool:
        """Tell whether the body is digested: to bind a token to it, or for a function that may name it.

        A token that is reused goes with any body, so no function is told of one.
        """
        return any(
            one.bind or (not one.reuse and (callable(one.claims) or callable(one.more_header)))
            for one in (self, *self.also)
        )

    def kept(self, origin: Origin) -> str | None:
        """Give the credentials that are kept for an origin.

        Args:
            origin: The origin the request goes to.

        Returns:
            The field's value, None where there is none that lasts.
        """
        kept = self._kept.get(origin)
        return kept.credentials if kept is not None and self.clock() < kept.until else None

    def forget(self, origin: Origin, credentials: str) -> None:
        """Drop credentials that were refused, unless others have taken their place.

        Args:
            origin: The origin that refused them.
            credentials: The field's value.
        """
        kept = self._kept.get(origin)
        if kept is not None and kept.credentials == credentials:
            self._kept.pop(origin, None)

    def note_offset(self, origin: Origin, offset: float) -> None:
        """Remember how far an origin's clock is ahead, once a token under it was accepted."""
        if origin in self.offsets or (offset and len(self.offsets) < _ORIGINS):
            self.offsets[origin] = offset

    def credentials(self, target: Target, body: Callable[[], Body], offset: float) -> Steps[Fields]:
        """Make the fields that carry a token.

        Args:
            target: Method and URL of the request.
            body: Gives its body; called where a token is bound to it.
            offset: Seconds to add to this machine's clock.

        Returns:
            The fields.

        Raises:
            BodyError: If the body cannot be digested.
            TunedDigestError: If the token cannot be signed.
        """
        digest = b""
        fields = list[tuple[str, str]]()
        everyone = (self, *self.also)
        if self.digests:
            digested = body().digested(sha256)
            digest = (yield digested) if isinstance(digested, Step) else digested
        is_proven = offset == self.offsets.get(target.origin, 0.0)
        for settings in everyone:
            fields.append((settings.field, (yield from settings._value(target, digest, offset, is_proven))))
            if settings.bind:
                fields.append((DIGEST_FIELD, content_digest(digest)))
            fields += settings.fields
        self.note_signed(target.origin, target.method)
        return fields

    def note_signed(self, origin: Origin, method: str) -> None:
        """Report that a request carries a token."""
        if self.on_event is not None:
            self.on_event(events.RequestSigned(origin, method, self.scheme, chained=False))

    def _value(self, target: Target, digest: bytes, offset: float, is_proven: bool) -> Steps[str]:
        if not (self.reuse and is_proven):  # by a clock that nobody has accepted yet: it is not kept
            return (yield from self._signed(target, digest, offset)).credentials
        origin, signing = target.origin, self._signing.get()
        mine, patience = Future[None](), _PATIENCE
        while (credentials := self.kept(origin)) is None:
            other = signing.setdefault(origin, mine)
            if other is mine or patience <= 0:
                return (yield from self._signed_for_all(target, digest, offset, mine))
            patience = yield Either(
                functools.partial(_settled, other, patience), functools.partial(_asettled, other, patience)
            )
        return credentials

    def _signed_for_all(self, target: Target, digest: bytes, offset: float, mine: Future[None]) -> Steps[str]:
        """Sign, keep what was signed, and wake those who wait for it, whatever became of it."""
        origin, signing = target.origin, self._signing.get()
        try:
            made = yield from self._signed(target, digest, offset)
            if origin in self._kept or len(self._kept) < _ORIGINS:
                self._kept[origin] = made
            return made.credentials
        finally:
            if signing.get(origin) is mine:
                signing.pop(origin, None)
            mine.set_result(None)

    def _signed(self, target: Target, digest: bytes, offset: float) -> Steps[_Kept]:
        now = self.clock() + offset
        request = TokenRequest(
            target.method, self._name(target.origin), target.path, target.query, int(now), digest
        )
        claims = self._claims(request)
        text = f"{encoded(self._header(request), 'header parameters')}.{encoded(claims, 'claims')}"
        signature = yield from self._signature(text.encode("ascii"))
        end = claims.get("exp")
        if not isinstance(end, int | float):
            end = now + self.lifetime
        until = max(-_LATEST, min(end, _LATEST)) - _MARGIN - offset
        token = f"{text}.{base64url(signature)}"
        return _Kept(f"{self.scheme} {token}" if self.scheme else token, until)

    def _name(self, origin: Origin) -> str:
        """Write an origin, and remember that: it takes as long as all the rest of the claims."""
        name = self._names.get(origin)
        if name is None:
            name = str(origin)
            if len(self._names) < _ORIGINS:
                self._names[origin] = name
        return name

    def _header(self, request: TokenRequest) -> Mapping[str, object]:
        return _changed(dict(self.header), self.more_header, request) if self.more_header else self.header

    def _claims(self, request: TokenRequest) -> dict[str, object]:
        claims: dict[str, object] = {
            "iss": self.account,
            "sub": self.account,
            "aud": self.audience or request.origin,
            "iat": request.now - math.ceil(self.skew),
            "exp": request.now + int(self.lifetime),
        }
        if not self.reuse:
            claims["jti"] = base64url(self.randomness(_JTI_SIZE))
        if self.bind:
            claims["htm"] = request.method
            claims["htu"] = request.origin + request.path
            if request.query:
                claims["query"] = request.query
            claims["content_digest"] = content_digest(request.body_sha256)
        return _changed(claims, self.claims, request) if self.claims else claims

    def _signature(self, message: bytes) -> Steps[bytes]:
        signature = signed_by(self.signer, message)
        if isinstance(signature, Step):
            signature = yield signature
        problem = signature_problem(self.algorithm, signature)
        if problem:
            raise ArgumentError(problem)
        assert isinstance(signature, bytes)
        return signature


def _changed(members: dict[str, object], changes: Members, request: TokenRequest) -> dict[str, object]:
    made = changes(request) if callable(changes) else changes
    if not isinstance(made, Mapping):
        raise ArgumentError(
            f"a function of claims or header parameters gives a mapping, not {type(made).__name__}"
        )
    for name, value in made.items():
        if value is None:
            members.pop(name, None)
        else:
            members[name] = value
    return members


def _settled(other: Future[None], patience: float) -> float:
    """Wait in this thread until another call has signed; give the seconds that are left to wait."""
    end = time.monotonic() + patience
    with contextlib.suppress(TimeoutError):
        other.result(patience)
    return end - time.monotonic()


async def _asettled(other: Future[None], patience: float) -> float:
    """Wait in this task until another call has signed; give the seconds that are left to wait.

    Whoever settles the future may be on an event loop too, so the wake-up must not wait for this one.
    """
    settled, loop = anyio.Event(), cast("Any", anyio.lowlevel.current_token().native_token)
    soon = loop.call_soon_threadsafe if hasattr(loop, "call_soon_threadsafe") else loop.run_sync_soon

    def wake(_: Future[None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and so is the task
            soon(settled.set)

    other.add_done_callback(wake)
    end = anyio.current_time() + patience
    with anyio.move_on_after(patience):
        await settled.wait()
    return end - anyio.current_time()
