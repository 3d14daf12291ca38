"""Public keys as servers enrol them: a JSON Web Key for one algorithm, found by its thumbprint (tokens.md).

JWKs are read and written by joserfc (RFC 7517, 7638, 8037), the extra ``tokens``, which is imported when the
first key is made.
"""

from __future__ import annotations

__all__ = ["PublicKey", "check_algorithm", "read_once"]

import base64
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from .._base64 import decode_base64, encode_base64
from ..errors import IdentityError, MalformedFieldError, MissingExtraError
from .verification import verify_identity

_MEMBERS = {"OKP": ("crv", "kty", "x"), "EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n")}
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384"}  # RFC 7518 section 3.4
_RSA_BITS = (2048, 4096)  # tokens.md section 3
_RSA_EXPONENT = 65537  # the same
_SIZE_LIMIT = 2048  # characters; the JWK of an RSA key of 4,096 bits has about 730
_FINGERPRINT_BYTES = 10  # 80 bits: fewer could be matched by somebody else's key (tokens.md section 3)
_KEPT = 1024  # keys read from JWKs that are kept: reading one takes longer than checking a signature


class _Public(Protocol):
    @property
    def public_key(self) -> bytes: ...


@dataclass(frozen=True)
class PublicKey:
    """Hold a public key and the one algorithm that it is enrolled for.

    Make one with a class method: `from_jwk`, `of` or `from_identity`.

    Args:
        jwk: The public JWK (RFC 7517) with its ``alg``, as JSON text in one spelling.
        algorithm: ``Ed25519``, ``ES256``, ``ES384``, ``PS256`` or ``RS256``.
        thumbprint: Its SHA-256 thumbprint (RFC 7638), base64url: the ``kid`` of tokens.
        identity: The raw Ed25519 key, base64 without padding, as the challenge scheme names it; empty for
            other kinds.
        jose_key: The key as joserfc holds it.
    """

    jwk: str
    algorithm: str
    thumbprint: str
    identity: str
    jose_key: Any = field(repr=False, compare=False)

    @classmethod
    def from_jwk(cls, jwk: str | Mapping[str, object]) -> PublicKey:
        """Read a public JWK.

        Args:
            jwk: The key: JSON text of 2,048 characters at most, or its members. Without ``alg`` it is taken
                for Ed25519, for the curve's algorithm, or for RS256.

        Returns:
            The key.

        Raises:
            IdentityError: If it is no key that can be enrolled: of another kind, private, a point of small
                order, or RSA outside 2,048 to 4,096 bits or with an exponent other than 65537.
            MissingExtraError: If joserfc is not installed.
        """
        return _read(_text(jwk))

    @classmethod
    def of(cls, signer: _Public) -> PublicKey:
        """Give the public key of a signer.

        Args:
            signer: The signer; its ``algorithm`` is Ed25519 where it names none.

        Returns:
            The key.

        Raises:
            IdentityError: If it is no key that can be enrolled.
            MissingExtraError: If joserfc is not installed.
        """
        algorithm, public = getattr(signer, "algorithm", "Ed25519"), getattr(signer, "public_key", None)
        if not isinstance(public, bytes):
            raise IdentityError(f"a signer's public_key is bytes, not {type(public).__name__}")
        if algorithm == "Ed25519":
            return _of_raw(public)
        try:
            key = load_der_public_key(public)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise IdentityError(
                "the signer's public_key is no SubjectPublicKeyInfo in DER (RFC 5280 section 4.1)"
            ) from None
        if not isinstance(key, EllipticCurvePublicKey | RSAPublicKey):
            raise IdentityError(f"the signer's public_key is no key for {algorithm}")
        jose = _jose()
        kind = jose.ECKey if isinstance(key, EllipticCurvePublicKey) else jose.RSAKey
        pem = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return cls.from_jwk({**kind.import_key(pem).as_dict(private=False), "alg": algorithm})

    @classmethod
    def from_identity(cls, identity: str) -> PublicKey:
        """Read an Ed25519 key as the challenge scheme names it.

        Args:
            identity: The raw public key, base64.

        Returns:
            The key.

        Raises:
            IdentityError: If it is no key that can be enrolled.
            MissingExtraError: If joserfc is not installed.
        """
        if not isinstance(identity, str):
            raise IdentityError("an identity is text: the raw public key, base64")
        try:
            raw = decode_base64(identity, "identity", "the public key")
        except MalformedFieldError as error:
            raise IdentityError(str(error)) from None
        return _of_raw(raw)

    @property
    def fingerprint(self) -> str:
        """Give 80 bits of the thumbprint for people to compare: four groups of four characters."""
        digest = base64.urlsafe_b64decode(self.thumbprint + "=")
        text = base64.b32encode(digest[:_FINGERPRINT_BYTES]).decode("ascii")
        return "-".join(text[start : start + 4] for start in range(0, len(text), 4))


