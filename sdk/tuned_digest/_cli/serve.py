"""``tuned-digest serve``: a small API whose every request is verified, to try a client against."""

from __future__ import annotations

__all__ = ["add_serve"]

import argparse
from collections.abc import Callable
from typing import TypeVar

from ..errors import ArgumentError, MissingExtraError, TunedDigestError
from ..proof import SearchCost, Tuning
from ..proof.argon2 import ACCESS_TUNING, CREATE_TUNING

T = TypeVar("T")

_MAX_PORT = 65535  # RFC 9293 section 3.1


def add_serve(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line.

    Args:
        commands: The commands so far.
    """
    parser = commands.add_parser("serve", help="serve a store of named blobs, every request to it verified")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8000, help="port to listen on, 0 for a free one (%(default)s)"
    )
    parser.add_argument(
        "--access",
        type=_argument(Tuning.parse),
        default=ACCESS_TUNING,
        metavar="TUNING",
        help=f"Argon2 work of everything but creating, in single quotes for the shell ({ACCESS_TUNING})",
    )
    parser.add_argument(
        "--create",
        type=_argument(Tuning.parse),
        default=CREATE_TUNING,
        metavar="TUNING",
        help=f"Argon2 work of creating ({CREATE_TUNING})",
    )
    parser.add_argument(
        "--cost",
        type=_argument(SearchCost.parse_parameter),
        metavar="BITS",
        help="also offer a BLAKE3 search of so many bits, 1 to 32; deployed servers use 1 (no search)",
    )
    parser.set_defaults(run=_serve)


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make a parser's error one that argparse reports as a wrong argument."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except TunedDigestError as error:
            raise argparse.ArgumentTypeError(f"{error}: see --help") from None

    return parsed


def _serve(options: argparse.Namespace) -> int:
    from .blobs import blobs_application  # noqa: PLC0415  # an extra that other commands do without

    try:
        import uvicorn  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError(
            "uvicorn is not installed: pip install 'tuned-digest[demo]'", extra="demo"
        ) from None

    if not 0 <= options.port <= _MAX_PORT:
        raise ArgumentError(f"a port is 0 to {_MAX_PORT}, not {options.port}")
    access: Tuning = options.access
    create: Tuning = options.create
    cost: SearchCost | None = options.cost
    application = blobs_application(access=access, create=create, cost=cost.bits if cost else None)

    class Announcing(uvicorn.Server):
        """A server that prints its address once it accepts connections."""

        async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
            await super().startup()
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(f"serving on http://{shown}:{port}", flush=True)

    server = Announcing(
        uvicorn.Config(
            application, host=options.host, port=options.port, log_level="warning", access_log=False
        )
    )
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    except SystemExit:  # what it was has been logged
        raise ArgumentError(
            f"cannot listen on {options.host}, port {options.port}: pass another --host or --port"
        ) from None
    return 0
