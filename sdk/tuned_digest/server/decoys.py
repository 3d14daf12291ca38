"""Keys that nobody has enrolled: a token that names no good key is checked against one, and refused.

Else the time of a refusal would tell which keys are enrolled. So it depends on what the sender knows: the
algorithm that the token names, and its signature.
"""

from __future__ import annotations

__all__ = ["claims_of", "decoy"]

import base64
import functools
from collections.abc import Mapping
from contextlib import suppress

from .._tokens.reading import UNVERIFIED, Claims, Token
from ..errors import TokenError
from ..keys import PublicKey

# Made at random; the private keys were never kept.
_JWKS: Mapping[str, Mapping[str, str]] = {
    "Ed25519": {"kty": "OKP", "crv": "Ed25519", "x": "XpZl8q9QsGZDOJ3N_Y3Eaw2VrUW2EjH1_Q8rgLfXPpY"},
    "ES256": {
        "kty": "EC",
        "crv": "P-256",
        "x": "7lcK1ORptSZa5a26QVCnNVYcvju5PFVDiEys2bqQG9U",
        "y": "qAvITdEEWi79BzY3Zq92CBmc0bsA2_75xbI2pCi_Ft0",
    },
    "ES384": {
        "kty": "EC",
        "crv": "P-384",
        "x": "WBjnwDAUkozRm7bwmsp-xek_CACTaMZIWTaQidu5Fd9de2MTKOpI5eSlX6MjiKzA",
        "y": "XeV44KINGaPY6a6QxHttMw_ghxEgGF7PVjPI3Ctr03XNknhEjaeNW3twwZgbSM51",
    },
}

_RSA_SIZES = (256, 512)  # bytes, the least and the most; tokens.md section 3
_KEPT = 1024  # more than there are: one for each algorithm, for RSA one for each size


def claims_of(token: Token, key: PublicKey | None, reason: str) -> Claims:
    """Check a signature, and read the claims, in a time that does not tell whether there is a key.

    Args:
        token: The token.
        key: The key that its `kid` names; None for one that is unknown or revoked.
        reason: Why there is no key, for log and counters.

    Returns:
        The claims.

    Raises:
        TokenError: If there is no key (step 2), it is for another algorithm (3) or has not signed (4), with
            one message for all three; if the claims cannot be read (5).
    """
    if key is None:
        refusal = _unverified(2, reason)
    elif key.algorithm != token.algorithm:
        refusal = _unverified(3, "wrong algorithm")
    elif not _takes_time(key, token):
        refusal = _unverified(4, "wrong signature")
    else:
        return token.claims_by(key)
    stand_in = decoy(token.algorithm, len(_signature(token)))
    if key is None or key.algorithm != token.algorithm:
        _takes_time(stand_in, token)  # for its own time
    with suppress(TokenError):
        token.claims_by(stand_in)
    raise refusal


def decoy(algorithm: str, size: int = 0) -> PublicKey:
    """Give the key that stands in for one that is not there.

    Args:
        algorithm: What the token says.
        size: Bytes of its signature; an RSA key's are as many as those of its modulus.

    Returns:
        The key.

    Raises:
        MissingExtraError: If joserfc is not installed.
    """
    return _made(algorithm, 0 if algorithm in _JWKS else min(max(size, _RSA_SIZES[0]), _RSA_SIZES[1]))


@functools.lru_cache(maxsize=_KEPT)
def _made(algorithm: str, size: int) -> PublicKey:
    # That modulus is no key's, and need not be: it is odd, and above all signatures of its size but one.
    modulus = base64.urlsafe_b64encode(b"\xff" * size).rstrip(b"=").decode("ascii")
    members = _JWKS.get(algorithm, {"kty": "RSA", "n": modulus, "e": "AQAB"})
    return PublicKey.from_jwk({**members, "alg": algorithm})


def _takes_time(key: PublicKey, token: Token) -> bool:
    """Tell whether a signature takes time to check: OpenSSL refuses some of RSA at once, by the modulus."""
    if key.algorithm in _JWKS:
        return True
    signature = _signature(token)
    modulus: int = key.jose_key.public_key.public_numbers().n
    return len(signature) == -(-modulus.bit_length() // 8) and int.from_bytes(signature) < modulus


def _signature(token: Token) -> bytes:
    signature = token.text.rpartition(".")[2]
    return base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))


def _unverified(step: int, reason: str) -> TokenError:
    return TokenError(UNVERIFIED, step=step, reason=reason)
