"""The command line: ``tuned-digest demo | serve | keygen``."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from .errors import ArgumentError, MissingExtraError, PrivateKeyError, TunedDigestError
from .signers import Ed25519Signer
from .tuning import ACCESS_TUNING, CREATE_TUNING, SearchCost, Tuning, parse_cost, parse_tuning

__all__ = ["main"]

T = TypeVar("T")


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

    serve = commands.add_parser("serve", help="serve a store of named blobs, every request to it verified")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument(
        "--port", type=int, default=8000, help="port to listen on, 0 for a free one (%(default)s)"
    )
    serve.add_argument(
        "--access",
        type=_argument(parse_tuning),
        default=ACCESS_TUNING,
        metavar="TUNING",
        help=f"Argon2 work of everything but creating ({ACCESS_TUNING})",
    )
    serve.add_argument(
        "--create",
        type=_argument(parse_tuning),
        default=CREATE_TUNING,
        metavar="TUNING",
        help=f"Argon2 work of creating ({CREATE_TUNING})",
    )
    serve.add_argument(
        "--cost",
        type=_argument(parse_cost),
        default=SearchCost(1),
        metavar="BITS",
        help="search cost, 1 to 32 bits (1)",
    )
    serve.set_defaults(run=_serve)

    keygen = commands.add_parser("keygen", help="make a key file, and print the identity to register")
    keygen.add_argument("file", type=Path, help="where to write it; it must not exist")
    keygen.add_argument("--password", action="store_true", help="ask for a password to encrypt it with")
    keygen.set_defaults(run=_keygen)
    return parser


def _argument(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Make a parser's error one that argparse reports as a wrong argument."""

    def parsed(text: str) -> T:
        try:
            return parse(text)
        except TunedDigestError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parsed


def _demo(options: argparse.Namespace) -> int:
    from .demo import run_demo  # noqa: PLC0415  # needs what keygen does not

    return run_demo()


def _serve(options: argparse.Namespace) -> int:
    from .server.blobs import blobs_application  # noqa: PLC0415  # needs what keygen does not

    try:
        import uvicorn  # noqa: PLC0415
    except ImportError:
        raise MissingExtraError(
            "uvicorn is not installed: pip install 'tuned-digest[demo]'", extra="demo"
        ) from None

    access: Tuning = options.access
    create: Tuning = options.create
    cost: SearchCost = options.cost
    application = blobs_application(access=access, create=create, cost=cost.bits)

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
            f"cannot listen on {options.host}, port {options.port}: pass another --port"
        ) from None
    return 0


def _keygen(options: argparse.Namespace) -> int:
    path: Path = options.file.expanduser()
    password = _new_password() if options.password else None
    signer = Ed25519Signer.generate()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise PrivateKeyError(
            f"{path} exists: name another file, a key is never overwritten", path=str(path)
        ) from None
    except OSError as error:
        raise PrivateKeyError(f"{path} cannot be written: {error.strerror}", path=str(path)) from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(signer.to_pem(password=password))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise PrivateKeyError(f"{path} could not be written: {error.strerror}", path=str(path)) from None
    print(signer.identity)
    return 0


def _new_password() -> str:
    password = getpass.getpass("password: ")
    if not password:
        raise PrivateKeyError("a password is not empty; leave --password away for no encryption")
    if getpass.getpass("again: ") != password:
        raise PrivateKeyError("the two passwords differ: nothing was written")
    return password


if __name__ == "__main__":
    sys.exit(main())
