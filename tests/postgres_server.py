"""A real PostgreSQL server on a free loopback port."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from .redis_servers import free_port

_DEADLINE = 60  # seconds
_PLACES = "/usr/lib/postgresql/*/bin"
"""Where Debian keeps its programs, off the PATH."""
_SETTINGS = ("fsync=off", "unix_socket_directories=", "max_connections=200")


def _installed() -> Path:
    found = shutil.which("initdb") or next(iter(sorted(Path("/").glob(f"{_PLACES[1:]}/initdb"))), None)
    if found is None:
        pytest.skip("PostgreSQL's initdb is not installed")
    return Path(found).resolve().parent


def _other_user() -> str | None:
    """Name a user to run it as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


class PostgresServer:
    """Run one server, whose files outlive it."""

    def __init__(self) -> None:
        self._programs, self._user = _installed(), _other_user()
        self._directory = Path(tempfile.mkdtemp(prefix="tuned-digest-"))  # one that the other user may enter
        if self._user is not None:
            shutil.chown(self._directory, self._user)
        self.port = free_port()
        self._run(
            "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"
        )
        self.start()

    def url(self, schema: str = "public", *options: str) -> str:
        """Give the URL of a schema of its database; options are such as ``-c log_statement=all``."""
        words = " ".join([f"-c search_path={schema}", *options]).replace(" ", "%20")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres?options={words}"

    def execute(self, *statements: str) -> list[Any]:
        """Run statements on a connection of its own, and give the rows of the last."""
        place = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres"
        with closing(psycopg.connect(place, autocommit=True)) as connection:
            for statement in statements[:-1]:
                connection.execute(statement.encode())
            cursor = connection.execute(statements[-1].encode())
            return cursor.fetchall() if cursor.description else []

    def log(self) -> str:
        """Give what it has logged so far."""
        return (self._directory / "log").read_text()

    def start(self) -> None:
        """Start it, on the same port and the same files, and wait until it answers."""
        settings = " ".join(f"-c {setting}" for setting in (*_SETTINGS, f"port={self.port}"))
        self._run("pg_ctl", "--wait", f"--log={self._directory / 'log'}", f"--options={settings}", "start")

    def stop(self) -> None:
        """Stop it, whoever is connected."""
        self._run("pg_ctl", "--wait", "--mode=immediate", "stop")

    def close(self) -> None:
        """Stop it, and remove its files."""
        self.stop()
        shutil.rmtree(self._directory)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), f"--pgdata={self._directory / 'files'}", *arguments]
        subprocess.run(
            command,
            user=self._user,
            cwd=self._directory,
            timeout=_DEADLINE,
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for all tests."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def own_postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for one test, which may stop and start it."""
    server = PostgresServer()
    yield server
    server.close()
