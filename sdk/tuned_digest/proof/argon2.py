"""The Argon2 digest of a request string (section 4, RFC 9106)."""

from __future__ import annotations

__all__ = ["SALT_SIZE", "argon2_response", "draw_salt", "verify_argon2"]

import hmac
from collections.abc import Callable

from .._grammar import decode_base64, encode_base64
from ..errors import ArgumentError, MalformedFieldError, ProofError
from ..tuning import Tuning
from .engines import Engine
from .job import Job

SALT_SIZE = 16  # bytes, section 4
_SALT_SIZES = range(8, 49)  # bytes accepted, section 4
_HASH_SIZE = 32  # bytes, section 4


def draw_salt(randomness: Callable[[int], bytes]) -> bytes:
    """Draw a salt whose base64 cannot be mistaken for a search's response.

    Args:
        randomness: Gives that many random bytes.

    Returns:
        16 bytes.
    """
    while True:
        salt = randomness(SALT_SIZE)
        if not encode_base64(salt).startswith("blake3"):
            return salt


def argon2_response(engine: Engine, request_string: bytes, tuning: Tuning, salt: bytes, job: Job) -> str:
    """Digest a request string.

    Args:
        engine: What does the work.
        request_string: The request string (section 3).
        tuning: The parameters.
        salt: 8 to 48 bytes.
        job: Watches and stops the work.

    Returns:
        ``b64(salt)$b64(hash)``.

    Raises:
        ArgumentError: If the salt is shorter or longer.
    """
    if len(salt) not in _SALT_SIZES:
        raise ArgumentError(
            f"a salt has {_SALT_SIZES.start} to {_SALT_SIZES.stop - 1} bytes, not {len(salt)}"
        )
    return f"{encode_base64(salt)}${encode_base64(engine.digest(request_string, tuning, salt, job))}"


def verify_argon2(engine: Engine, request_string: bytes, tuning: Tuning, response: str) -> None:
    """Digest a request string again and compare, in constant time.

    Args:
        engine: What does the work.
        request_string: The request string as the server builds it.
        tuning: The parameters stored with the nonce.
        response: The response presented.

    Raises:
        ProofError: If the response is malformed or of another request.
    """
    salt_text, _, hash_text = response.partition("$")
    try:
        salt = decode_base64(salt_text, "response", "salt")
        presented = decode_base64(hash_text, "response", "hash")
    except MalformedFieldError as error:
        raise ProofError(str(error)) from None
    if len(salt) not in _SALT_SIZES or len(presented) != _HASH_SIZE:
        raise ProofError("response: the salt or the hash has an impossible size")
    if not hmac.compare_digest(presented, engine.digest(request_string, tuning, salt, Job())):
        raise ProofError("the response is not the digest of this request")
