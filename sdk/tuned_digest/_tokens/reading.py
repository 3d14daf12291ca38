"""A token as a server reads it, in the order of tokens.md section 2; nothing of it is believed before step 4.

`read_token` is step 1, `Token.claims_by` steps 3 and 4, `check_claims` step 5 and `check_binding` step 6.
The look-up of the key (2) and the store (7) are the caller's. What is refused raises a `TokenError`, which
names the step.

Libraries let through much of what step 1 refuses, so the form is checked here; the signature is joserfc's.
"""

from __future__ import annotations

__all__ = [
    "ALGORITHMS",
    "BINDING_CLAIMS",
    "UNVERIFIED",
    "Claims",
    "Expected",
    "Token",
    "check_binding",
    "check_claims",
    "check_digest",
    "content_digest",
    "read_token",
    "spent_name",
]

import base64
import binascii
import functools
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .._json import read_object
from ..errors import MissingExtraError, TokenError
from ..keys import PublicKey

Claims = Mapping[str, Any]  # JSON: what a claim is, is checked where it is used

ALGORITHMS = ("Ed25519", "ES256", "ES384", "PS256", "RS256")
_ALSO = {"EdDSA": "Ed25519"}  # RFC 8037: the older name (RFC 9864)

# Tokens.md section 2, step 1 and step 7.
_SIZE_LIMIT = 8 * 1024  # characters
_KID_LIMIT = 256  # characters
_JTI_LIMIT = 128  # characters

BINDING_CLAIMS = ("htm", "htu", "content_digest")
"""They come together; ``query`` comes with them where there is one."""

UNVERIFIED = "the key is not accepted, or the signature does not verify"
"""What a client is told, whichever of steps 2 to 4 it was."""

_TIME_LIMIT = 2**53  # beyond it two numbers may be read as one (RFC 7493 section 2.2)

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")  # alg none signs nothing
_LAST = {2: "AQgw", 3: "AEIMQUYcgkosw048"}  # what base64url text can end with: RFC 4648 section 3.5
_CHARACTERS = re.compile(r"[^\ud800-\udfff]*")  # a lone surrogate is no character (RFC 8259 section 8.2)


@dataclass(frozen=True, slots=True)
class Token:
    """Hold a token whose form was checked, and of which nothing is believed.

    Args:
        text: The compact JWS (RFC 7515 section 7.1).
        algorithm: The algorithm that its header names, in the newer spelling.
        kid: The key that its header names.
    """

    text: str = field(repr=False)
    algorithm: str
    kid: str

    def claims_by(self, key: PublicKey) -> Claims:
        """Check the signature, and read the claims.

        Args:
            key: The key that the token's `kid` names.

        Returns:
            The claims.

        Raises:
            TokenError: If the key is for another algorithm (step 3), the signature is not the key's (step 4),
                or the claims are no JSON object that can be read in one way (step 5).
        """
        if self.algorithm != key.algorithm:
            raise TokenError(UNVERIFIED, step=3, reason="wrong algorithm")
        payload = _verified(self.text, key.jose_key)
        return _object(payload, step=5, status=401, what="claims")


def read_token(field_value: str) -> Token:
    """Check the form of a token (step 1).

    Args:
        field_value: What follows ``Bearer`` in the Authorization field.

    Returns:
        The token.

    Raises:
        TokenError: With status 400 for the form, 401 for what the header asks for.
    """
    if len(field_value) > _SIZE_LIMIT:
        raise _malformed(f"the token has more than {_SIZE_LIMIT} characters")
    form = _FORM.fullmatch(field_value)
    if form is None:
        raise _malformed("the token is not three parts of base64url")
    for part in form.groups():
        rest = len(part) % 4
        if rest == 1 or (rest and part[-1] not in _LAST[rest]):
            raise _malformed("a part of the token is not base64url in its one spelling")
    header = _object(_decoded(form[1]), step=1, status=400, what="header")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or (algorithm not in ALGORITHMS and algorithm not in _ALSO):
        raise _refused("the token's algorithm is not accepted")
    if not isinstance(kind, str) or kind.upper() != "JWT":
        raise _refused("the token's typ is not JWT")
    if "crit" in header:
        raise _refused("the token's crit is not understood")
    if not isinstance(kid, str) or not kid or len(kid) > _KID_LIMIT or not _CHARACTERS.fullmatch(kid):
        raise _refused(f"the token's kid is not a text of {_KID_LIMIT} characters at most")
    return Token(field_value, _ALSO.get(algorithm, algorithm), kid)


@dataclass(frozen=True, slots=True)
class Expected:
    """Say what a server expects of the claims (step 5).

    Args:
        audience: What the server calls itself.
        account: The account of the key.
        now: Its clock, seconds since 1970.
        leeway: Seconds that clocks may be apart.
        max_lifetime: Seconds between ``iat`` and ``exp`` at most.
    """

    audience: str
    account: str
    now: float
    leeway: float
    max_lifetime: float


