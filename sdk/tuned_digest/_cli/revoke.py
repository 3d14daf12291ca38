"""``tuned-digest revoke``: end a key of the account, such as that of a lost device."""

from __future__ import annotations

__all__ = ["add_revoke"]

import argparse

from .devices import add_device_arguments, choose, connect
from .showing import print_rows, shown


def add_revoke(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser(
        "revoke",
        help="end a key of your account, such as that of a lost device, by another of its devices",
        description="End a key of your account, such as that of a lost device, by another device of the "
        "account. An operator, who has the registry, uses tuned-digest keys revoke.",
    )
    add_device_arguments(parser)
    parser.add_argument("fingerprint", nargs="?", help="the key's 16 characters; asked for where left out")
    parser.set_defaults(run=_revoke, last="fingerprint")


def _revoke(options: argparse.Namespace) -> int:
    client = connect(options)
    keys = client.enrolled_keys()
    print_rows(("characters", "label"), *(key.row for key in keys))
    key = choose(keys, options.fingerprint, "Type the 16 characters of the key to revoke: ")
    client.revoke(key)
    print(f"revoked: {key.fingerprint}, {shown(key.label)}")
    return 0
