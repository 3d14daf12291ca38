"""``tuned-digest keygen``: make a key file, and print the identity to register."""

from __future__ import annotations

__all__ = ["add_keygen"]

import argparse
import getpass
import os
from pathlib import Path

from ..errors import PrivateKeyError
from ..keys import Ed25519Signer


def add_keygen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser("keygen", help="make a key file, and print the identity to register")
    parser.add_argument("file", type=Path, help="where to write it; it must not exist")
    parser.add_argument("--password", action="store_true", help="ask for a password to encrypt it with")
    parser.set_defaults(run=_keygen)


def _keygen(options: argparse.Namespace) -> int:
    path: Path = options.file
    try:
        path = path.expanduser()
        if path.exists():  # said before a password is asked for
            raise FileExistsError
        signer = Ed25519Signer.generate()
        pem = signer.to_pem(password=_new_password() if options.password else None)
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
    print(signer.identity)
    return 0


def _new_password() -> str:
    try:
        password = getpass.getpass("password: ")
        if not password:
            raise PrivateKeyError("a password is not empty; leave --password away for no encryption")
        if getpass.getpass("again: ") != password:
            raise PrivateKeyError("the two passwords differ: nothing was written")
    except EOFError:
        raise PrivateKeyError("--password asks for a password, and the input has ended") from None
    return password
