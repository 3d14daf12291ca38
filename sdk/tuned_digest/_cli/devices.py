"""What the commands of a device share: their arguments, and what they show and ask."""

from __future__ import annotations

__all__ = ["add_device_arguments", "choose", "connect", "device_name", "print_codes", "print_enrolled"]

import argparse
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import EnrolmentError
from .key_files import check_owner, read_signer, write_key
from .showing import is_written, shown

if TYPE_CHECKING:
    from .account_client import AccountClient, Enrolled, ListedKey

_LONGEST_LABEL = 64  # characters, as servers take them


def add_device_arguments(parser: argparse.ArgumentParser, *, makes: bool = False) -> None:
    """Add what every command of a device takes.

    Args:
        parser: The command.
        makes: Whether it makes a key file that is not there.
    """
    file = "this device's key file"
    parser.add_argument("url", help="where accounts are mounted, such as http://127.0.0.1:8000/account")
    parser.add_argument("--account", required=True, metavar="NAME", help="the account's name")
    parser.add_argument(
        "--key",
        type=Path,
        required=not makes,
        metavar="FILE",
        help=f"{file}, created if missing (default: NAME.pem in this directory)" if makes else file,
    )
    parser.add_argument("--password", action="store_true", help="the key file has a password: ask for it")
    if makes:
        parser.add_argument("--label", help="what to call this device (default: its host name)")


def connect(options: argparse.Namespace, *, makes: bool = False) -> AccountClient:
    """Take this device's key, and turn to the server.

    Args:
        options: The arguments of `add_device_arguments`.
        makes: Make a key file that is not there.

    Returns:
        The client; nothing was sent.

    Raises:
        TunedDigestError: If the key, the account or the URL cannot be used.
    """
    # An extra that other commands do without.
    from .account_client import AccountClient  # noqa: PLC0415
    from .signed_calls import checked_url  # noqa: PLC0415

    url = checked_url(options.url)  # before a key file is made
    path: Path = options.key or Path(f"{options.account}.pem")
    if makes:
        if not os.path.exists(os.path.expanduser(path)):  # noqa: PTH110, PTH111  # these raise nothing
            signer = write_key(path, has_password=options.password)
            print(f"made a key, in the file {path}", flush=True)
            return AccountClient(url, options.account, signer)
        check_owner(path)
    return AccountClient(url, options.account, read_signer(path, has_password=options.password))


def device_name() -> str:
    """Name this device as its system does, fit for a label."""
    name = "".join(character for character in socket.gethostname() if character.isprintable())
    return name.strip()[:_LONGEST_LABEL].strip() or "device"


def print_enrolled(client: AccountClient, enrolled: Enrolled, *, has_code: bool = False) -> None:
    """Say that this device's key is enrolled, and show the recovery codes that came with it.

    Args:
        client: The client.
        enrolled: What became of it.
        has_code: Whether a code was given.
    """
    label = shown(enrolled.label)
    print(f"enrolled: {client.key.fingerprint}, {label}, a key of the account {client.account}")
    if enrolled.was_before:
        before = "It was enrolled before" + (": the code was not used now." if has_code else ".")
        print(f"{before} If its recovery codes are lost: tuned-digest recover --new-codes")
    if enrolled.codes:
        print_codes(enrolled.codes)


def print_codes(codes: Sequence[str]) -> None:
    """Show recovery codes, once.

    Args:
        codes: The codes.
    """
    print("\nRecovery codes: if all devices are lost, each of them lets one new device in.\n")
    for code in codes:
        print(f"    {code}")
    print("\nWrite them down, and keep them elsewhere than on this device. They are not shown again.")


def choose(keys: Sequence[ListedKey], typed: str | None, question: str) -> ListedKey:
    """Choose a key by its 16 characters, all of them.

    Args:
        keys: The keys that there are.
        typed: The characters, in any letter case, with or without dashes and spaces; None to ask for them.
        question: How they are asked for.

    Returns:
        The key.

    Raises:
        EnrolmentError: If no key has them.
    """
    if typed is None:
        try:
            typed = input(question)
        except EOFError:
            raise EnrolmentError("no characters were typed: nothing was done") from None
    for key in keys:
        if is_written(typed, key.thumbprint):
            return key
    raise EnrolmentError("no key above has the characters that were given: nothing was done")