def read_once(jwk: str | Mapping[str, object]) -> PublicKey:
    """Read a public JWK as `PublicKey.from_jwk` does, without keeping it in place of those of others.

    Args:
        jwk: The key, as anybody may have sent it.

    Returns:
        The key.

    Raises:
        IdentityError: If it is no key that can be enrolled.
        MissingExtraError: If joserfc is not installed.
    """
    return _read.__wrapped__(_text(jwk))


def check_algorithm(key: object, algorithm: str) -> None:
    """Refuse an algorithm that a key of this kind does not have, and a key that is too weak.

    Args:
        key: A public key of the cryptography package.
        algorithm: The algorithm it is for.

    Raises:
        IdentityError: If it is refused.
    """
    match key:
        case Ed25519PublicKey():
            verify_identity(key.public_bytes(Encoding.Raw, PublicFormat.Raw))
            allowed: tuple[str, ...] = ("Ed25519",)
        case EllipticCurvePublicKey() if key.curve.name in _CURVES:
            allowed = (_CURVES[key.curve.name],)
        case RSAPublicKey():
            _check_bits(key.key_size)
            if key.public_numbers().e != _RSA_EXPONENT:
                raise IdentityError("an RSA key has the exponent 65537")
            allowed = ("RS256", "PS256")
        case _:
            raise IdentityError("a key is Ed25519, EC on P-256 or P-384, or RSA")
    if algorithm not in allowed:
        raise IdentityError(f"this key signs by {' or '.join(allowed)}, not by {algorithm!r:.80}")


def _check_bits(bits: int) -> None:
    if not _RSA_BITS[0] <= bits <= _RSA_BITS[1]:
        raise IdentityError(f"an RSA key has 2,048 to 4,096 bits, not {bits}")


def _text(jwk: str | Mapping[str, object]) -> str:
    text = jwk if isinstance(jwk, str) else _written(jwk)
    if len(text) > _SIZE_LIMIT:
        raise IdentityError(f"a JWK has {_SIZE_LIMIT} characters at most")
    return text


@functools.lru_cache(maxsize=_KEPT)
def _read(text: str) -> PublicKey:
    try:
        members = json.loads(text)
    except (ValueError, RecursionError):
        raise IdentityError("the JWK is not JSON") from None
    if not isinstance(members, dict) or not isinstance(members.get("kty"), str):
        raise IdentityError("a JWK is a JSON object with a kty")
    kind = members["kty"]
    names = _MEMBERS.get(kind)
    if names is None:
        raise IdentityError("a key is Ed25519, EC on P-256 or P-384, or RSA")
    if {"d", "p", "q", "dp", "dq", "qi", "oth", "k"} & set(members):
        raise IdentityError("this is a private key: send the public one, and replace this one")
    public: dict[str, Any] = {name: members.get(name) for name in names}
    if not all(isinstance(value, str) for value in public.values()):
        raise IdentityError(f"a JWK of kty {kind} has the members {', '.join(names)}, each a text")
    if kind == "RSA":
        _check_bits(_bits(public["n"]))  # joserfc would warn of a small one, on the standard error
    jose = _jose()
    reader = {"OKP": jose.OKPKey, "EC": jose.ECKey, "RSA": jose.RSAKey}[kind]
    try:
        key = reader.import_key(public)
        known = key.public_key  # joserfc reads it when it is first asked for
        pem = known.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        usual = reader.import_key(pem).as_dict(private=False)
    except Exception:  # joserfc and cryptography have many ways to refuse
        raise IdentityError("the JWK is not a key: a member has another length, or is no point") from None
    algorithm = members.get("alg", _usual(known))
    check_algorithm(known, algorithm)
    if any(usual[name] != value for name, value in public.items()):  # the same key by two thumbprints
        raise IdentityError("the JWK is not in its one spelling: base64url without padding or leading zeros")
    identity = ""
    if isinstance(known, Ed25519PublicKey):
        identity = encode_base64(known.public_bytes(Encoding.Raw, PublicFormat.Raw))
    written = _written({**public, "alg": algorithm})
    return PublicKey(written, algorithm, key.thumbprint(), identity, key)


@functools.lru_cache(maxsize=_KEPT)
def _of_raw(raw: bytes) -> PublicKey:
    encoded = base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
    return _read(_written({"alg": "Ed25519", "crv": "Ed25519", "kty": "OKP", "x": encoded}))


def _bits(number: str) -> int:
    """Count the bits of a number in base64url (RFC 7518 section 2); 0 where it is none."""
    try:
        return int.from_bytes(base64.urlsafe_b64decode(number + "=="), "big").bit_length()
    except ValueError:
        return 0


def _usual(key: object) -> str:
    if isinstance(key, RSAPublicKey):
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name, "")
    return "Ed25519"


def _written(members: Mapping[str, object]) -> str:
    try:
        return json.dumps(dict(members), sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise IdentityError("a JWK has text members alone") from None


@functools.cache
def _jose() -> ModuleType:
    try:
        from joserfc import jwk  # noqa: PLC0415  # an extra, and 60 ms that other users do without
    except ImportError as error:
        raise MissingExtraError(
            "joserfc is not installed: pip install 'tuned-digest[tokens]'", extra="tokens"
        ) from error
    return jwk
