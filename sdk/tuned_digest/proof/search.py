"""The BLAKE3 search over a request string (section 4)."""

from __future__ import annotations

__all__ = ["search_response", "verify_search"]

import re

from ..errors import ProofError, ProofNotFoundError
from ..tuning import SearchCost
from .engines import Engine
from .job import Job

_CANDIDATES = 2**32  # section 4: n is an unsigned 32-bit number

_RESPONSE = re.compile(r"blake3\$(0|[1-9][0-9]{0,9})\$([A-Za-z0-9+/=_-]++)")


def search_response(
    engine: Engine,
    request_string: bytes,
    cost: SearchCost,
    nonce: str,
    job: Job,
    *,
    candidates: int = _CANDIDATES,
) -> str:
    """Find the smallest number whose digest with the request string starts with enough zero bits.

    Args:
        engine: What does the work.
        request_string: The request string (section 3).
        cost: The zero bits to find.
        nonce: The nonce, repeated in the response.
        job: Watches and stops the work.
        candidates: How many numbers to try; fewer than 2**32 only in tests.

    Returns:
        ``blake3$n$nonce``.

    Raises:
        ProofNotFoundError: If no number will do.
    """
    number = engine.search(request_string, cost, candidates, job)
    if number is None:
        raise ProofNotFoundError(
            f"no number below {candidates} gives {cost.bits} zero bits: ask for a fresh nonce"
        )
    return f"blake3${number}${nonce}"


def verify_search(engine: Engine, request_string: bytes, cost: SearchCost, response: str, nonce: str) -> None:
    """Check one number with one digest; any number that will do is accepted.

    Args:
        engine: What does the work.
        request_string: The request string as the server builds it.
        cost: The cost stored with the nonce.
        response: The response presented.
        nonce: The nonce presented.

    Raises:
        ProofError: If the response is malformed, repeats another nonce or does not reach the cost.
    """
    match = _RESPONSE.fullmatch(response)
    if match is None or match[2] != nonce or int(match[1]) >= _CANDIDATES:
        raise ProofError("response: not blake3$n$nonce with this nonce")
    if not engine.holds(request_string, cost, int(match[1])):
        raise ProofError(f"the response does not reach {cost.bits} zero bits for this request")
