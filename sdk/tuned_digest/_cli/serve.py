"""``tuned-digest serve``: a small API whose every request is verified, to try a client against."""

from __future__ import annotations

__all__ = ["REGISTRATIONS", "add_serve"]

import argparse
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from .._wire.origins import Origin
from ..errors import ArgumentError, TunedDigestError
from ..proof import SearchCost, Tuning
from ..proof.argon2 import ACCESS_TUNING, CREATE_TUNING
from .workers import ending, supervise

if TYPE_CHECKING:
    from .service import Service

T = TypeVar("T")

REGISTRATIONS = ("invited", "open", "operator")
"""How an account gets its first key: those of `Enrolment`, which is not imported for a help text."""

_MAX_PORT = 65535  # RFC 9293 section 3.1
_EVERY_ADDRESS = ("", "0.0.0.0", "::")  # noqa: S104  # that nobody calls a server by
_BACKLOG = 2048  # connections that wait to be taken: uvicorn's default


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
        help="also offer a BLAKE3 search of so many bits, 1 to 32; deployed servers use 1 "
        "(default: no search)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that serve (%(default)s)"
    )
    parser.add_argument(
        "--store",
        metavar="PATH_OR_URL",
        help="SQLite file that keeps issued nonces, over restarts too, or redis://host:port/0 "
        "(memory; with several workers a file that is removed at the end)",
    )
    parser.add_argument(
        "--accounts",
        metavar="PATH_OR_URL",
        help="only enrolled keys may call, by either scheme: SQLite file that keeps them, or "
        "postgresql+psycopg://user@host/name; devices enrol at /account",
    )
    parser.add_argument(
        "--registration",
        choices=REGISTRATIONS,
        help="how an account gets its first key: by an invitation, by asking for a free name, or from the "
        "operator alone (invited)",
    )
    parser.add_argument(
        "--origin",
        metavar="URL",
        help="what clients call this server, to which their tokens are bound: localhost and 127.0.0.1 are "
        "different origins (default: the address it listens on)",
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
    from .service import Service  # noqa: PLC0415  # an extra that other commands do without

    if not 0 <= options.port <= _MAX_PORT:
        raise ArgumentError(f"a port is 0 to {_MAX_PORT}, not {options.port}")
    if options.workers < 1:
        raise ArgumentError(f"--workers is 1 or more, not {options.workers}")
    if options.accounts is None and (options.registration or options.origin) is not None:
        raise ArgumentError("--registration and --origin are for a server with --accounts: give that too")
    service = Service(
        access=options.access,
        create=options.create,
        cost=options.cost.bits if options.cost else None,
        store=options.store,
        accounts=options.accounts,
        registration=options.registration or "invited",
    )
    try:
        with _listening(options.host, options.port) as listening:
            service = replace(service, origin=_origin(options, listening))
            if options.workers == 1:
                service.start_stores()
                service.run(listening, lambda: _announce(service, listening))
            else:
                _serve_together(service, listening, options.workers)
    except KeyboardInterrupt:
        pass
    return 0


def _serve_together(service: Service, listening: socket.socket, count: int) -> None:
    with ending() as asked, TemporaryDirectory(prefix="tuned-digest-") as private:
        shared = service.shared(Path(private))
        shared.start_stores()
        supervise(asked, count, shared.run_worker, listening, started=lambda: _announce(service, listening))


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise ArgumentError(
            f"cannot listen on {host}, port {port}: {error}: pass another --host or --port"
        ) from None
    with listening:
        yield listening


def _origin(options: argparse.Namespace, listening: socket.socket) -> str:
    """Say what clients call the server: those that call it otherwise have their tokens refused."""
    if options.origin is not None:
        return str(Origin.parse(options.origin))
    if options.accounts is not None and options.host in _EVERY_ADDRESS:
        raise ArgumentError(f"on {options.host!r}, --accounts needs --origin: clients sign what they call")
    return _address(listening)


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _announce(service: Service, listening: socket.socket) -> None:
    print(f"serving on {_address(listening)}", flush=True)
    if service.accounts is not None:
        from .accounts import way_in  # noqa: PLC0415  # an extra that other services do without

        print(way_in(service.origin, service.accounts, service.registration), flush=True)
