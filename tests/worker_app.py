"""An application that real servers run in several workers: what ``STORE`` refuses is seen in their output."""

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tuned_digest import ArgumentError
from tuned_digest.server import Grant, MemoryNonceStore
from tuned_digest.server.asgi import Receive, Scope, Send

from .driving import ACCESS

STORE = MemoryNonceStore(several_processes="SEVERAL" in os.environ)
GRANT = Grant({ACCESS.scheme: ACCESS}, frozenset({"read"}), chained=True)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Use the store when the server starts."""
    if scope["type"] == "lifespan":
        await receive()
        try:
            STORE.start() if "PATIENT" in os.environ else STORE.issue(GRANT)
        except ArgumentError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        say(f"worker {os.getpid()} has started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Use the store when a request comes, in a server that has no startup."""
    try:
        STORE.issue(GRANT)
    except ArgumentError as error:
        start_response("500 Internal Server Error", [])
        return [str(error).encode()]
    start_response("200 OK", [])
    return [b"served"]


def say(line: str) -> None:
    """Write a line to the server's output, at once: the other worker writes there too."""
    os.write(sys.stderr.fileno(), f"{line}\n".encode())


def run_uvicorn() -> None:
    """Run two workers from a program."""
    import uvicorn  # noqa: PLC0415  # the other servers do without

    uvicorn.run("tests.worker_app:app", port=int(sys.argv[1]), workers=2)


if __name__ == "__main__":
    run_uvicorn()
