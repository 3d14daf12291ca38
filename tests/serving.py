"""Real servers for tests, on a free loopback port, in a thread, counting what they are asked."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import hypercorn
import hypercorn.asyncio
import uvicorn

from tuned_digest import Tuning
from tuned_digest.server.asgi import Application, Message, Receive, Scope, Send

QUICK = Tuning("argon2d", 64, 1, 1)
"""Access tuning for tests that are not about the work."""

QUICK_CREATE = Tuning("argon2d", 128, 1, 1)
"""Create tuning for tests that are not about the work: dearer than `QUICK`."""


@dataclass
class Served:
    """A server that is accepting connections."""

    url: str
    requests: list["Seen"] = field(default_factory=list)

    @property
    def statuses(self) -> list[int]:
        """The statuses of all responses so far."""
        return [seen.status for seen in self.requests]

    @property
    def story(self) -> list[str]:
        """Each request so far in one line: method, target and the status that answered it."""
        return [f"{seen.method} {seen.target} {seen.status}" for seen in self.requests]


@dataclass
class Seen:
    """One request the server got, and what it answered."""

    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    status: int = 0

    def field(self, name: str) -> list[str]:
        """The values of one request field."""
        return [value.decode("latin-1") for key, value in self.headers if key == name.lower().encode()]


@contextmanager
def serve(app: Application, **options: Any) -> Iterator[Served]:
    """Serve an ASGI application with uvicorn until the block ends."""
    served = Served("")
    config = uvicorn.Config(_counted(app, served), port=0, log_level="warning", **options)
    server = _Announcing(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        assert server.accepting.wait(30)
        host, port = server.servers[0].sockets[0].getsockname()[:2]
        scheme = "https" if "ssl_certfile" in options else "http"
        served.url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
        yield served
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def serve_http2(app: Application, *, certfile: str, keyfile: str) -> Iterator[Served]:
    """Serve an ASGI application over HTTP/2 until the block ends."""
    served = Served("")
    counted = _counted(_read_first(app), served)
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    served.url = f"https://localhost:{listening.getsockname()[1]}"
    config = hypercorn.Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.certfile, config.keyfile, config.alpn_protocols = certfile, keyfile, ["h2"]
    config.loglevel = "ERROR"
    serving = hypercorn.asyncio.serve(counted, config, shutdown_trigger=ending.wait)  # type: ignore[arg-type]
    thread = threading.Thread(target=loop.run_until_complete, args=(serving,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(30)
        loop.close()


def _read_first(app: Application) -> Application:
    """Give an application its requests whole.

    Hypercorn 0.18 ends the connection of a request that is answered before (pgjones/hypercorn#329).
    """

    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []
        while scope["type"] == "http" and (not messages or messages[-1].get("more_body")):
            messages.append(await receive())

        async def replaying() -> Message:
            return messages.pop(0) if messages else await receive()

        await app(scope, replaying, send)

    return reading


def _counted(app: Application, served: Served) -> Application:
    async def counting(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        target = scope["raw_path"].decode("ascii")
        if scope["query_string"]:
            target += "?" + scope["query_string"].decode("ascii")
        seen = Seen(scope["method"], target, list(scope["headers"]))
        served.requests.append(seen)

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                seen.status = message["status"]
            await send(message)

        await app(scope, receive, noting)

    return counting


class _Announcing(uvicorn.Server):
    """A server that says when it accepts connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.accepting = threading.Event()

    async def startup(self, *args: Any, **kwargs: Any) -> None:
        await super().startup(*args, **kwargs)
        self.accepting.set()
