"""One target's way through the scheme, without I/O (section 7).

An `Exchange` serves one target (method and URL) and has two moves. `authorize` is a generator of steps
that ends in the fields to send: digest the body, take a nonce as late as possible, prove, sign.
`receive` reads a response: the next nonces to remember, and the challenge to answer, if any.

When which move is made stands in `flow.py`. The stop rules of section 7 are in `receive`, what is answered
first in `_choose`.
"""

from __future__ import annotations

__all__ = ["Exchange", "Fields", "Received", "Target"]

from collections.abc import Callable, Sequence
from typing import NamedTuple

from .. import events
from .._runtime.steps import InThread, Limited, Step, Steps
from .._wire.challenge import (
    CHALLENGE_FIELDS,
    NEXT_NONCE_FIELDS,
    Challenge,
    NextNonce,
    read_challenges,
)
from .._wire.credentials import Credentials
from .._wire.grammar import ACTIONS
from .._wire.origins import Origin
from .._wire.profiles import Profile
from .._wire.request import FieldValues, SignedRequest, mapped_path
from ..errors import ArgumentError, ProofNotFoundError, TunedDigestError, UnsupportedAlgorithmError
from ..proof import Job, Work, engine, prove
from ..proof.argon2 import draw_salt
from .bodies import Body
from .settings import Budget, Settings

# Rejections that another worker or another request may have caused (section 7): answered once more.
_TRANSIENT_REASONS = frozenset({"unknown nonce", "scope mismatch"})

# Challenges one target takes up at most. Two are answered (section 7); a third and a fourth may be lost to
# a nonce that another request has spent, or to a search that found nothing.
_MAX_CHALLENGES = 4

_TRIES_PER_EVENT = 65536  # of a search, some 50 ms

_SIGNATURE_SIZE = 64  # bytes, RFC 8032 section 5.1.6

_SHOWN = 80  # characters of an algorithm that an error repeats


class Target(NamedTuple):
    """Name what one exchange is about.

    Args:
        method: The method on the request line, upper case.
        origin: Where the request goes.
        path: The path on the wire, percent-encoded.
        query: The query on the wire, without its question mark.
    """

    method: str
    origin: Origin
    path: str
    query: str


class Received(NamedTuple):
    """Hold what a response brought.

    Args:
        nonces: The next nonces to remember.
        challenge: The challenge to answer, None when the response goes to the caller.
        problem: Why a challenge cannot be answered, to be raised once the nonces are remembered.
    """

    nonces: Sequence[NextNonce]
    challenge: Challenge | None = None
    problem: TunedDigestError | None = None


Fields = Sequence[tuple[str, str]]


