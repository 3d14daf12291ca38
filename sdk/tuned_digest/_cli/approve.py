"""``tuned-digest approve``: let another device's key in."""

from __future__ import annotations

__all__ = ["add_approve"]

import argparse
import math

from ..errors import EnrolmentError
from .devices import add_device_arguments, choose, connect
from .showing import print_rows, shown


def add_approve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser("approve", help="let another device's key in, by its 16 characters")
    add_device_arguments(parser)
    parser.add_argument(
        "fingerprint", nargs="?", help="the 16 characters that the new device shows; asked for where left out"
    )
    parser.set_defaults(run=_approve, last="fingerprint")


def _approve(options: argparse.Namespace) -> int:
    client = connect(options)
    waiting = client.candidates()
    if not waiting:
        raise EnrolmentError("no key waits for approval: run tuned-digest enroll on the new device first")
    # Without the characters, so that they are read where the right key is: on the new device.
    rows = [
        (str(number), shown(key.label), str(math.ceil(key.seconds / 60)))
        for number, key in enumerate(waiting, 1)
    ]
    print_rows(("number", "label", "minutes left"), *rows)
    key = choose(waiting, options.fingerprint, "Type the 16 characters that the new device shows: ")
    client.approve(key)
    print(f"approved: {key.fingerprint}, {shown(key.label)}")
    return 0
