"""The slow part: turn a request string into a response, and check one (section 4).

Safe to call from any thread. The work is done by the native companion where it is installed, see `engine`.
"""

from __future__ import annotations

__all__ = ["Job", "SearchCost", "Tuning", "Work", "engine", "prove", "verify"]

from .._runtime.steps import drained
from .argon2 import Tuning
from .engines import chosen
from .job import Job
from .search import SearchCost
from .work import Work


def engine() -> str:
    """Name what does the work: ``tuned-digest-native`` with its kernel, or ``argon2-cffi, blake3``.

    Returns:
        The name, the same for the life of the process.

    Raises:
        ArgumentError: If ``TUNED_DIGEST_KERNEL`` asks for a kernel the processor does not have.
    """
    return chosen().name


def prove(request_string: bytes, work: Work, *, nonce: str, salt: bytes, job: Job | None = None) -> str:
    """Do the work for one request.

    Args:
        request_string: The request string (section 3).
        work: An Argon2 tuning or a search cost.
        nonce: The nonce, repeated in a search's response.
        salt: The salt of an Argon2 digest, 8 to 48 bytes; a search uses none.
        job: Watches and stops the work; without the native companion a running Argon2 digest cannot be.

    Returns:
        The response.

    Raises:
        ArgumentError: If the salt is too short or too long.
        ProofAbandonedError: If the job was cancelled.
        ProofNotFoundError: If a search finds nothing.
    """
    return drained(work.prove(request_string, nonce=nonce, salt=salt, job=job or Job()))


def verify(request_string: bytes, work: Work, response: str, *, nonce: str, job: Job | None = None) -> None:
    """Check that a response is the work for one request.

    Args:
        request_string: The request string as the server builds it.
        work: The work stored with the nonce, never the client's.
        response: The response presented.
        nonce: The nonce presented.
        job: Stops the check where the engine can.

    Raises:
        ProofError: If it is not.
        ProofAbandonedError: If the job was cancelled.
    """
    work.verify(request_string, response, nonce=nonce, job=job or Job())
