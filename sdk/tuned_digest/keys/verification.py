"""Identities and signatures, checked (section 10, step 2; RFC 8032).

What does not verify raises: there is no bool that could be forgotten.
"""

from __future__ import annotations

__all__ = ["verify_identity", "verify_signature"]

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ..errors import IdentityError, SignatureError

_PUBLIC_KEY_SIZE = 32  # bytes, RFC 8032 section 5.1.5

_P = 2**255 - 19  # the field, RFC 8032 section 5.1
_D = -121665 * pow(121666, -1, _P) % _P  # the curve's constant, RFC 8032 section 5.1
_ORDER_8_Y = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The y coordinates of the eight points whose order divides 8; a signature under one of them needs no key.
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})


def verify_identity(public_key: bytes) -> None:
    """Refuse an identity that is not a canonical point, or is one of small order.

    Args:
        public_key: The raw public key.

    Raises:
        IdentityError: If it has not 32 bytes, encodes no point of the curve, encodes one in a second
            way, or is a point whose signatures need no key.
    """
    y = _canonical_y(public_key)
    _require_point(y)


def _canonical_y(public_key: bytes) -> int:
    """Read the y coordinate of a usable encoding."""
    if len(public_key) != _PUBLIC_KEY_SIZE:
        raise IdentityError(f"an identity has {_PUBLIC_KEY_SIZE} bytes, not {len(public_key)}")
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y >= _P:
        raise IdentityError("the identity is not canonical")
    if y in _SMALL_ORDER_Y:
        raise IdentityError("the identity is a point of small order")
    return y


def _require_point(y: int) -> None:
    """Refuse a y coordinate that no point of the curve has."""
    # On the curve x*x = (y*y - 1) / (d*y*y + 1); by Euler's criterion that is a square exactly when the
    # product of the two is (RFC 8032 section 5.1.3).
    square = (y * y - 1) * (_D * y * y + 1) % _P
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise IdentityError("the identity is not a point of the curve")


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature, and that its identity is one that `verify_identity` accepts.

    Args:
        public_key: The raw public key, 32 bytes.
        message: The bytes that were signed.
        signature: The signature, 64 bytes.

    Raises:
        IdentityError: If the identity is not usable; see `verify_identity`.
        SignatureError: If it is not that key's signature over these bytes.
    """
    y = _canonical_y(public_key)
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        _require_point(y)  # no signature verifies under what is not a point, so it is asked only here
        raise SignatureError("the signature is not the identity's over these bytes") from None
