"""What happened while requests were signed, typed and without secrets.

Pass a callable as ``on_event``; it is called where the request is being signed, in the caller's thread
or task, and must not block. `WorkProgressed` alone comes from the thread that does the work.

What became of a request is on its response, as a `Report`: ``response.extensions["tuned_digest"]`` in
httpx, ``response.tuned_digest`` in requests.
"""

from __future__ import annotations

__all__ = [
    "ChallengeReceived",
    "ClockAdjusted",
    "Event",
    "NextNonceDropped",
    "Report",
    "RequestSigned",
    "WorkFinished",
    "WorkProgressed",
    "WorkStarted",
]

from dataclasses import dataclass
from typing import NamedTuple

from ._wire.origins import Origin
from .proof import Work


@dataclass(frozen=True, slots=True)
class Event:
    """Stand at the root of all events.

    Args:
        origin: The origin the request goes to.
    """

    origin: Origin


@dataclass(frozen=True, slots=True)
class ChallengeReceived(Event):
    """Report a 401 that is going to be answered.

    Args:
        origin: The origin the request goes to.
        scheme: The scheme it is answered under.
        work: What it asks for.
        actions: The actions its nonce is good for.
        reason: Why an answer before this one was not accepted, empty for the first challenge.
    """

    scheme: str
    work: Work
    actions: frozenset[str]
    reason: str


@dataclass(frozen=True, slots=True)
class WorkStarted(Event):
    """Report that the work for a request begins, or queues for a place.

    Args:
        origin: The origin the request goes to.
        work: The tuning or the cost.
        estimate: Seconds it takes on this machine when nothing else runs; a search on average.
        engine: What does it, see `tuned_digest.proof.engine`.
    """

    work: Work
    estimate: float
    engine: str


@dataclass(frozen=True, slots=True)
class WorkProgressed(Event):
    """Report how far a search is, some ten or twenty times a second, from the thread that searches.

    Args:
        origin: The origin the request goes to.
        work: The cost.
        tried: Numbers tried so far; it takes two to the power of the cost's bits on average.
    """

    work: Work
    tried: int


@dataclass(frozen=True, slots=True)
class WorkFinished(Event):
    """Report that the work for a request is done.

    Args:
        origin: The origin the request goes to.
        work: The tuning or the cost.
        seconds: How long it took, the wait for a place included.
        engine: What did it, see `tuned_digest.proof.engine`.
    """

    work: Work
    seconds: float
    engine: str


@dataclass(frozen=True, slots=True)
class RequestSigned(Event):
    """Report that a request carries an Authorization field.

    Args:
        origin: The origin the request goes to.
        method: The request's method.
        scheme: The scheme it is signed under.
        chained: True under a next nonce, False in answer to a challenge or with a token.
    """

    method: str
    scheme: str
    chained: bool


@dataclass(frozen=True, slots=True)
class ClockAdjusted(Event):
    """Report that a token is signed once more by a server's clock, since this machine's seems to be off.

    Args:
        origin: The origin the request goes to.
        seconds: How far its clock is ahead; negative where it is behind.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class NextNonceDropped(Event):
    """Report a next nonce that was not stored.

    Args:
        origin: The origin that sent it.
        field: The field it stood in.
        problem: What was wrong with it.
    """

    field: str
    problem: str


class Report(NamedTuple):
    """Say what it took to have a request answered; the same request after a redirect has one of its own.

    Args:
        round_trips: Requests sent, unsigned ones included; not those that asked for a nonce before a
            large body.
        scheme: The scheme the last of them was signed under, empty when none was.
        work: The tuning or the cost of the last one, None when none was signed.
        seconds: How long all their work took, the waits for a place included.
        reason: Why the server refused the request, in its own words; empty when it did not, or did not say.
        next_nonces: Nonces for later requests that the responses brought.
    """

    round_trips: int = 0
    scheme: str = ""
    work: Work | None = None
    seconds: float = 0.0
    reason: str = ""
    next_nonces: int = 0
