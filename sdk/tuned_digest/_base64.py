"""Base64 as the scheme writes and reads it (section 8)."""

from __future__ import annotations

__all__ = ["decode_base64", "encode_base64"]

import binascii
import re

from .errors import MalformedFieldError

_STANDARD = re.compile(r"[A-Za-z0-9+/]*+={0,2}+")
_URL_SAFE = re.compile(r"[A-Za-z0-9_-]*+={0,2}+")


# The characters that the text of so many bytes more than a multiple of 3 can end with: the bits beyond its
# last byte are zero (RFC 4648 section 3.5). Both alphabets have the same ones.
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_LAST = {0: _ALPHABET, 2: _ALPHABET[::16], 3: _ALPHABET[::4]}


def encode_base64(octets: bytes) -> str:
    """Write bytes in the standard alphabet without padding.

    Args:
        octets: The bytes.

    Returns:
        The text.
    """
    return binascii.b2a_base64(octets, newline=False).rstrip(b"=").decode("ascii")


def decode_base64(text: str, field: str, name: str) -> bytes:
    """Read base64 in either alphabet, padding optional, and nothing that is not canonical.

    Args:
        text: The text.
        field: The header field it stands in, for the error.
        name: The parameter it is the value of, for the error.

    Returns:
        The bytes.

    Raises:
        MalformedFieldError: If a character, the length or a trailing bit is not base64's.
    """
    problem = f"{field}: {name} is not base64"
    if not (_STANDARD.fullmatch(text) or _URL_SAFE.fullmatch(text)):
        raise MalformedFieldError(problem, field=field)
    stripped = text.rstrip("=").replace("-", "+").replace("_", "/")
    if len(stripped) % 4 == 1 or ("=" in text and len(text) % 4):
        raise MalformedFieldError(f"{problem}: the length is impossible", field=field)
    if stripped and stripped[-1] not in _LAST[len(stripped) % 4]:
        raise MalformedFieldError(f"{problem}: its trailing bits are not zero", field=field)
    return binascii.a2b_base64(stripped + "=" * (-len(stripped) % 4))
