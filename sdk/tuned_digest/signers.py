"""Who signs a request, and how a signature is checked (section 5, RFC 8032).

`Signer` and `AsyncSigner` are protocols, so that a key can stay in an agent, a token or a KMS.
"""

from __future__ import annotations

__all__ = ["AsyncSigner", "Ed25519Signer", "KeyFileWarning", "Signer", "verify_identity", "verify_signature"]

import os
import stat
import warnings
from pathlib import Path
from typing import NoReturn, Protocol, Self, runtime_checkable

from blake3 import blake3
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from ._grammar import encode_base64
from .errors import ArgumentError, IdentityError, MissingExtraError, PrivateKeyError, SignatureError

_SEED_SIZE = 32  # bytes, RFC 8032 section 5.1.5
_PUBLIC_KEY_SIZE = 32  # bytes
_OTHERS = stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH
_MAX_PASSWORD = 1023  # bytes, OpenSSL's limit
_KEY_FILE_LIMIT = 64 * 1024  # bytes; the largest private keys in use are a tenth of it

_P = 2**255 - 19  # the field, RFC 8032 section 5.1
_D = -121665 * pow(121666, -1, _P) % _P  # the curve's constant, RFC 8032 section 5.1
_ORDER_8_Y = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
# The y coordinates of the eight points whose order divides 8; a signature under one of them needs no key.
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _ORDER_8_Y, _P - _ORDER_8_Y})


class KeyFileWarning(UserWarning):
    """Warn of a key file that others can read."""


@runtime_checkable
class Signer(Protocol):
    """Sign with an Ed25519 key held anywhere; called from worker threads by async clients."""

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
        file = Path(path)
        try:
            with file.expanduser().open("rb") as stream:
                pem = stream.read(_KEY_FILE_LIMIT + 1)
                mode = os.fstat(stream.fileno()).st_mode
        except OSError as error:
            raise PrivateKeyError(f"{file} cannot be read: {error.strerror}", path=str(file)) from None
        except (RuntimeError, ValueError) as error:  # no such user behind "~", or a path with a NUL in it
            raise PrivateKeyError(f"{str(file)!r} cannot be read: {error}", path=str(file)) from None
        if os.name == "posix" and mode & _OTHERS:
            warnings.warn(
                f"{file} is open to others: chmod 600 it, and replace the key if they may have read it",
                KeyFileWarning,
                stacklevel=2,
            )
        try:
            return cls.from_pem(pem, password=password)
        except PrivateKeyError as error:
            raise PrivateKeyError(f"{file}: {error}", path=str(file)) from None

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
        if not isinstance(pem, bytes):
            raise ArgumentError("pem is the bytes of a key: for a path, call from_file")
        if len(pem) > _KEY_FILE_LIMIT:
            raise PrivateKeyError(f"over {_KEY_FILE_LIMIT} bytes: not a private key")
        label = _pem_label(pem)
        if not label.endswith("PRIVATE KEY"):
            raise PrivateKeyError(f"found {_described(label)}: a PKCS#8 PEM or OpenSSH private key is needed")
        load = load_ssh_private_key if label == "OPENSSH PRIVATE KEY" else load_pem_private_key
        try:
            key = load(pem, _password(password))
        except TypeError:
            needed = (
                "is encrypted: give its password" if not password else "is not encrypted: give no password"
            )
            raise PrivateKeyError(f"the private key {needed}") from None
        except UnsupportedAlgorithm as error:
            if "bcrypt" in str(error):
                raise MissingExtraError(
                    "an encrypted OpenSSH key needs bcrypt: pip install 'tuned-digest[ssh]'", extra="ssh"
                ) from None
            raise PrivateKeyError(f"the private key is of an unsupported kind: {error}") from None
        except (ValueError, InternalError):
            hint = "" if password is None else ", or the password is not its own"
            raise PrivateKeyError(f"the private key is damaged{hint}") from None
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
        octets = _password(password)
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


def verify_identity(public_key: bytes) -> None:
    """Refuse an identity that is not a canonical point, or is one of small order (section 10).

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
        raise SignatureError("the signature is not the identity's over this response") from None


def _password(password: bytes | str | None) -> bytes | None:
    try:
        return password.encode() if isinstance(password, str) else password
    except UnicodeEncodeError:
        raise ArgumentError("a password is text that can be written in UTF-8, or bytes") from None


def _pem_label(pem: bytes) -> str:
    for line in pem.splitlines():
        if line.startswith(b"-----BEGIN ") and line.rstrip().endswith(b"-----"):
            return line.rstrip()[11:-5].decode("ascii", "replace")
    if pem.lstrip().startswith((b"ssh-", b"ecdsa-", b"sk-")):
        return "OpenSSH public key"
    if pem.startswith(b"PuTTY-User-Key-File"):
        return "PuTTY key"
    return ""


def _described(label: str) -> str:
    return f"a file of kind {label!r}" if label else "no PEM text"
