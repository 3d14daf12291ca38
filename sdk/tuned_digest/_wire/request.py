"""What both ends know of a request: the client before it is sent, the server before its body (section 3)."""

from __future__ import annotations

__all__ = [
    "FieldValues",
    "SignedRequest",
    "has_dot_segments",
    "is_method",
    "is_signable",
    "mapped_path",
    "split_target",
]

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import unquote

from ..errors import ArgumentError

# Section 10, step 1: a token of RFC 9110 section 5.6.2, upper case as on the request line.
_METHOD = re.compile(r"[A-Z0-9!#$%&'*+.^_`|~-]+")

# Section 3: never signed, because the target is not a path of the origin (CONNECT) or is answered by
# whoever is on the way (TRACE).
_UNSIGNED_METHODS = frozenset({"CONNECT", "TRACE"})

_DOTS = frozenset({".", ".."})  # the dot segments of RFC 3986 section 3.3


class FieldValues(Protocol):
    """Give the values of a header field, one for each line, in any letter case."""

    def __call__(self, name: str, /) -> Sequence[str]:
        """Look a field up.

        Args:
            name: The field's name.

        Returns:
            Its values, empty when it is absent.
        """
        ...


@dataclass(slots=True)
class SignedRequest:
    """Hold the facts of a request that a profile may sign.

    Args:
        method: The method on the request line, upper case.
        authority: Host and port, as the client has them or the Host field says.
        path: The path on the wire, percent-encoded, ``/`` when empty.
        query: The query on the wire, without its question mark.
        signed_path: The path that the deployed profile signs, behind a prefix or as on the wire.
        values: The header fields.
        digest: BLAKE3-256 of the body as sent, 32 bytes; empty on a server that has not read it.
    """

    method: str
    authority: str
    path: str
    query: str
    signed_path: str
    values: FieldValues
    digest: bytes = b""


def split_target(target: str) -> tuple[str, str]:
    """Cut a request target into path and query.

    Args:
        target: The target on the request line, percent-encoding as it is; a fragment is left out.

    Returns:
        The path, ``/`` when empty, and the query without its question mark.
    """
    path, _, query = target.partition("#")[0].partition("?")
    return path or "/", query


def is_method(method: str) -> bool:
    """Tell whether a method is an upper-case token.

    Args:
        method: The method on the request line.

    Returns:
        True when it is.
    """
    return _METHOD.fullmatch(method) is not None


def is_signable(method: str, path: str) -> bool:
    """Tell whether a request is one the scheme signs.

    Args:
        method: The method on the request line.
        path: The path on the wire.

    Returns:
        False for CONNECT, TRACE and ``OPTIONS *``.
    """
    return method not in _UNSIGNED_METHODS and path != "*"


def has_dot_segments(path: str) -> bool:
    """Tell whether a path has segments that some servers remove (RFC 3986 section 5.2.4), encoded or not.

    Args:
        path: The path on the wire.

    Returns:
        True when a segment is ``.`` or ``..``.
    """
    return ("." in path or "%2" in path) and not _DOTS.isdisjoint(unquote(path).split("/"))


def mapped_path(signed_path: Callable[[str], str] | None, path: str) -> str:
    """Map the path on the wire to the path that is signed.

    Args:
        signed_path: The mapping, None for the same path.
        path: The path on the wire.

    Returns:
        The signed path, ``/`` when empty.

    Raises:
        ArgumentError: If the mapping gives something else than text.
    """
    if signed_path is None:
        return path
    mapped = signed_path(path)
    if not isinstance(mapped, str):
        raise ArgumentError(
            f"signed_path returns the path to sign, a str; for {path!r} it returned {mapped!r}"
        )
    return mapped or "/"
