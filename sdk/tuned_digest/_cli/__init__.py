"""The command line: ``tuned-digest demo | serve | keygen | keys | enroll | approve | recover | revoke``."""

from __future__ import annotations

__all__ = ["main"]

import argparse
import io
import os
import re
import sys
from collections.abc import Callable, Sequence

from ..errors import TunedDigestError
from .approve import add_approve
from .enroll import add_enroll
from .keygen import add_keygen
from .keys import add_keys
from .recover import add_recover
from .revoke import add_revoke
from .serve import add_serve

_INTERRUPTED = 130  # exit status of what Ctrl-C has ended, as shells have it: 128 + SIGINT
_DASHED_KEY = re.compile(r"-[A-Za-z0-9_-]{42}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: The command line without the program's name, None for this process's own.

    Returns:
        The exit status: 0 when all went well, 130 when Ctrl-C ended it, 1 otherwise.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a label may have what the terminal's encoding lacks
            stream.reconfigure(errors="backslashreplace")
    written = sys.argv[1:] if arguments is None else arguments
    if [*written[:1]] == ["--version"]:  # before argparse, which wants a command
        from importlib.metadata import version  # noqa: PLC0415  # slow, and for those alone who ask

        print(version("tuned-digest"))
        return 0
    options = _parsed([_guarded(argument) for argument in written])
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        status = run(options)
        sys.stdout.flush()
    except TunedDigestError as error:
        print(f"tuned-digest: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ntuned-digest: stopped", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # whoever read the output has gone, as head does; so that Python's end is quiet:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _parsed(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    # Before Python 3.12.7 argparse does not find an argument that may be left out behind options.
    last = getattr(options, "last", None)
    if last is not None and getattr(options, last) is None and others and not others[0].startswith("-"):
        setattr(options, last, others.pop(0))
    if others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return options


def _guarded(argument: str) -> str:
    """Keep a key's thumbprint that begins with a dash from being taken for an option."""
    return f" {argument}" if _DASHED_KEY.fullmatch(argument) else argument


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tuned-digest",
        description="Request signing with server challenges and self-signed tokens, "
        "and the keys of accounts.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True)
    demo = commands.add_parser("demo", help="drive a real server on loopback with the real clients")
    demo.set_defaults(run=_demo)
    add_serve(commands)
    add_keygen(commands)
    add_enroll(commands)
    add_approve(commands)
    add_recover(commands)
    add_revoke(commands)
    add_keys(commands)
    return parser


def _demo(options: argparse.Namespace) -> int:
    from .demo import run_demo  # noqa: PLC0415  # an extra that other commands do without

    return run_demo()
