"""The BLAKE3 search over a request string (section 4)."""

from __future__ import annotations

__all__ = ["search_response", "verify_search"]

import re
import time
from collections.abc import Callable

from blake3 import blake3

from ..errors import ProofError, ProofNotFoundError
from ..tuning import SearchCost

_CANDIDATES = 2**32  # section 4: n is an unsigned 32-bit number
_PREFIX_SIZE = 4  # bytes of the digest that the zero bits are counted in

# Giving the GIL away every 256 tries, about 0.2 ms, keeps an event loop in another thread free; a search
# that nobody waits for any more ends as soon.
_TRIES_PER_TURN = 256

_RESPONSE = re.compile(r"blake3\$(0|[1-9][0-9]{0,9})\$([A-Za-z0-9+/=_-]++)")


def search_response(
    request_string: bytes,
    cost: SearchCost,
    nonce: str,
    *,
    on_turn: Callable[[int], None] | None = None,
    candidates: int = _CANDIDATES,
) -> str:
    """Find the smallest number whose digest with the request string starts with enough zero bits.

    Args:
        request_string: The request string (section 3).
        cost: The zero bits to find.
        nonce: The nonce, repeated in the response.
        on_turn: Called between tries with how many were made; what it raises ends the search.
        candidates: How many numbers to try; fewer than 2**32 only in tests.

    Returns:
        ``blake3$n$nonce``.

    Raises:
        ProofNotFoundError: If no number will do.
    """
    prefix = blake3(request_string)
    ceiling = (1 << (32 - cost.bits)).to_bytes(_PREFIX_SIZE, "big")  # compares as the number does
    for first in range(0, candidates, _TRIES_PER_TURN):
        for n in range(first, min(first + _TRIES_PER_TURN, candidates)):
            attempt = prefix.copy()
            attempt.update(n.to_bytes(4, "little"))
            if attempt.digest(length=_PREFIX_SIZE) < ceiling:
                return f"blake3${n}${nonce}"
        if on_turn is not None:
            on_turn(min(first + _TRIES_PER_TURN, candidates))
        time.sleep(0)
    raise ProofNotFoundError(
        f"no number below {candidates} gives {cost.bits} zero bits: ask for a fresh nonce"
    )


def verify_search(request_string: bytes, cost: SearchCost, response: str, nonce: str) -> None:
    """Check one number with one digest; any number that will do is accepted.

    Args:
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
    digest = blake3(request_string + int(match[1]).to_bytes(4, "little")).digest(length=_PREFIX_SIZE)
    if int.from_bytes(digest, "big") >> (32 - cost.bits):
        raise ProofError(f"the response does not reach {cost.bits} zero bits for this request")
