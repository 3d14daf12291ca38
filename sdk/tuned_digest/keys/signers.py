"""Who signs a request (section 5, RFC 8032).

`Signer` and `AsyncSigner` are protocols, so that a key can stay in an agent, a token or a KMS.
"""

from __future__ import annotations

__all__ = ["AsyncSigner", "Ed25519Signer", "Signer"]

import os
from pathlib import Path
from typing import NoReturn, Protocol, Self, runtime_checkable

from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from .._base64 import encode_base64
from ..errors import ArgumentError, PrivateKeyError
from .files import password_bytes, read_key_file, read_private_key

_SEED_SIZE = 32  # bytes, RFC 8032 section 5.1.5
_MAX_PASSWORD = 1023  # bytes, OpenSSL's limit


@runtime_checkable
class Signer(Protocol):
    """Sign with an Ed25519 key held anywhere; called from worker threads by async clients.

    A key of another kind signs tokens, and has an ``algorithm`` too: ``ES256``, ``ES384``, ``PS256`` or
    ``RS256``. Its `public_key` is a SubjectPublicKeyInfo in DER, its signature as RFC 7518 has it.
    """

    @property
    def public_key(self) -> bytes:
        """Give the raw public key, 32 bytes."""
        ...

    def sign(self, message: bytes, /) -> bytes:
        """Sign a message.

        Args:
            message: The bytes to sign.

        Returns:
            The Ed25519 signature, 64 bytes.
        """
        ...


@runtime_checkable
class AsyncSigner(Protocol):
    """Sign with an Ed25519 key reached by awaiting; for async clients alone."""

    @property
    def public_key(self) -> bytes:
        """Give the raw public key, 32 bytes."""
        ...

    async def sign(self, message: bytes, /) -> bytes:
        """Sign a message.

        Args:
            message: The bytes to sign.

        Returns:
            The Ed25519 signature, 64 bytes.
        """
        ...


class Ed25519Signer:
    """Sign with an Ed25519 private key in this process's memory.

    Make one with a class method: `generate`, `from_seed`, `from_pem`, `from_file` or `derive`.
    It does not pickle: load the key in the process that needs it.
    """

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private_key = private_key
        self._public_key = private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    @classmethod
    def generate(cls) -> Self:
        """Make a new key from the system's randomness.

        Returns:
            A signer with the key.
        """
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Take an RFC 8032 private key.

        Args:
            seed: 32 bytes.

        Returns:
            A signer with the key.

        Raises:
            ArgumentError: If there are fewer bytes or more.
        """
        if len(seed) != _SEED_SIZE:
            raise ArgumentError(f"an Ed25519 seed has {_SEED_SIZE} bytes, not {len(seed)}")
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def derive(cls, secret: bytes, *, context: str) -> Self:
        """Derive a key from a secret with BLAKE3's key derivation.

        Args:
            secret: High-entropy key material, at least 32 bytes; never a password.
            context: A hard-coded, globally unique string that names the use.

        Returns:
            A signer with the key.

        Raises:
            ArgumentError: If the secret is shorter, or the context is not UTF-8.
        """
        if len(secret) < _SEED_SIZE:
            raise ArgumentError(f"a secret to derive from has at least {_SEED_SIZE} bytes, not {len(secret)}")
        try:
            return cls.from_seed(blake3(secret, derive_key_context=context).digest())
        except UnicodeEncodeError:
            raise ArgumentError("a context is text that can be written in UTF-8") from None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, password: bytes | str | None = None) -> Self:
        """Read a key file; one that others can read gives a `KeyFileWarning`.

        Args:
            path: A PKCS#8 PEM or OpenSSH private key file; ``~`` is expanded.
            password: The password it is encrypted with, if it is.

        Returns:
            A signer with the key.

        Raises:
            PrivateKeyError: If the file cannot be read or holds no Ed25519 private key.
            MissingExtraError: If the file is an encrypted OpenSSH key and bcrypt is not installed.
        """
        pem = read_key_file(path)
        try:
            return cls.from_pem(pem, password=password)
        except PrivateKeyError as error:
            raise PrivateKeyError(f"{Path(path)}: {error}", path=str(Path(path))) from None

    @classmethod
    def from_pem(cls, pem: bytes, *, password: bytes | str | None = None) -> Self:
        """Read a private key.

        Args:
            pem: A PKCS#8 PEM or OpenSSH private key.
            password: The password it is encrypted with, if it is.

        Returns:
            A signer with the key.

        Raises:
            ArgumentError: If it is text rather than bytes.
            PrivateKeyError: If it holds no Ed25519 private key or the password is not its own.
            MissingExtraError: If it is an encrypted OpenSSH key and bcrypt is not installed.
        """
        key = read_private_key(pem, password)
        if not isinstance(key, Ed25519PrivateKey):
            kind = type(key).__name__.removesuffix("PrivateKey").lstrip("_")
            raise PrivateKeyError(
                f"found a private key of kind {kind}, not Ed25519: make one with tuned-digest keygen"
            )
        return cls(key)

    @property
    def public_key(self) -> bytes:
        """Give the raw public key, 32 bytes."""
        return self._public_key

    @property
    def identity(self) -> str:
        """Give the public key as servers register it, base64 without padding (section 8)."""
        return encode_base64(self._public_key)

    def sign(self, message: bytes, /) -> bytes:
        """Sign a message.

        Args:
            message: The bytes to sign.

        Returns:
            The signature, 64 bytes.
        """
        return self._private_key.sign(message)

    def to_pem(self, *, password: bytes | str | None = None) -> bytes:
        """Write the private key.

        Args:
            password: Encrypt it with this password.

        Returns:
            PKCS#8 PEM.

        Raises:
            ArgumentError: If the password is empty or too long.
        """
        octets = password_bytes(password)
        encryption: KeySerializationEncryption = NoEncryption()
        if octets is not None:
            if not 0 < len(octets) <= _MAX_PASSWORD:
                raise ArgumentError(f"a password has 1 to {_MAX_PASSWORD} bytes; pass None for no encryption")
            encryption = BestAvailableEncryption(octets)
        return self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)

    def __repr__(self) -> str:
        return f"Ed25519Signer(identity={self.identity!r})"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> NoReturn:
        raise ArgumentError(
            "a private key is not pickled: load it in the child process, with Ed25519Signer.from_file"
        )
