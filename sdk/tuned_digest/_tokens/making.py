"""A token as a client makes it (tokens.md section 1).

The parts are joined here and not by joserfc, since a key may be held elsewhere and reached by awaiting; the
format is three texts with two dots (RFC 7515 section 7.1).
"""

from __future__ import annotations

__all__ = ["TokenRequest", "base64url", "encoded", "signature_problem"]

import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import ArgumentError

# RFC 8037 section 3.1 and RFC 7518 section 3.4; an RSA signature is as long as its key.
_SIGNATURE_SIZES = {"Ed25519": 64, "ES256": 64, "ES384": 96}

_JSON = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """Say what a token is for, to functions that add claims or header parameters.

    Args:
        method: The request's method.
        origin: Scheme, host and port, such as ``https://api.example.com``.
        path: The path on the wire, percent-encoded.
        query: The query on the wire, without its question mark.
        now: The time, whole seconds since 1970.
        body_sha256: SHA-256 of the body, 32 bytes; empty for a token that is reused.
    """

    method: str
    origin: str
    path: str
    query: str
    now: int
    body_sha256: bytes = field(repr=False)


def base64url(octets: bytes) -> str:
    """Write bytes as tokens have them (RFC 7515 section 2).

    Args:
        octets: The bytes.

    Returns:
        The text, without padding.
    """
    encoded = binascii.b2a_base64(octets, newline=False).rstrip(b"=")
    return encoded.translate(_URL_SAFE).decode("ascii")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def encoded(members: Mapping[str, object], what: str) -> str:
    """Write a header or claims as a part of a token.

    Args:
        members: Names and values.
        what: What they are, for the error.

    Returns:
        The part.

    Raises:
        ArgumentError: If a value is none of JSON's.
    """
    try:
        return base64url(_JSON.encode(members).encode("ascii"))
    except (TypeError, ValueError, RecursionError) as error:
        raise ArgumentError(f"{what} have values that JSON has, as text and numbers: {error}") from None


def signature_problem(algorithm: str, signature: object) -> str:
    """Say what is wrong with what a signer gave.

    Args:
        algorithm: What it signs by.
        signature: The signature.

    Returns:
        The problem; empty where there is none.
    """
    if not isinstance(signature, bytes):
        return f"a signer's sign returns bytes, not {type(signature).__name__}"
    size = _SIGNATURE_SIZES.get(algorithm, len(signature))
    if len(signature) == size and signature:
        return ""
    hint = "; write R and S one after the other, not DER" if algorithm.startswith("ES") else ""
    return f"an {algorithm} signature has {size or 'some'} bytes, and the signer gave {len(signature)}{hint}"