def check_claims(claims: Claims, expected: Expected) -> None:
    """Check whom the token is for, whose it is, and when (step 5).

    Args:
        claims: The claims.
        expected: What the server expects.

    Raises:
        TokenError: If one of them does not hold.
    """
    audience = claims.get("aud")
    names = audience if isinstance(audience, list) else [audience]
    if expected.audience not in [name for name in names if isinstance(name, str)]:
        raise _refused_claims("the token's aud is not this server")
    if claims.get("iss") != expected.account or claims.get("sub") != expected.account:
        raise _refused_claims("the token's iss and sub are not the account of its key")
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    if expires <= expected.now - expected.leeway:
        raise _refused_claims("the token has expired: sign a new one, and check this machine's clock")
    if max(issued, _time(claims, "nbf") if "nbf" in claims else issued) > expected.now + expected.leeway:
        raise _refused_claims("the token is not valid yet: check this machine's clock")
    if expires - issued > expected.max_lifetime:
        raise _refused_claims(f"the token's exp is more than {expected.max_lifetime:g} s after its iat")
    if "jti" in claims:
        name = claims["jti"]
        if not isinstance(name, str) or not 0 < len(name) <= _JTI_LIMIT:
            raise _refused_claims(f"the token's jti is not a text of 1 to {_JTI_LIMIT} characters")


def check_binding(claims: Claims, wanted: Mapping[str, str], *, is_required: bool) -> bool:
    """Check that a token that is bound is bound to this request; `check_digest` checks its body.

    Args:
        claims: The claims.
        wanted: The values that ``htm``, ``htu`` and, where there is one, ``query`` must have.
        is_required: Whether an unbound token is refused.

    Returns:
        Whether the token is bound, so that its body is to be checked with `check_digest`.

    Raises:
        TokenError: If it is bound to another request, in part, or not at all and that is required (step 6).
    """
    present = [name for name in (*BINDING_CLAIMS, "query") if name in claims]
    if not present:
        if is_required:
            raise TokenError("the token is not bound to the request", step=6, reason="token not bound")
        return False
    for name in BINDING_CLAIMS:
        if name not in claims:
            raise TokenError(
                f"the token is bound in part: {name} is missing", step=6, reason="token not bound"
            )
    for name in ("htm", "htu", "query"):
        if (name in claims) != (name in wanted) or claims.get(name) != wanted.get(name):
            raise TokenError(
                f"the token's {name} is not that of this request", step=6, reason="token bound elsewhere"
            )
    return True


def content_digest(digest: bytes) -> str:
    """Write a Content-Digest (RFC 9530 section 2).

    Args:
        digest: SHA-256 of the body, 32 bytes.

    Returns:
        The field's value.
    """
    return f"sha-256=:{binascii.b2a_base64(digest, newline=False).decode('ascii')}:"


def check_digest(claims: Claims, digest: bytes) -> None:
    """Check that a bound token is bound to the request's body (step 6, last).

    Args:
        claims: The claims.
        digest: SHA-256 of the body, 32 bytes.

    Raises:
        TokenError: If it is bound to another body.
    """
    claimed = claims["content_digest"]
    if not isinstance(claimed, str) or not hmac.compare_digest(
        claimed.encode("utf-8", "surrogatepass"), content_digest(digest).encode("ascii")
    ):
        raise TokenError(
            "the token's content_digest is not that of this body", step=6, reason="token bound elsewhere"
        )


def spent_name(token: Token, claims: Claims) -> str:
    """Give the name under which a token is spent (step 7).

    Args:
        token: The token.
        claims: Its claims.

    Returns:
        A digest of ``kid`` and ``jti``, 45 characters: a store is given no text that a client chose.

    Raises:
        TokenError: If there is no ``jti``.
    """
    if "jti" not in claims:
        raise TokenError("the token has no jti", step=7, reason="token without jti")
    digest = hashlib.sha256(json.dumps([token.kid, claims["jti"]]).encode("ascii")).digest()
    return "t." + binascii.b2a_base64(digest, newline=False).rstrip(b"=\n").decode("ascii")


def _time(claims: Claims, name: str) -> float:
    """Read a NumericDate (RFC 7519 section 2)."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _TIME_LIMIT:
        raise _refused_claims(f"the token's {name} is not a number of seconds")
    return value


def _object(octets: bytes, *, step: int, status: int, what: str) -> Claims:
    try:
        return read_object(octets)
    except ValueError as error:
        reason = "malformed token" if status == 400 else "malformed claims"
        raise TokenError(f"the token's {what}: {error}", step=step, status=status, reason=reason) from None


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _verified(text: str, jose_key: Any) -> bytes:
    """Check a signature, and give what it is over (RFC 7515 section 5.2)."""
    jws, registry, errors = _jose()
    try:
        payload: bytes = jws.deserialize_compact(text, jose_key, registry=registry).payload
    except errors.JoseError:
        raise TokenError(UNVERIFIED, step=4, reason="wrong signature") from None
    return payload


@functools.cache
def _jose() -> tuple[Any, Any, Any]:
    try:
        from joserfc import errors, jws  # noqa: PLC0415  # an extra, and 60 ms that other users do without
    except ImportError as error:
        raise MissingExtraError(
            "joserfc is not installed: pip install 'tuned-digest[tokens]'", extra="tokens"
        ) from error

    class Registry(jws.JWSRegistry):
        # What step 1 allows: the library's own limit is 512 bytes.
        max_header_length = _SIZE_LIMIT

        def get_alg(self, name: str) -> Any:
            # Step 1 has checked the name. The library's own method warns of EdDSA, which tokens.md accepts.
            return self.algorithms[name]

    return jws, Registry(strict_check_header=False), errors


def _malformed(message: str) -> TokenError:
    return TokenError(message, step=1, status=400, reason="malformed token")


def _refused(message: str) -> TokenError:
    return TokenError(message, step=1, reason="token refused")


def _refused_claims(message: str) -> TokenError:
    return TokenError(message, step=5, reason="claims refused")
