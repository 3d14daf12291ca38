"""One target's way through the scheme, without I/O: the whole client order stands here and nowhere else.

An `Exchange` serves one target (method and URL) and has two moves. `authorize` is a generator of steps
that ends in an Authorization value: digest the body, take a nonce as late as possible, prove, sign.
`receive` reads a response: the next nonces to remember and the challenge to answer, if any.

A driver performs the steps (`_drivers.py`); sending is the adapter's. The stop rules of section 7 are
in `receive`, what is answered first in `_choose`.
"""

from __future__ import annotations

__all__ = [
    "Digest",
    "Estimate",
    "Exchange",
    "Prove",
    "Received",
    "Remember",
    "ResponseFields",
    "Settings",
    "Sign",
    "Spend",
    "Take",
    "Target",
    "guess_action",
]

import secrets
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from . import events
from ._grammar import ACTIONS, SCHEMES
from ._steps import Step, ask
from .authorization import Authorization
from .bodies import Body
from .canonical import path_of, request_string
from .challenge import (
    CHALLENGE_FIELDS,
    NEXT_NONCE_FIELDS,
    Challenge,
    NextNonce,
    read_challenges,
    read_next_nonces,
)
from .errors import (
    ArgumentError,
    LimitExceededError,
    ProofNotFoundError,
    TunedDigestError,
    UnsupportedAlgorithmError,
)
from .origins import Origin
from .proof import engine
from .proof.argon2 import draw_salt
from .tuning import Limits, SearchCost, Tuning, Work

# Rejections that another worker or another request may have caused (section 7): answered once more.
_TRANSIENT_REASONS = frozenset({"unknown nonce", "scope mismatch"})

# Challenges one target takes up at most. Two are answered (section 7); a third and a fourth may be lost to
# a nonce that another request has spent, or to a search that found nothing.
_MAX_CHALLENGES = 4

_TRIES_PER_EVENT = 65536  # of a search, some 50 ms

_PUBLIC_KEY_SIZE = 32  # bytes, RFC 8032 section 5.1.5
_SIGNATURE_SIZE = 64  # bytes, RFC 8032 section 5.1.6

_GUESSES = {"GET": "read", "HEAD": "read", "OPTIONS": "read", "DELETE": "delete"}


def guess_action(method: str, path: str) -> str:
    """Guess which action a request is (section 7): a wrong guess costs a tenth of a second or a resend.

    Args:
        method: The request's method.
        path: The path on the wire.

    Returns:
        ``read``, ``delete`` or ``update``.
    """
    return _GUESSES.get(method, "update")


@dataclass(slots=True)
class Digest(Step[bytes]):
    """Ask for BLAKE3-256 of the bytes that will be sent."""

    body: Body


@dataclass(slots=True)
class Take(Step[NextNonce | None]):
    """Ask the cache for a nonce."""

    origin: Origin
    action: str


@dataclass(slots=True)
class Spend(Step[bool]):
    """Ask the cache whether the nonce of a challenge may be sent."""

    origin: Origin
    nonce: str = field(repr=False)


@dataclass(slots=True)
class Remember(Step[None]):
    """Ask the cache to keep next nonces."""

    origin: Origin
    nonces: Sequence[NextNonce]


@dataclass(slots=True)
class Estimate(Step[float]):
    """Ask how many seconds work will take."""

    work: Work


@dataclass(slots=True)
class Prove(Step[str]):
    """Ask for the response to a request string."""

    request_string: bytes = field(repr=False)
    work: Work
    nonce: str = field(repr=False)
    salt: bytes = field(repr=False)
    on_progress: Callable[[int], None] | None = field(default=None, repr=False)


@dataclass(slots=True)
class Sign(Step[bytes]):
    """Ask for a signature."""

    message: bytes = field(repr=False)


