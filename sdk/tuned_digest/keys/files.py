"""Private keys as they are stored: PKCS#8 PEM and OpenSSH, encrypted or not; the rights of their files."""

from __future__ import annotations

__all__ = ["KeyFileWarning", "password_bytes", "read_key_file", "read_private_key"]

import os
import stat
import warnings
from pathlib import Path

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    SSHPrivateKeyTypes,
    load_pem_private_key,
    load_ssh_private_key,
)

from ..errors import ArgumentError, MissingExtraError, PrivateKeyError

_OTHERS = stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH
_SIZE_LIMIT = 64 * 1024  # bytes; the largest private keys in use are a tenth of it


class KeyFileWarning(UserWarning):
    """Warn of a key file that others can read."""


def read_key_file(path: str | os.PathLike[str]) -> bytes:
    """Read a key file; one that others can read gives a `KeyFileWarning`.

    Args:
        path: The file; ``~`` is expanded.

    Returns:
        Its first 64 KiB, and one byte more where it is larger.

    Raises:
        PrivateKeyError: If it cannot be read.
    """
    file = Path(path)
    try:
        with file.expanduser().open("rb") as stream:
            content = stream.read(_SIZE_LIMIT + 1)
            mode = os.fstat(stream.fileno()).st_mode
    except OSError as error:
        raise PrivateKeyError(f"{file} cannot be read: {error.strerror}", path=str(file)) from None
    except (RuntimeError, ValueError) as error:  # no such user behind "~", or a path with a NUL in it
        raise PrivateKeyError(f"{str(file)!r} cannot be read: {error}", path=str(file)) from None
    if os.name == "posix" and mode & _OTHERS:
        warnings.warn(
            f"other users can read or write {file}: run chmod 600 on it, "
            "and replace the key if they may have read it",
            KeyFileWarning,
            stacklevel=3,
        )
    return content


def read_private_key(pem: bytes, password: bytes | str | None) -> PrivateKeyTypes | SSHPrivateKeyTypes:
    """Read a private key of any kind.

    Args:
        pem: A PKCS#8 PEM or OpenSSH private key.
        password: The password it is encrypted with, if it is.

    Returns:
        The key.

    Raises:
        ArgumentError: If it is text rather than bytes.
        PrivateKeyError: If it holds no private key, or the password is not its own.
        MissingExtraError: If it is an encrypted OpenSSH key and bcrypt is not installed.
    """
    if not isinstance(pem, bytes):
        raise ArgumentError("pem takes the bytes of a key; to read a file, call from_file with its path")
    if len(pem) > _SIZE_LIMIT:
        raise PrivateKeyError(f"this is no private key: it has more than {_SIZE_LIMIT} bytes")
    label = _pem_label(pem)
    if not label.endswith("PRIVATE KEY"):
        raise PrivateKeyError(f"found {_described(label)}: a PKCS#8 PEM or OpenSSH private key is needed")
    load = load_ssh_private_key if label == "OPENSSH PRIVATE KEY" else load_pem_private_key
    octets = password_bytes(password)
    try:
        return load(pem, octets)
    except TypeError:
        needed = "is encrypted: give its password" if not password else "is not encrypted: give no password"
        raise PrivateKeyError(f"the private key {needed}") from None
    except UnsupportedAlgorithm as error:
        if "bcrypt" in str(error):
            raise MissingExtraError(
                "an encrypted OpenSSH key needs bcrypt: pip install 'tuned-digest[ssh]'", extra="ssh"
            ) from None
        raise PrivateKeyError(f"the private key is of an unsupported kind: {error}") from None
    except (ValueError, InternalError):
        hint = "" if password is None else ", or the password is wrong"
        raise PrivateKeyError(f"the private key is damaged{hint}") from None


def password_bytes(password: bytes | str | None) -> bytes | None:
    """Encode a password.

    Args:
        password: Text, bytes, or None for no password.

    Returns:
        Its bytes.

    Raises:
        ArgumentError: If the text cannot be written in UTF-8.
    """
    try:
        return password.encode() if isinstance(password, str) else password
    except UnicodeEncodeError:
        raise ArgumentError("a password is bytes, or text that can be written in UTF-8") from None


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
