"""Key files of the command line: made, never overwritten, and read; passwords and codes asked for."""

from __future__ import annotations

__all__ = ["check_owner", "read_code", "read_signer", "write_key"]

import getpass
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..errors import ArgumentError, PrivateKeyError
from ..keys import Ed25519Signer, PrivateKeySigner
from ..keys.files import read_key_file, read_private_key

_LONGEST_CODE = 128  # characters
_ROOT = 0  # user id


def write_key(path: Path, *, has_password: bool) -> Ed25519Signer:
    """Make a key, and a file of it that its owner alone can read.

    Args:
        path: Where; it must not exist. ``~`` is expanded.
        has_password: Ask for a password to encrypt it with.

    Returns:
        A signer with the key.

    Raises:
        PrivateKeyError: If the file exists or cannot be written.
    """
    try:
        path = path.expanduser()
        if path.exists():  # said before a password is asked for
            raise FileExistsError
        signer = Ed25519Signer.generate()
        pem = signer.to_pem(password=_new_password() if has_password else None)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise PrivateKeyError(
            f"{path} exists: name another file, a key is never overwritten", path=str(path)
        ) from None
    except OSError as error:
        raise PrivateKeyError(f"{path} cannot be written: {error.strerror}", path=str(path)) from None
    except RuntimeError as error:  # no such user behind "~"
        raise PrivateKeyError(f"{path} cannot be written: {error}", path=str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise PrivateKeyError(f"{path} could not be written: {error.strerror}", path=str(path)) from None
    return signer


def check_owner(path: Path) -> None:
    """Refuse a key file, or a link to one, that another user may have put there: they know its key.

    Args:
        path: The file; ``~`` is expanded. What cannot be looked at is left to `read_signer`.

    Raises:
        PrivateKeyError: If it is neither this user's nor root's.
    """
    with suppress(OSError, RuntimeError):  # the latter where nobody is behind "~"
        file = path.expanduser()
        owners = {file.stat().st_uid, file.lstat().st_uid}
        if os.name == "posix" and not owners <= {_ROOT, os.geteuid()}:
            raise PrivateKeyError(
                f"{path} belongs to another user, who may know its key: name another file with --key",
                path=str(path),
            )


def read_signer(path: Path, *, has_password: bool) -> Ed25519Signer | PrivateKeySigner:
    """Read a key file, of any kind that signs tokens, and say it where others can read it.

    Args:
        path: The file; ``~`` is expanded.
        has_password: Ask for its password.

    Returns:
        A signer with the key.

    Raises:
        PrivateKeyError: If it cannot be read.
    """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pem = read_key_file(path)
    for warning in warned:
        print(f"tuned-digest: {warning.message}", file=sys.stderr)
    password = _ask("password: ") if has_password else None
    try:
        key = read_private_key(pem, password)
        kind = Ed25519Signer if isinstance(key, Ed25519PrivateKey) else PrivateKeySigner
        return kind.from_pem(pem, password=password)
    except PrivateKeyError as error:
        raise PrivateKeyError(f"{path}: {error}", path=str(path)) from None


def read_code(text: str, name: str) -> str:
    """Take a code that was given, or read it where that is a dash, so that no list of processes shows it.

    Args:
        text: The code, or ``-``.
        name: What it is called.

    Returns:
        The code.

    Raises:
        ArgumentError: If there is none.
    """
    if text == "-":
        if sys.stdin.isatty():
            text = _ask(f"{name} (is not shown): ")
        else:
            text = sys.stdin.readline(_LONGEST_CODE + 2)
    text = text.strip()
    if not text or len(text) > _LONGEST_CODE:
        raise ArgumentError(f"no {name} was given: it has seven groups of four letters and digits")
    return text


def _new_password() -> str:
    password = _ask("password: ")
    if not password:
        raise PrivateKeyError("a password is not empty; leave --password away for no encryption")
    if _ask("again: ") != password:
        raise PrivateKeyError("the two passwords differ: nothing was written")
    return password


def _ask(prompt: str) -> str:
    try:
        return getpass.getpass(prompt)
    except EOFError:
        raise ArgumentError(f"{prompt.rstrip(': ')}: it was asked for, and the input has ended") from None
