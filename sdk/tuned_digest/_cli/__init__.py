"""The command line: ``tuned-digest demo | serve | keygen``."""

from __future__ import annotations

__all__ = ["main"]

import argparse
import sys
from collections.abc import Callable, Sequence

from ..errors import TunedDigestError
from .keygen import add_keygen
from .serve import add_serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name, None for this process's own.

    Returns:
        The exit status: 0 when all went well, 1 otherwise.
    """
    options = _parser().parse_args(arguments)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except TunedDigestError as error:
        print(f"tuned-digest: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tuned-digest", description="Request signing with server challenges."
    )
    commands = parser.add_subparsers(title="commands", required=True)
    demo = commands.add_parser("demo", help="drive a real server on loopback with the real clients")
    demo.set_defaults(run=_demo)
    add_serve(commands)
    add_keygen(commands)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from .demo import run_demo  # noqa: PLC0415  # an extra that other commands do without

    return run_demo()
