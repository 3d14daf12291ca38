"""``tuned-digest keygen``: make a key file, and print the identity to register."""

from __future__ import annotations

__all__ = ["add_keygen"]

import argparse
from pathlib import Path

from .key_files import write_key


def add_keygen(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser(
        "keygen", help="make an Ed25519 key file, and print the identity to register"
    )
    parser.add_argument("file", type=Path, help="where to write it; it must not exist")
    parser.add_argument("--password", action="store_true", help="ask for a password to encrypt it with")
    parser.set_defaults(run=_keygen)


def _keygen(options: argparse.Namespace) -> int:
    print(write_key(options.file, has_password=options.password).identity)
    return 0
