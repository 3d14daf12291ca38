"""The API that loads and attacks are measured against, on any store and any number of worker processes.

``python -m bench.api WORKERS STORE [TUNING]``. STORE is ``memory``, ``stateless``, ``sqlite:PATH``,
``redis://...``, ``redis-async://...``, ``sentinel:PORT``, and ``stateless+`` before any of these. Outside of
the middleware lie ``/bare``, the same answer to everybody, and ``/pulse``, which tells how the process is.
``/closed`` knows no identity.
"""

import asyncio
import json
import logging
import os
import resource
import socket
import sys
import time
from typing import Any

import redis
import redis.asyncio
import uvicorn
from uvicorn.supervisors import Multiprocess

from tuned_digest import Tuning
from tuned_digest.server import MemoryNonceStore, Policy, SQLiteNonceStore, StatelessNonceStore, Verifier
from tuned_digest.server.asgi import Application, Receive, Scope, Send, TunedDigestMiddleware
from tuned_digest.server.stores.redis import AsyncRedisNonceStore, RedisNonceStore

MASTER = "nonces"  # what a sentinel calls the server it watches
TICK = 0.005  # seconds between two looks at the clock


class Pulse:
    """Look at the clock all the time, and keep the longest that the event loop was held up."""

    def __init__(self) -> None:
        self.largest = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        if self._task is None:
            self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(TICK)
            self.largest = max(self.largest, time.perf_counter() - began - TICK)


def store_of(name: str) -> Any:
    """Make the store that a name stands for."""
    kind, _, rest = name.partition("+")
    if kind == "stateless":
        key = os.environ["BENCH_KEY"].encode()
        return StatelessNonceStore([key], spent=store_of(rest) if rest else None)
    scheme, _, path = name.partition(":")
    if scheme == "memory":
        return MemoryNonceStore()
    if scheme == "sqlite":
        return SQLiteNonceStore(path)
    if scheme == "redis-async":
        return AsyncRedisNonceStore(redis.asyncio.Redis.from_url(f"redis:{path}", socket_timeout=1))
    if scheme == "sentinel":
        sentinel: Any = redis.Sentinel([("127.0.0.1", int(path))], socket_timeout=1)  # type: ignore[no-untyped-call]
        return RedisNonceStore(sentinel.master_for(MASTER, socket_timeout=1))
    return RedisNonceStore(redis.Redis.from_url(name, socket_timeout=1))


def application() -> Application:
    """Make the application of one worker."""
    logging.getLogger("tuned_digest").addHandler(logging.NullHandler())  # else its warnings go to stderr
    tuning = Tuning.parse(os.environ["BENCH_TUNING"])
    store = store_of(os.environ["BENCH_STORE"])
    policy = Policy(access=tuning, create=tuning, exists=lambda path: True)
    verifier = Verifier(store, policy=policy)
    verified = TunedDigestMiddleware(bare, verifier)
    closed = TunedDigestMiddleware(bare, Verifier(store, policy=policy, accounts=lambda identity: None))
    pulse = Pulse()

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/bare":
            await bare(scope, receive, send)
        elif scope["type"] == "http" and scope["path"] == "/pulse":
            pulse.start()
            counters = verifier.counters()
            usage = resource.getrusage(resource.RUSAGE_SELF)
            told = {
                "pid": os.getpid(),
                "stall": pulse.largest,
                "peak": usage.ru_maxrss * 1024,
                "resident": _resident(),
                "cpu": usage.ru_utime + usage.ru_stime,
                "checked": counters.accepted + counters.refused.get("challenge verification failed", 0),
            }
            pulse.largest = 0.0
            await answer(send, json.dumps(told).encode())
        elif scope["type"] == "http" and scope["path"] == "/closed":
            await closed(scope, receive, send)
        else:
            await verified(scope, receive, send)

    return outer


def _resident() -> int:
    with open("/proc/self/statm") as memory:  # noqa: PTH123  # what the system tells of this process
        return int(memory.read().split()[1]) * resource.getpagesize()


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as the smallest applications do."""
    if scope["type"] == "lifespan":
        for kind in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{kind}.complete"})
        return
    while (await receive()).get("more_body"):
        pass
    await answer(send, b"ok")


async def answer(send: Send, body: bytes) -> None:
    """Send a response."""
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    os.environ["BENCH_STORE"] = sys.argv[2]
    os.environ["BENCH_TUNING"] = sys.argv[3] if len(sys.argv) > 3 else "$argon2d$v=19$m=8,t=1,p=1"
    os.environ.setdefault("BENCH_KEY", "k" * 32)
    config = uvicorn.Config(
        "bench.api:application",
        factory=True,
        workers=int(sys.argv[1]),
        log_level="error",
        access_log=False,
        timeout_keep_alive=600,
    )
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        server = uvicorn.Server(config)
        if config.workers > 1:
            Multiprocess(config, [listening]).run()
        else:
            server.run(sockets=[listening])
