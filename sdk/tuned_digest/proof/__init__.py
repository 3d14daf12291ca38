"""The slow part: turn a request string into a response, and check one (section 4).

Pure functions of the string, the work and the salt, safe to call from any thread.
"""

from __future__ import annotations

__all__ = ["prove", "verify"]

from collections.abc import Callable

from ..tuning import Tuning, Work
from .argon2 import argon2_response, verify_argon2
from .search import search_response, verify_search


def prove(
    request_string: bytes,
    work: Work,
    *,
    nonce: str,
    salt: bytes,
    on_turn: Callable[[int], None] | None = None,
) -> str:
    """Do the work for one request.

    Args:
        request_string: The request string (section 3).
        work: An Argon2 tuning or a search cost.
        nonce: The nonce, repeated in a search's response.
        salt: The salt of an Argon2 digest, 8 to 48 bytes; a search uses none.
        on_turn: Called between the tries of a search with how many were made; what it raises ends it.
            An Argon2 digest cannot be watched.

    Returns:
        The response.

    Raises:
        ArgumentError: If the salt is too short or too long.
        ProofNotFoundError: If a search finds nothing.
    """
    if isinstance(work, Tuning):
        return argon2_response(request_string, work, salt)
    return search_response(request_string, work, nonce, on_turn=on_turn)


def verify(request_string: bytes, work: Work, response: str, *, nonce: str) -> None:
    """Check that a response is the work for one request.

    Args:
        request_string: The request string as the server builds it.
        work: The work stored with the nonce, never the client's.
        response: The response presented.
        nonce: The nonce presented.

    Raises:
        ProofError: If it is not.
    """
    if isinstance(work, Tuning):
        verify_argon2(request_string, work, response)
    else:
        verify_search(request_string, work, response, nonce)
