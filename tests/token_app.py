"""An application behind tokens in several processes: ``python -m tests.token_app WORKERS STORE KEYS``.

STORE is ``memory``, ``sqlite:PATH`` or ``redis://...``; KEYS is the file of an SQLite registry. Each answer
says which process gave it.
"""

import os
import socket
import sys
from inspect import signature
from typing import Any

import redis
import uvicorn
from uvicorn.supervisors import Multiprocess

from tuned_digest.server import MemoryNonceStore, SQLiteNonceStore, TokenVerifier
from tuned_digest.server.accounts.sql import SQLKeyRegistry
from tuned_digest.server.asgi import Application, Receive, Scope, Send, TunedDigestMiddleware
from tuned_digest.server.stores.redis import RedisNonceStore

from .tokens import AUDIENCE


def store_of(name: str) -> Any:
    """Make the store that a name stands for."""
    scheme, _, path = name.partition(":")
    if scheme == "memory":
        return MemoryNonceStore()
    if scheme == "sqlite":
        return SQLiteNonceStore(path, busy_timeout=10)
    return RedisNonceStore(redis.Redis.from_url(name, socket_timeout=10))


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the process's number."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def application() -> Application:
    """Make the application of one worker."""
    store, registry = store_of(os.environ["TOKEN_STORE"]), SQLKeyRegistry(os.environ["TOKEN_KEYS"])
    verifier = TokenVerifier(registry, AUDIENCE, single_use=store)
    verified = TunedDigestMiddleware(bare, verifier)

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        await (bare if scope.get("path") == "/bare" else verified)(scope, receive, send)

    return outer


if __name__ == "__main__":
    os.environ["TOKEN_STORE"], os.environ["TOKEN_KEYS"] = sys.argv[2:]
    config = uvicorn.Config(
        "tests.token_app:application",
        factory=True,
        workers=int(sys.argv[1]),
        log_level="error",
        access_log=False,
        timeout_keep_alive=600,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        sys.stdout.write(f"http://127.0.0.1:{listening.getsockname()[1]}\n")
        sys.stdout.flush()
        server = uvicorn.Server(config)
        if config.workers > 1:
            run: list[Any] = [server.run] if "target" in signature(Multiprocess).parameters else []
            arguments: list[Any] = [config, *run, [listening]]  # uvicorn 0.35 is told what to run
            Multiprocess(*arguments).run()
        else:
            server.run(sockets=[listening])
