"""``tuned-digest revoke``: end a key of the account, such as that of a lost device."""

from __future__ import annotations

__all__ = ["add_revoke"]

import argparse

from .devices import add_device_arguments, choose, connect
from .showing import shown


def add_revoke(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser("revoke", help="end a key of the account, such as that of a lost device")
    add_device_arguments(parser)
    parser.add_argument("fingerprint", nargs="?", help="the key's 16 characters; asked for where left out")
    parser.set_defaults(run=_revoke, last="fingerprint")


def _revoke(options: argparse.Namespace) -> int:
    client = connect(options)
    key = choose(client.enrolled_keys(), options.fingerprint, "Type the 16 characters of the key to revoke: ")
    client.revoke(key)
    print(f"revoked: {key.fingerprint}, {shown(key.label)}")
    return 0
