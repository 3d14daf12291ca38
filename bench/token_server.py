"""The rows of a server of self-signed tokens: what a request costs it, and copies of one at once."""

import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from tests.redis_servers import RedisServer
from tests.tokens import AUDIENCE, Holder

from tuned_digest.server import KeyRegistry, MemoryKeyRegistry, MemoryNonceStore, TokenVerifier
from tuned_digest.server.accounts.sql import SQLKeyRegistry
from tuned_digest.server.asgi import Application, Scope, TunedDigestMiddleware

from .steady import REQUESTS, added, bare, bearer, scopes
from .table import row, served, timed
from .wire import Answer, Connection

COPIES = 1000
CONNECTIONS = 100
REPLAYS = 5
PATH = "/vaults/abc"


def cost() -> None:
    """What a verified request costs a server, to a bearer token that PyJWT checks with a static key."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        holder, file = Holder(), SQLKeyRegistry(Path(directory, "keys.db"))
        file.start()
        memory = MemoryKeyRegistry()
        for registry in (memory, file):
            registry.enrol(holder.enrolled, what="key added", by="operator")
            registry.note_use(holder.public.thumbprint, time.time() + 3600)
        token, bound, unbound, over_file = (  # the least of several: others use this machine too
            min(added(make))
            for make in (
                bearer,
                partial(_verified, holder, memory),
                partial(_verified, holder, memory, is_bound=False),
                partial(_verified, holder, file),
            )
        )
        reads = timed(lambda: file.find(holder.public.thumbprint), rounds=2000) * 1e6
        file.close()
    for name, microseconds in (("bound, used once", bound), ("unbound, reused", unbound)):
        ratio = microseconds / token
        row(
            f"CPU of a verified token, {name}, to a bearer token",
            f"{microseconds:.0f} to {token:.0f} us, {ratio:.2f}",
            "1.5 or less",
            ratio <= 1.5,
        )
    row(
        "the registry's read, SQLite, and the thread for it",
        f"{reads:.0f} us, {over_file - bound - reads:.0f} us",
        "reported",
        True,
    )


def _verified(
    holder: Holder, registry: KeyRegistry, *, is_bound: bool = True
) -> tuple[Application, list[Scope]]:
    """Make an application behind tokens, and requests to it."""
    store = MemoryNonceStore() if is_bound else None
    verifier = TokenVerifier(registry, AUDIENCE, single_use=store, require_bound=is_bound)
    now = time.time()
    claims = (holder.claims(PATH, now=now, jti=str(number)) for number in range(REQUESTS))
    if not is_bound:
        few = ("iss", "sub", "aud", "iat", "exp", "jti")
        claims = ({name: one[name] for name in few} for one in claims)
    tokens = [holder.sign(one) for one in claims]
    return TunedDigestMiddleware(bare, verifier), scopes(f"Bearer {token}" for token in tokens)


@contextmanager
def _stores(directory: str) -> Iterator[dict[str, tuple[int, Callable[[], str]]]]:
    with closing(RedisServer("redis", Path(directory, "redis"))) as redis:
        yield {
            "SQLite": (4, lambda: f"sqlite:{directory}/nonces.db"),
            "Redis": (4, lambda: f"redis://127.0.0.1:{redis.port}/0"),
            "memory": (1, lambda: "memory"),
        }


def replay() -> None:
    """One bound token sent 1,000 times at once over 100 connections."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory, _stores(directory) as stores:
        holder, keys = Holder(), Path(directory, "keys.db")
        registry = SQLKeyRegistry(keys)
        registry.start()
        registry.enrol(holder.enrolled, what="key added", by="operator")
        registry.close()
        for name, (workers, make) in stores.items():
            with served("tests.token_app", str(workers), make(), str(keys)) as url:
                answers = asyncio.run(_replayed(url, holder))
            statuses = Counter(status for one in answers for status in one)
            accepted = sorted({one[200] for one in answers})
            row(
                f"{name}: 1,000 times one token, processes: {workers}",
                f"accepted {accepted} in {len(answers)} rounds, {dict(statuses)}",
                "exactly 1, else 401",
                accepted == [1] and set(statuses) == {200, 401},
            )


async def _replayed(url: str, holder: Holder) -> list[Counter[int]]:
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connection(url)) for _ in range(CONNECTIONS)]
        rounds = []
        for number in range(REPLAYS):
            authorization = holder.authorization("/", now=time.time(), jti=str(number))

            async def send(connection: Connection, authorization: str = authorization) -> list[Answer]:
                return [await connection.send("/", authorization) for _ in range(COPIES // CONNECTIONS)]

            answers = await asyncio.gather(*map(send, connections))
            rounds.append(Counter(answer.status for some in answers for answer in some))
        return rounds


ROWS: dict[str, Callable[[], None]] = {"token cost to a server": cost, "token replay": replay}
