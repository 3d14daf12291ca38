"""Every key registry there is: a new one is one more line here, and is held to all of them."""

import functools
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import MetaData, create_engine

from tuned_digest.server.accounts import KeyRegistry, MemoryKeyRegistry
from tuned_digest.server.accounts.schema import add_tables
from tuned_digest.server.accounts.sql import SQLKeyRegistry

from .postgres_server import PostgresServer

MakeRegistry = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[KeyRegistry]]
"""Makes an empty registry: fixtures have the server that tests share, the path is a directory of its own."""

Place = Callable[[pytest.FixtureRequest, Path], str]
"""Gives the URL of an empty database."""


@contextmanager
def memory(request: pytest.FixtureRequest, path: Path) -> Iterator[MemoryKeyRegistry]:
    """Make a registry in memory."""
    registry = MemoryKeyRegistry()
    registry.start()
    yield registry


def sqlite_url(request: pytest.FixtureRequest, path: Path) -> str:
    """Give the URL of a file that is not there."""
    return f"sqlite:///{path / 'keys.db'}"


def postgresql_url(request: pytest.FixtureRequest, path: Path) -> str:
    """Give the URL of a schema of its own."""
    server: PostgresServer = request.getfixturevalue("postgres_server")
    schema = f"test_{secrets.token_hex(8)}"
    server.execute(f"CREATE SCHEMA {schema}")
    return server.url(schema)


@contextmanager
def own(place: Place, request: pytest.FixtureRequest, path: Path) -> Iterator[SQLKeyRegistry]:
    """Make a registry that opens its database itself."""
    registry = SQLKeyRegistry(place(request, path))
    registry.start()
    yield registry
    registry.close()


@contextmanager
def mounted(place: Place, request: pytest.FixtureRequest, path: Path) -> Iterator[SQLKeyRegistry]:
    """Make a registry over an owner's engine, in tables of the owner's metadata."""
    engine = create_engine(place(request, path))
    metadata = MetaData()
    tables = add_tables(metadata, prefix="acme_")
    metadata.create_all(engine)
    registry = SQLKeyRegistry(engine, tables=tables)
    registry.start()
    yield registry
    engine.dispose()


REGISTRIES: dict[str, MakeRegistry] = {
    "memory": memory,
    "sqlite": functools.partial(own, sqlite_url),
    "sqlite mounted": functools.partial(mounted, sqlite_url),
    "postgresql": functools.partial(own, postgresql_url),
    "postgresql mounted": functools.partial(mounted, postgresql_url),
}
