"""Tokens that are used once, and keys that are revoked: on every store, at once, in several processes."""

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import redis

from tuned_digest._runtime.drivers import run_anyio
from tuned_digest.errors import RequestRejectedError
from tuned_digest.server import IncomingRequest, SQLiteNonceStore, TokenVerifier
from tuned_digest.server.accounts.sql import SQLKeyRegistry
from tuned_digest.server.stores.redis import RedisNonceStore

from .every_store import STORES
from .redis_servers import TIMEOUT, Launch, RedisServer, eventually
from .tokens import ACCOUNT, AUDIENCE, NOW, CountedRegistry, Holder, TokenServer

ROOT = Path(__file__).parents[1]
COPIES = 200
WORKERS = 4


@contextmanager
def serving(workers: int, store: str, keys: Path) -> Iterator[str]:
    """Serve `tests.token_app` in processes of its own, and give its URL."""
    command = [sys.executable, "-m", "tests.token_app", str(workers), store, str(keys)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@contextmanager
def keys_of(path: Path, *holders: Holder) -> Iterator[SQLKeyRegistry]:
    """Make a registry in a file, with keys."""
    registry = SQLKeyRegistry(path)
    registry.start()
    for holder in holders:
        registry.enrol(holder.enrolled, what="key added", by="operator")
    yield registry
    registry.close()


async def copies(url: str, authorization: str, count: int = COPIES) -> Counter[int]:
    """Send one request many times at once, over 50 connections; count the statuses."""
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:
        sent = (client.get(f"{url}/a", headers={"Authorization": authorization}) for _ in range(count))
        return Counter(answer.status_code for answer in await asyncio.gather(*sent))


class TestProcesses:
    @pytest.mark.parametrize("kind", ["sqlite", "redis"])
    def test_many_copies_at_once(self, kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        """Of 200 copies of one request, sent at once to 4 processes, exactly one is accepted."""
        holder = Holder()
        store = f"sqlite:{tmp_path / 'nonces.db'}"
        if kind == "redis":
            server: RedisServer = request.getfixturevalue("redis_server")
            store = f"redis://127.0.0.1:{server.port}/0"
        with keys_of(tmp_path / "keys.db", holder), serving(WORKERS, store, tmp_path / "keys.db") as url:
            answers = asyncio.run(copies(url, holder.authorization(now=time.time())))
        assert answers == {200: 1, 401: COPIES - 1}

    def test_many_copies_at_once_to_one_process(self, tmp_path: Path) -> None:
        """The same holds for one process that remembers used tokens in memory."""
        holder = Holder()
        with keys_of(tmp_path / "keys.db", holder), serving(1, "memory", tmp_path / "keys.db") as url:
            answers = asyncio.run(copies(url, holder.authorization(now=time.time())))
        assert answers == {200: 1, 401: COPIES - 1}

    def test_a_revocation(self, tmp_path: Path) -> None:
        """A key that another process revokes is refused by all processes from the next request on."""
        holder, other = Holder(), Holder()
        store = f"sqlite:{tmp_path / 'nonces.db'}"
        with (
            keys_of(tmp_path / "keys.db", holder, other) as registry,
            serving(2, store, tmp_path / "keys.db") as url,
            ExitStack() as stack,
        ):
            lines = dict[str, httpx.Client]()  # one connection to each process
            deadline = time.monotonic() + 60
            while len(lines) < 2:
                assert time.monotonic() < deadline, "one process answers all"
                client = stack.enter_context(httpx.Client(base_url=url))
                lines.setdefault(client.get("/bare").text, client)

            def statuses(by: Holder, name: str) -> list[int]:
                return [
                    client.get(
                        "/a", headers={"Authorization": by.authorization(now=time.time(), jti=name + line)}
                    ).status_code
                    for line, client in lines.items()
                ]

            assert statuses(holder, "before") == [200, 200]
            assert registry.revoke(holder.public.thumbprint, account=ACCOUNT, now=time.time(), by="operator")
            assert statuses(holder, "after") == [401, 401]
            assert statuses(other, "after") == [200, 200]
            assert os.getpid() not in map(int, lines)


@pytest.mark.parametrize("name", [name for name in STORES if "stateless" not in name])
def test_once_on_every_store(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """On every store one of many copies is accepted, and another token is good as well."""
    holder = Holder()
    with STORES[name](request, tmp_path) as made:
        store: Any = made
        verifier = TokenVerifier(
            CountedRegistry(holder),
            AUDIENCE,
            single_use=store,
            _clock=lambda: NOW,
        )
        statuses: list[int] = []

        async def send(jti: str) -> None:
            request = IncomingRequest("GET", "/a", "", [("Authorization", holder.authorization(jti=jti))])
            try:
                await run_anyio(verifier.verify(request, lambda: verifier.new_digest(b"").digest()))
                statuses.append(200)
            except RequestRejectedError as rejection:
                statuses.append(rejection.status)

        async def send_all() -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(send, "1")
            await send("2")

        anyio.run(run_anyio, verifier.start())
        anyio.run(send_all)
        assert Counter(statuses) == {200: 2, 401: 19}


class TestForgetting:
    """Stores that may have forgotten what was spent."""

    def forgets(self, server: TokenServer, holder: Holder, forget: Callable[[], None]) -> None:
        """Find tokens from before refused, and those that are young enough accepted."""
        used, unused = holder.authorization(jti="1"), holder.authorization(jti="2")
        server.verify("GET", "/a", used)
        forget()
        assert server.refusal("GET", "/a", used).reason == "store forgot tokens"
        assert server.refusal("GET", "/a", unused).reason == "store forgot tokens"
        server.clock.now += 16  # the leeway, and the 5 s that clients put their clock back
        server.verify("GET", "/a", holder.authorization(now=server.clock.now, jti="3"))

    def test_a_server_that_was_restarted(self, launch: Launch) -> None:
        """When Redis has lost its memory, tokens from before are refused; while it is away, all are."""
        holder, server = Holder(), launch("redis")
        with redis.Redis(port=server.port, socket_timeout=TIMEOUT) as client:
            to = TokenServer(holder, single_use=RedisNonceStore(client))

            def restart() -> None:
                server.kill()
                assert to.refusal("GET", "/a", holder.authorization(jti="4")).status == 503
                server.start()
                eventually(client.ping)

            self.forgets(to, holder, restart)

    def test_a_file_that_was_deleted(self, tmp_path: Path) -> None:
        """When the file of used tokens is another one, tokens from before are refused."""
        holder = Holder()
        stores = [SQLiteNonceStore(tmp_path / f"{number}.db") for number in range(2)]

        class Replaced:
            current = stores[0]

            def spend(self, name: str, seconds: float, /) -> str | None:
                return self.current.spend(name, seconds)

        replaced: Any = Replaced()

        def replace() -> None:
            replaced.current = stores[1]

        self.forgets(TokenServer(holder, single_use=replaced), holder, replace)
        for store in stores:
            store.close()