class Exchange:
    """Take one target through the scheme.

    Args:
        target: The method and URL.
        body: The bytes that will be sent.
        values: The request's header fields.
        settings: What the auth object was told.
        budget: What the work of the whole call may still take.
        sent: The nonce this target was already sent with, where a client library forwarded one.
    """

    answers = 0
    """The challenges that were answered."""

    # What has not happened yet.
    _challenges = 0
    _round_trips = 0
    _seconds = 0.0
    _work: Work | None = None
    _reason = ""
    _next_nonces = 0

    def __init__(
        self, target: Target, body: Body, values: FieldValues, settings: Settings, budget: Budget, sent: str
    ) -> None:
        self.target = target
        self._body = body
        self._settings = settings
        self._budget = budget
        self._values = values
        self._sent = {sent} if sent else set[str]()

    def authorize(self, challenge: Challenge | None = None) -> Steps[Fields | None]:
        """Make the fields that carry credentials for the next send.

        Args:
            challenge: The challenge to answer, None to use a nonce from the cache.

        Returns:
            The fields, None when there is no nonce to sign with: the request is then sent without, to be
            challenged.

        Raises:
            BodyError: If the body cannot be digested.
            WorkTimeoutError: If the work of this call has taken all the time there is.
        """
        body, settings, target = self._body, self._settings, self.target
        digest = body.digested()
        if isinstance(digest, Step):
            digest = yield digest
        action = settings.action(target.method, target.path)
        if action not in ACTIONS:
            raise ArgumentError(f"an action is one of {', '.join(ACTIONS)}, not {action!r}")
        path = target.path
        signed_path = mapped_path(settings.signed_path, path)
        request = SignedRequest(
            target.method, target.origin.authority, path, target.query, signed_path, self._values, digest
        )
        if challenge is not None:
            return (yield from self._answer(challenge, request))
        while True:
            held = settings.take(target.origin, action)
            if isinstance(held, Step):
                held = yield held
            if held is None:
                return None
            # A cache shared with other settings may hold nonces that do not fit these.
            work = settings.assess(held.terms).work
            if work is not None:
                self._sent.add(held.nonce)
                credentials = Credentials(work.scheme, settings.public_key, held.nonce, held.terms.dialect)
                return (yield from self._sign(request, work, credentials, held.terms.profile))

    def receive(
        self, status: int, fields: FieldValues, reason: str = "", *, was_signed: bool = True
    ) -> Received:
        """Read a response to what was sent.

        Args:
            status: Its status code.
            fields: Its header fields.
            reason: The reason in a 401's body, where the leaf has read it (see `was_sent`).
            was_signed: Whether the request it answers carried credentials; after a redirect back it may not.

        Returns:
            The next nonces to remember, and the challenge to answer or the reason why none can be: it
            is malformed, unsupported or beyond the limits.
        """
        nonces = self._harvest(fields)
        self._round_trips += 1
        self._reason = reason if status == 401 else ""
        self._next_nonces += len(nonces)
        if status != 401 or self._is_final(reason, was_signed=was_signed):
            return Received(nonces)
        try:
            values, fallback = (fields(name) for name in CHALLENGE_FIELDS)
            challenge = self._choose(read_challenges(values, fallback, self._settings.profiles))
        except TunedDigestError as error:
            return Received(nonces, problem=error)
        if challenge is None or challenge.nonce in self._sent:
            return Received(nonces)
        return Received(nonces, challenge)

    @property
    def was_sent(self) -> bool:
        """Tell whether credentials were sent: the reason of a 401 decides what happens next."""
        return bool(self._sent)

    def is_refused_by(self, reason: str) -> bool:
        """Tell whether a 401 refuses an answer, rather than a nonce that has gone stale.

        Args:
            reason: The reason in its body.

        Returns:
            True after an answer; after the first one only where the reason is none that may pass.
        """
        return self.answers > 1 or (self.answers == 1 and reason not in _TRANSIENT_REASONS)

    @property
    def body_size(self) -> int:
        """Count the bytes of the body, once it was digested."""
        return self._body.size

    @property
    def report(self) -> events.Report:
        """Say what it took so far."""
        scheme = self._work.scheme if self._work else ""
        return events.Report(
            self._round_trips, scheme, self._work, self._seconds, self._reason, self._next_nonces
        )

    def _is_final(self, reason: str, *, was_signed: bool) -> bool:
        """Apply section 7: one challenge is answered, and once more after a reason that may pass."""
        if self._challenges == _MAX_CHALLENGES or self.answers > 1:
            return True
        return was_signed and self.is_refused_by(reason)

    def _harvest(self, fields: FieldValues) -> list[NextNonce]:
        settings, origin = self._settings, self.target.origin
        values, repeated = fields(NEXT_NONCE_FIELDS[0]), fields(NEXT_NONCE_FIELDS[1])
        if not values and not repeated:
            return []
        nonces, dropped = settings.reader.read(values, repeated)
        for drop in dropped:
            settings.emit(events.NextNonceDropped(origin, drop.field, drop.problem))
        usable = list[NextNonce]()
        for nonce in nonces:  # one that no request could be signed under is left out: the challenge says why
            assessment = settings.assess(nonce.terms)
            if assessment.work is not None:
                usable.append(nonce)
            elif assessment.problem:
                settings.emit(events.NextNonceDropped(origin, NEXT_NONCE_FIELDS[0], assessment.problem))
        return usable

    def _choose(self, challenges: list[Challenge]) -> Challenge | None:
        """Find the first usable challenge in the order of the preferred schemes."""
        schemes_for = self._settings.schemes_for
        usable = [
            challenge
            for challenge in challenges
            if challenge.work is not None and challenge.scheme in schemes_for(challenge.profile)
        ]
        if usable:
            chosen = min(usable, key=lambda usable: schemes_for(usable.profile).index(usable.scheme))
            assert chosen.work is not None
            self._settings.check(chosen.work)
            return chosen
        if challenges:
            raise _unanswerable(challenges, schemes_for(challenges[0].profile))
        return None

    def _answer(self, challenge: Challenge, request: SignedRequest) -> Steps[Fields | None]:
        """Sign in answer to a challenge, if its nonce was never sent."""
        settings, origin, work = self._settings, self.target.origin, challenge.work
        assert work is not None  # `_choose` hands back no other
        self._challenges += 1
        self._sent.add(challenge.nonce)
        is_fresh = settings.spend(origin, challenge.nonce)
        if isinstance(is_fresh, Step):
            is_fresh = yield is_fresh
        if not is_fresh:
            return None
        if settings.on_event is not None:
            settings.emit(
                events.ChallengeReceived(origin, challenge.scheme, work, challenge.actions, self._reason)
            )
        credentials = Credentials(work.scheme, settings.public_key, challenge.nonce, challenge.dialect)
        fields = yield from self._sign(request, work, credentials, challenge.profile, chained=False)
        self.answers += fields is not None
        return fields

    def _sign(
        self,
        request: SignedRequest,
        work: Work,
        credentials: Credentials,
        profile: Profile,
        *,
        chained: bool = True,
    ) -> Steps[Fields | None]:
        """Prove and sign; None when a search finds nothing, for a fresh challenge."""
        settings, origin, clock = self._settings, self.target.origin, self._settings.clock
        string = profile.work_string(request, credentials)
        is_heard = settings.on_event is not None
        if is_heard:  # the first estimate takes a while
            estimate: float = yield InThread(work.estimate)
            settings.emit(events.WorkStarted(origin, work, estimate, engine()))
        started = clock()
        try:
            response = self._prove(string, work, credentials.nonce)
            credentials.response = (yield response) if isinstance(response, Step) else response
        except ProofNotFoundError:
            return None
        finally:
            seconds = clock() - started
            self._budget.spend(seconds)
        self._seconds += seconds
        self._work = work
        if is_heard:
            settings.emit(events.WorkFinished(origin, work, seconds, engine()))
        signature = settings.sign(profile.signed_bytes(request, credentials))
        credentials.signature = (yield signature) if isinstance(signature, Step) else signature
        if len(credentials.signature) != _SIGNATURE_SIZE:
            raise ArgumentError(
                f"a signer's signature has {_SIGNATURE_SIZE} bytes, not {len(credentials.signature)}"
            )
        if is_heard:
            settings.emit(events.RequestSigned(origin, request.method, work.scheme, chained))
        return profile.write(request, credentials)

    def _prove(self, string: bytes, work: Work, nonce: str) -> str | Step:
        """Do quick work at once, and all other in its turn."""
        salt, left = draw_salt(self._settings.randomness), self._budget.draw()
        if work.is_quick:
            return prove(string, work, nonce=nonce, salt=salt)
        job = Job(self._progress_of(work))
        return Limited(
            work.prove(string, nonce=nonce, salt=salt, job=job),
            work,
            share=self.target.origin,
            allowance=self._settings.allowance,
            seconds=left,
            abandon=job.cancel,
        )

    def _progress_of(self, work: Work) -> Callable[[int], None] | None:
        """Make what reports a search's progress, where somebody listens."""
        origin, emit = self.target.origin, self._settings.on_event
        if emit is None:
            return None

        def progressed(tried: int) -> None:
            if tried % _TRIES_PER_EVENT == 0:
                emit(events.WorkProgressed(origin, work, tried))

        return progressed


def _unanswerable(challenges: Sequence[Challenge], answered: Sequence[str]) -> UnsupportedAlgorithmError:
    """Say what the server offers, and why none of it is answered."""
    offered = ", ".join(
        f"{challenge.scheme} with {challenge.algorithm[:_SHOWN]!r}" for challenge in challenges
    )
    message = f"the server offers {offered}; this client answers {', '.join(answered)}"
    left = next((challenge for challenge in challenges if challenge.work is not None), None)
    if left is not None and left.scheme in left.profile.schemes:
        message += f". Add {left.scheme!r} to the auth object's schemes, or pass none"
    elif left is not None:
        message += (
            f". {left.scheme} is answered only where the caller names it, because a hostile server can fit "
            f"other requests to its signature: if you trust this server, pass schemes=[{left.scheme!r}], and "
            "use a key that no other server knows"
        )
    return UnsupportedAlgorithmError(message, algorithm=challenges[0].algorithm)
