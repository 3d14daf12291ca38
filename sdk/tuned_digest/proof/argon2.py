"""The Argon2 digest of a request string (section 4, RFC 9106)."""

from __future__ import annotations

__all__ = ["SALT_SIZE", "argon2_response", "draw_salt", "verify_argon2"]

import hmac
from collections.abc import Callable

from argon2.low_level import ARGON2_VERSION, Type, core, error_to_str, ffi

from .._grammar import decode_base64, encode_base64
from .._machine import usable_cores
from ..errors import ArgumentError, MalformedFieldError, ProofError, TunedDigestError
from ..tuning import Tuning

SALT_SIZE = 16  # bytes, section 4
_SALT_SIZES = range(8, 49)  # bytes accepted, section 4
_HASH_SIZE = 32  # bytes, section 4
_TYPES = {"argon2d": Type.D, "argon2i": Type.I, "argon2id": Type.ID}


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


def argon2_response(request_string: bytes, tuning: Tuning, salt: bytes) -> str:
    """Digest a request string.

    Args:
        request_string: The request string (section 3).
        tuning: The parameters.
        salt: 8 to 48 bytes.

    Returns:
        ``b64(salt)$b64(hash)``.

    Raises:
        ArgumentError: If the salt is shorter or longer.
    """
    if len(salt) not in _SALT_SIZES:
        raise ArgumentError(
            f"a salt has {_SALT_SIZES.start} to {_SALT_SIZES.stop - 1} bytes, not {len(salt)}"
        )
    return f"{encode_base64(salt)}${encode_base64(_digest(request_string, tuning, salt))}"


def verify_argon2(request_string: bytes, tuning: Tuning, response: str) -> None:
    """Digest a request string again and compare, in constant time.

    Args:
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
    if not hmac.compare_digest(presented, _digest(request_string, tuning, salt)):
        raise ProofError("the response is not the digest of this request")


def _digest(request_string: bytes, tuning: Tuning, salt: bytes) -> bytes:
    # argon2-cffi's simpler call starts a thread for each lane. More threads than cores are slower, and
    # keep an event loop in another thread waiting; the digest is the same whatever their number.
    threads = min(tuning.lanes, usable_cores()) if tuning.lanes > 1 else 1
    digest = ffi.new("uint8_t[]", _HASH_SIZE)
    password, salted = ffi.new("uint8_t[]", request_string), ffi.new("uint8_t[]", salt)
    context = ffi.new(
        "argon2_context *",
        {
            "out": digest,
            "outlen": _HASH_SIZE,
            "version": ARGON2_VERSION,
            "pwd": password,
            "pwdlen": len(request_string),
            "salt": salted,
            "saltlen": len(salt),
            "t_cost": tuning.passes,
            "m_cost": tuning.memory_kib,
            "lanes": tuning.lanes,
            "threads": threads,
        },
    )
    problem = core(context, _TYPES[tuning.variant].value)
    if problem:
        raise TunedDigestError(f"Argon2 with {tuning} failed: {error_to_str(problem)}")
    return bytes(ffi.buffer(digest))