class ResponseFields(Protocol):
    """Give the values of a header field, one for each line, in any letter case."""

    def __call__(self, name: str, /) -> Sequence[str]:
        """Look a field up.

        Args:
            name: The field's name.

        Returns:
            Its values, empty when it is absent.
        """
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """Name what one exchange is about.

    Args:
        method: The method on the request line, upper case.
        origin: Where the request goes.
        path: The request target on the wire, percent-encoded, with its query.
    """

    method: str
    origin: Origin
    path: str


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold what an auth object was told.

    Args:
        public_key: The identity, 32 bytes.
        limits: The most work a server may ask for.
        memory_kib: The most memory this process spends on work, KiB, None for no limit.
        schemes: The schemes answered, in order of preference.
        action: Method and path on the wire to action.
        signed_path: Path on the wire to the path the server verifies, None for the same.
        on_event: Called with each event.
        randomness: Gives that many random bytes.
        clock: Gives seconds, never going back.

    Raises:
        ArgumentError: If a scheme is unknown or there is none, or the public key has not 32 bytes.
    """

    public_key: bytes
    limits: Limits = Limits()
    memory_kib: int | None = None
    schemes: Sequence[str] = SCHEMES
    action: Callable[[str, str], str] = guess_action
    signed_path: Callable[[str], str] | None = None
    on_event: Callable[[events.Event], None] | None = None
    randomness: Callable[[int], bytes] = secrets.token_bytes
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        if not isinstance(self.public_key, bytes) or len(self.public_key) != _PUBLIC_KEY_SIZE:
            raise ArgumentError(f"a signer's public_key is {_PUBLIC_KEY_SIZE} bytes, unencoded")
        if not self.schemes or not set(self.schemes) <= set(SCHEMES):
            raise ArgumentError(f"schemes are some of {SCHEMES}, not {self.schemes!r}")

    def emit(self, event: events.Event) -> None:
        """Report an event."""
        if self.on_event is not None:
            self.on_event(event)

    def check(self, work: Work) -> None:
        """Refuse work beyond the limits, or beyond this process's memory, before any of it is done.

        Args:
            work: What a server asks for.

        Raises:
            LimitExceededError: If it is.
        """
        self.limits.check(work)
        if self.memory_kib is not None and isinstance(work, Tuning) and work.memory_kib > self.memory_kib:
            raise LimitExceededError(
                f"the server asks for {work}: {work.memory_kib} KiB, and this process spends at most "
                f"{self.memory_kib}; to allow more, pass resources=Resources(memory_kib={work.memory_kib})",
                limit="memory_kib",
                asked=work.memory_kib,
                allowed=self.memory_kib,
            )


@dataclass(frozen=True, slots=True)
class Received:
    """Hold what a response brought.

    Args:
        nonces: The next nonces to remember.
        challenge: The challenge to answer, None when the response goes to the caller.
        problem: Why a challenge cannot be answered, to be raised once the nonces are remembered.
    """

    nonces: Sequence[NextNonce]
    challenge: Challenge | None = None
    problem: TunedDigestError | None = None


class Exchange:
    """Take one target through the scheme.

    Args:
        target: The method and URL.
        body: The bytes that will be sent.
        settings: What the auth object was told.
        sent: The nonce this target was already sent with, where a client library forwarded one.
    """

    def __init__(self, target: Target, body: Body, settings: Settings, *, sent: str = "") -> None:
        self._target = target
        self._body = body
        self._settings = settings
        self._sent = {sent} if sent else set[str]()
        self._challenges = 0
        self._answers = 0
        self._report = events.Report()

    @property
    def target(self) -> Target:
        """Name what this exchange is about."""
        return self._target

    def authorize(self, challenge: Challenge | None = None) -> Generator[Step[object], object, str | None]:
        """Make the Authorization value for the next send.

        Args:
            challenge: The challenge to answer, None to use a nonce from the cache.

        Returns:
            The value, None when there is no nonce to sign with: the request is then sent without, to
            be challenged.

        Raises:
            BodyError: If the body cannot be digested.
        """
        digest = yield from ask(Digest(self._body))
        path = path_of(self._target.path)
        action = self._action(path)
        signed_path = (self._settings.signed_path(path) or "/") if self._settings.signed_path else path
        nonce: Challenge | NextNonce | None = challenge
        if challenge is None:
            nonce = yield from self._held(action)
        elif not (yield from self._claim(challenge)):
            return None
        if nonce is None:
            return None
        self._sent.add(nonce.nonce)
        return (yield from self._sign(nonce, signed_path, digest))

    def receive(self, status: int, fields: ResponseFields, reason: str = "") -> Received:
        """Read a response to what was sent.

        Args:
            status: Its status code.
            fields: Its header fields.
            reason: The reason in a 401's body, where the adapter has read it (see `wants_reason`).

        Returns:
            The next nonces to remember, and the challenge to answer or the reason why none can be: it
            is malformed, unsupported or beyond the limits.
        """
        nonces = self._harvest(fields)
        self._report = replace(
            self._report,
            round_trips=self._report.round_trips + 1,
            reason=reason if status == 401 else "",
            next_nonces=self._report.next_nonces + len(nonces),
        )
        if status != 401 or self._is_final(reason):
            return Received(nonces)
        try:
            challenge = self._choose(read_challenges(*(fields(name) for name in CHALLENGE_FIELDS)))
        except TunedDigestError as error:
            return Received(nonces, problem=error)
        if challenge is None or challenge.nonce in self._sent:
            return Received(nonces)
        assert challenge.work is not None  # `_choose` hands back no other
        self._settings.emit(
            events.ChallengeReceived(
                self._target.origin, challenge.scheme, challenge.work, challenge.actions, reason
            )
        )
        return Received(nonces, challenge)

    @property
    def wants_reason(self) -> bool:
        """Tell whether a 401 is a rejection: its reason decides what happens next, or goes to the caller."""
        return bool(self._sent)

    @property
    def body_size(self) -> int:
        """Count the bytes of the body, once it was digested."""
        return self._body.size

    @property
    def report(self) -> events.Report:
        """Say what it took so far."""
        return self._report

    def _is_final(self, reason: str) -> bool:
        """Apply section 7: one challenge is answered, and once more after a reason that may pass."""
        if self._challenges == _MAX_CHALLENGES or self._answers > 1:
            return True
        return self._answers == 1 and reason not in _TRANSIENT_REASONS

    def _harvest(self, fields: ResponseFields) -> list[NextNonce]:
        nonces, dropped = read_next_nonces(*(fields(name) for name in NEXT_NONCE_FIELDS))
        for drop in dropped:
            self._settings.emit(events.NextNonceDropped(self._target.origin, drop.field, drop.problem))
        return [nonce for nonce in nonces if self._usable(nonce)]

    def _usable(self, nonce: NextNonce) -> bool:
        """Leave out a nonce that no request could be signed under: the challenge will say why."""
        if not set(nonce.works) & set(self._settings.schemes):
            return False
        try:
            self._settings.check(self._preferred(nonce.works))
        except LimitExceededError as error:
            problem = str(error)
            self._settings.emit(events.NextNonceDropped(self._target.origin, NEXT_NONCE_FIELDS[0], problem))
            return False
        return bool(nonce.scopes)

    def _choose(self, challenges: list[Challenge]) -> Challenge | None:
        """Find the first usable challenge in the order of the preferred schemes."""
        for scheme in self._settings.schemes:
            for challenge in challenges:
                if challenge.scheme == scheme and challenge.work is not None:
                    self._settings.check(challenge.work)
                    return challenge
        if challenges:
            offered = ", ".join(
                f"{challenge.scheme} with {challenge.algorithm[:80]!r}" for challenge in challenges
            )
            raise UnsupportedAlgorithmError(
                f"the server offers {offered}; this client answers {', '.join(self._settings.schemes)}",
                algorithm=challenges[0].algorithm,
            )
        return None

    def _preferred(self, works: Mapping[str, Work]) -> Work:
        return next(works[scheme] for scheme in self._settings.schemes if scheme in works)

    def _action(self, path: str) -> str:
        action = self._settings.action(self._target.method, path)
        if action not in ACTIONS:
            raise ArgumentError(f"an action is one of {', '.join(ACTIONS)}, not {action!r}")
        return action

    def _held(self, action: str) -> Generator[Step[object], object, NextNonce | None]:
        """Take a nonce from the cache; one shared with other settings may hold some that do not fit these."""
        while nonce := (yield from ask(Take(self._target.origin, action))):
            if self._usable(nonce):
                return nonce
        return None

    def _claim(self, challenge: Challenge) -> Generator[Step[object], object, bool]:
        """Count a challenge, and see that its nonce was never sent."""
        self._challenges += 1
        self._sent.add(challenge.nonce)
        return (yield from ask(Spend(self._target.origin, challenge.nonce)))

    def _sign(
        self, nonce: Challenge | NextNonce, signed_path: str, digest: bytes
    ) -> Generator[Step[object], object, str | None]:
        """Prove and sign under one nonce; None when a search finds nothing, for a fresh challenge."""
        origin, clock = self._target.origin, self._settings.clock
        chained = isinstance(nonce, NextNonce)
        work = self._preferred(nonce.works) if isinstance(nonce, NextNonce) else nonce.work
        assert work is not None  # `_choose` hands back no other challenge
        string = request_string(nonce.nonce, self._target.method, signed_path, digest)
        if self._settings.on_event is not None:  # the first estimate takes a while
            estimate = yield from ask(Estimate(work))
            self._settings.emit(events.WorkStarted(origin, work, estimate, engine()))
        started = clock()
        try:
            salt = draw_salt(self._settings.randomness)
            response = yield from ask(Prove(string, work, nonce.nonce, salt, self._progress_of(work)))
        except ProofNotFoundError:
            return None
        seconds = clock() - started
        self._settings.emit(events.WorkFinished(origin, work, seconds, engine()))
        self._report = replace(
            self._report, scheme=work.scheme, work=work, seconds=self._report.seconds + seconds
        )
        signature = yield from ask(Sign(response.encode("ascii")))
        if len(signature) != _SIGNATURE_SIZE:
            raise ArgumentError(f"a signer's signature has {_SIGNATURE_SIZE} bytes, not {len(signature)}")
        self._answers += 0 if chained else 1
        self._settings.emit(events.RequestSigned(origin, self._target.method, work.scheme, chained))
        identity = self._settings.public_key
        return str(Authorization(work.scheme, identity, nonce.nonce, response, signature, nonce.dialect))

    def _progress_of(self, work: Work) -> Callable[[int], None] | None:
        """Make what reports a search's progress, where somebody listens."""
        origin, emit = self._target.origin, self._settings.emit
        if self._settings.on_event is None or not isinstance(work, SearchCost):
            return None

        def progressed(tried: int) -> None:
            if tried and tried % _TRIES_PER_EVENT == 0:
                emit(events.WorkProgressed(origin, work, tried))

        return progressed
