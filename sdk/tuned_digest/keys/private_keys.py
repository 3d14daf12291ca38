"""Private keys for self-signed tokens that are not Ed25519: EC on P-256 and P-384, and RSA (RFC 7518)."""

from __future__ import annotations

__all__ = ["PrivateKeySigner"]

import os
from pathlib import Path
from typing import NoReturn, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import ArgumentError, IdentityError, PrivateKeyError
from .files import read_key_file, read_private_key
from .public_keys import check_algorithm

# RFC 7518 section 3.5: the salt is as long as the digest.
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256().digest_size)
_EC = {
    "secp256r1": ("ES256", ec.ECDSA(hashes.SHA256()), 32),
    "secp384r1": ("ES384", ec.ECDSA(hashes.SHA384()), 48),
}  # RFC 7518 section 3.4: R and S of so many bytes each


class PrivateKeySigner:
    """Sign tokens with an EC or RSA private key in this process's memory; Ed25519 keys have `Ed25519Signer`.

    Make one with `from_file` or `from_pem`. It does not pickle: load the key in the process that needs it.
    """

    def __init__(
        self, private_key: EllipticCurvePrivateKey | RSAPrivateKey, *, algorithm: str | None = None
    ) -> None:
        if not isinstance(private_key, EllipticCurvePrivateKey | RSAPrivateKey):
            raise ArgumentError("private_key is an EC or RSA key: pass PrivateKeySigner.from_file(...)")
        public = private_key.public_key()
        self._private_key = private_key
        self._public_key = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if isinstance(private_key, RSAPrivateKey):
            self._algorithm = algorithm or "RS256"
        else:
            self._algorithm = algorithm or _EC.get(private_key.curve.name, ("", None, 0))[0]
        try:
            check_algorithm(public, self._algorithm)
        except IdentityError as error:
            raise PrivateKeyError(str(error)) from None

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        password: bytes | str | None = None,
        algorithm: str | None = None,
    ) -> Self:
        """Read a private key from a file.

        Args:
            path: A PEM or OpenSSH file; ``~`` is expanded. One that others can read gives a
                `KeyFileWarning`.
            password: The password it is encrypted with, if it is.
            algorithm: What it signs by. None for the curve's own; ``RS256`` for RSA, which can also be
                ``PS256``.

        Returns:
            A signer with the key.

        Raises:
            PrivateKeyError: If the file cannot be read, holds no EC or RSA private key, or the password is
                not its own.
            MissingExtraError: If it is an encrypted OpenSSH key and bcrypt is not installed.
        """
        try:
            return cls.from_pem(read_key_file(path), password=password, algorithm=algorithm)
        except PrivateKeyError as error:
            if error.path:
                raise
            raise PrivateKeyError(f"{Path(path)}: {error}", path=str(Path(path))) from None

    @classmethod
    def from_pem(
        cls, pem: bytes, *, password: bytes | str | None = None, algorithm: str | None = None
    ) -> Self:
        """Read a private key.

        Args:
            pem: A PEM or OpenSSH private key.
            password: The password it is encrypted with, if it is.
            algorithm: What it signs by; see `from_file`.

        Returns:
            A signer with the key.

        Raises:
            ArgumentError: If it is text rather than bytes.
            PrivateKeyError: If it holds no EC or RSA private key, or the password is not its own.
            MissingExtraError: If it is an encrypted OpenSSH key and bcrypt is not installed.
        """
        key = read_private_key(pem, password)
        if isinstance(key, Ed25519PrivateKey):
            raise PrivateKeyError("found an Ed25519 private key: read it with Ed25519Signer")
        if not isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey):
            kind = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
            raise PrivateKeyError(f"found a private key of kind {kind}: tokens are signed by EC and RSA keys")
        return cls(key, algorithm=algorithm)

    @property
    def algorithm(self) -> str:
        """Name what it signs by (RFC 7518 section 3.1)."""
        return self._algorithm

    @property
    def public_key(self) -> bytes:
        """Give the public key, a SubjectPublicKeyInfo in DER (RFC 5280 section 4.1)."""
        return self._public_key

    def sign(self, message: bytes, /) -> bytes:
        """Sign a message.

        Args:
            message: The bytes to sign.

        Returns:
            The signature as RFC 7518 has it: of an EC key R and S one after the other, not DER.
        """
        key = self._private_key
        if isinstance(key, EllipticCurvePrivateKey):
            _, scheme, size = _EC[key.curve.name]
            r, s = decode_dss_signature(key.sign(message, scheme))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        return key.sign(message, _PSS if self._algorithm == "PS256" else padding.PKCS1v15(), hashes.SHA256())

    def __repr__(self) -> str:
        return f"PrivateKeySigner(algorithm={self._algorithm!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            "a private key is not pickled: load it in the child process, with PrivateKeySigner.from_file"
        )
