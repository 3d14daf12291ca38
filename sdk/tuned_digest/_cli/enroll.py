"""``tuned-digest enroll``: make this device's key, and have it enrolled for an account."""

from __future__ import annotations

__all__ = ["add_enroll", "wait_for_approval"]

import argparse
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import EnrolmentError
from .devices import add_device_arguments, connect, device_name, print_enrolled
from .key_files import read_code

if TYPE_CHECKING:
    from .account_client import AccountClient, Enrolled, Pending

_PAUSE = 2.0  # seconds between two questions whether the key is approved


def add_enroll(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser(
        "enroll",
        help="make this device's key, and have it enrolled: by an invitation, or by another device",
        description="Make this device's key, and have it enrolled. Without --invitation the command shows 16 "
        "characters and waits up to 10 minutes until a device that is enrolled approves the key.",
    )
    add_device_arguments(parser, makes=True)
    parser.add_argument(
        "--invitation", metavar="CODE", help="code from the operator; - to be asked for it, or to pipe it in"
    )
    parser.set_defaults(run=_enroll)


def _enroll(options: argparse.Namespace) -> int:
    from .account_client import Pending  # noqa: PLC0415  # an extra that other commands do without

    way = {}
    if options.invitation is not None:
        way["invitation"] = read_code(options.invitation, "invitation")
    client = connect(options, makes=True)
    label = options.label or device_name()
    outcome = client.enrol(label, **way)
    enrolled = wait_for_approval(client, label, outcome) if isinstance(outcome, Pending) else outcome
    print_enrolled(client, enrolled, has_code=bool(way))
    return 0


def wait_for_approval(
    client: AccountClient,
    label: str,
    pending: Pending,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Enrolled:
    """Show the key's 16 characters, and wait until another device has approved it.

    Args:
        client: The client.
        label: What this device is called.
        pending: Says how long the key waits.
        clock: Gives seconds, never going back.
        sleep: Waits so many seconds.

    Returns:
        The key as it is enrolled.

    Raises:
        EnrolmentError: If nobody approved it in time.
        TunedDigestError: If the server gave up on it.
    """
    from .account_client import Enrolled  # noqa: PLC0415  # an extra
    from .signed_calls import UnansweredError  # noqa: PLC0415

    began = clock()
    deadline = began + pending.seconds
    problem = ""
    try:
        print(
            "This key waits for a device that is enrolled already. There, run\n\n"
            f"    tuned-digest approve {client.url} --account {client.account} --key FILE\n\n"
            f"and type these 16 characters:\n\n    {client.key.fingerprint}\n",
            flush=True,
        )
        while (left := deadline - clock()) > 0:
            _show_progress(f"waiting, {int(left) // 60}:{int(left) % 60:02} left; Ctrl-C stops. {problem}")
            sleep(min(_PAUSE, left))
            try:
                outcome = client.enrol(label, nonce=pending.nonce)
            except UnansweredError as error:  # a server that is away for a while may come back
                problem = str(error)
                continue
            except EnrolmentError as error:
                if error.reason == "not approved":  # the server has counted the time, or forgotten the key
                    break
                raise
            problem = ""
            if isinstance(outcome, Enrolled):
                return outcome
    except KeyboardInterrupt:
        _show_progress("")
        print("The key is kept. To go on, run the same command again.", file=sys.stderr)
        raise
    finally:
        _show_progress("")
    minutes = max(1, round((clock() - began) / 60))
    raise EnrolmentError(
        f"nobody approved this key in {minutes} minute{'s' if minutes > 1 else ''}: run the command again; "
        f"if it is the account's first key, pass --invitation. {problem}".rstrip()
    )


def _show_progress(text: str) -> None:
    """Show a line in place of the one before, where somebody looks on."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1  # a line that wraps could not be replaced
        sys.stderr.write(f"\r\x1b[K{text[:width]}")
        sys.stderr.flush()
