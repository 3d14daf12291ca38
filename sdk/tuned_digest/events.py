"""What happened while requests were signed, typed and without secrets.

Pass a callable as ``on_event``; it is called where the request is being signed, in the caller's thread
or task, and must not block.
"""

from __future__ import annotations

__all__ = [
    "ChallengeReceived",
    "Event",
    "NextNonceDropped",
    "RequestSigned",
    "WorkFinished",
    "WorkStarted",
]

from dataclasses import dataclass

from .origins import Origin
from .tuning import Work


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
    """

    work: Work


@dataclass(frozen=True, slots=True)
class WorkFinished(Event):
    """Report that the work for a request is done.

    Args:
        origin: The origin the request goes to.
        work: The tuning or the cost.
        seconds: How long it took, the wait for a place included.
    """

    work: Work
    seconds: float


@dataclass(frozen=True, slots=True)
class RequestSigned(Event):
    """Report that a request carries an Authorization field.

    Args:
        origin: The origin the request goes to.
        method: The request's method.
        scheme: The scheme it is signed under.
        chained: True under a next nonce, False in answer to a challenge.
    """

    method: str
    scheme: str
    chained: bool


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
