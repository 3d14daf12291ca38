"""``tuned-digest recover``: let a device in by a recovery code, or have new ones made."""

from __future__ import annotations

__all__ = ["add_recover"]

import argparse

from ..errors import TunedDigestError
from .devices import add_device_arguments, connect, device_name, print_codes, print_enrolled
from .key_files import read_code
from .showing import print_rows


def add_recover(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser("recover", help="let this device in by a recovery code")
    add_device_arguments(parser, makes=True)
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--code",
        default="-",
        help="the recovery code; - to be asked for it, or to pipe it in (default: it is asked for)",
    )
    ways.add_argument(
        "--new-codes",
        action="store_true",
        help="have ten new codes made in place of those that are left; the key is enrolled already",
    )
    parser.set_defaults(run=_recover)


def _recover(options: argparse.Namespace) -> int:
    from .account_client import Pending  # noqa: PLC0415  # an extra that other commands do without

    if options.new_codes:
        print_codes(connect(options).renew_recovery_codes())
        return 0
    code = read_code(options.code, "recovery code")
    client = connect(options, makes=True)
    outcome = client.enrol(options.label or device_name(), recovery_code=code)
    if isinstance(outcome, Pending):
        raise TunedDigestError(f"{client.url} lets the key wait for approval, and has not used the code")
    print_enrolled(client, outcome, has_code=True)
    others = [key for key in client.enrolled_keys() if key.thumbprint != client.key.thumbprint]
    if others:
        print("\nThe other keys of the account are good still:\n")
        print_rows(("characters", "label"), *(key.row for key in others))
        print(
            "\nRevoke those of lost devices:\n\n"
            f"    tuned-digest revoke {client.url} --account {client.account} --key FILE"
        )
    return 0
