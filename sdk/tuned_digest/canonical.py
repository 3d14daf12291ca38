"""A request's facts become the request string (section 3).

Client and server both build it here, from what stands on the wire: nothing is decoded, encoded or
normalised on the way.
"""

from __future__ import annotations

__all__ = ["body_digest", "is_signable", "path_of", "request_string"]

from blake3 import blake3

from ._grammar import encode_base64
from .errors import ArgumentError

# Section 3: never signed, because the target is not a path of the origin (CONNECT) or is answered by
# whoever is on the way (TRACE).
_UNSIGNED_METHODS = frozenset({"CONNECT", "TRACE"})


def body_digest(body: bytes) -> bytes:
    """Digest a body as it is sent.

    Args:
        body: The bytes after content coding, before transfer coding; empty when there is none.

    Returns:
        BLAKE3-256 of them, 32 bytes.
    """
    return blake3(body).digest()


def path_of(target: str) -> str:
    """Take the path out of a request target.

    Args:
        target: The target on the request line, percent-encoding as it is.

    Returns:
        The part before the query and the fragment, ``/`` when empty.
    """
    return target.partition("#")[0].partition("?")[0] or "/"


def is_signable(method: str, path: str) -> bool:
    """Tell whether a request is one the scheme signs.

    Args:
        method: The method on the request line.
        path: The path on the wire.

    Returns:
        False for CONNECT, TRACE and ``OPTIONS *``.
    """
    return method not in _UNSIGNED_METHODS and path != "*"


def request_string(nonce: str, method: str, path: str, digest: bytes) -> bytes:
    """Build the string that the work is done on, deployed profile.

    Args:
        nonce: The nonce exactly as received.
        method: The method as on the request line, upper case.
        path: The signed path, starting with ``/``.
        digest: BLAKE3-256 of the body, 32 bytes.

    Returns:
        ``nonce:METHOD:path:b64(digest)``.

    Raises:
        ArgumentError: If the path does not start with ``/`` or is not ASCII.
    """
    if not path.startswith("/") or not path.isascii():
        raise ArgumentError(f"a signed path starts with / and is percent-encoded, unlike {path!r}")
    return f"{nonce}:{method}:{path}:{encode_base64(digest)}".encode()
