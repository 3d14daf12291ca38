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
    if len(public_key) != _PUBLIC_KEY_SIZE:
        raise IdentityError(f"an identity has {_PUBLIC_KEY_SIZE} bytes, not {len(public_key)}")
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y >= _P:
        raise IdentityError("the identity is not canonical")
    if y in _SMALL_ORDER_Y:
        raise IdentityError("the identity is a point of small order")
    # On the curve x*x = (y*y - 1) / (d*y*y + 1); by Euler's criterion that is a square exactly when the
    # product of the two is (RFC 8032 section 5.1.3).
    square = (y * y - 1) * (_D * y * y + 1) % _P
    if pow(square, (_P - 1) // 2, _P) != 1:
        raise IdentityError("the identity is not a point of the curve")


def verify_signature(public_key: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature by an identity that `verify_identity` accepts.

    Args:
        public_key: The raw public key, 32 bytes.
        message: The bytes that were signed.
        signature: The signature, 64 bytes.

    Raises:
        SignatureError: If it is not that key's signature over these bytes.
    """
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise SignatureError("the signature is not the identity's over these bytes") from None
