"""Every nonce store there is: a new one is one more line here, and is held to all of them."""

import functools
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import cast

import pytest
import redis

from tuned_digest.server import AsyncNonceStore, MemoryNonceStore, NonceStore
from tuned_digest.server.stores import SpentStore
from tuned_digest.server.stores.redis import AsyncRedisNonceStore, RedisNonceStore
from tuned_digest.server.stores.sqlite import SQLiteNonceStore
from tuned_digest.server.stores.stateless import StatelessNonceStore

from .redis_servers import TIMEOUT, Reconnecting, RedisServer

AnyStore = NonceStore | AsyncNonceStore

MakeStore = Callable[[pytest.FixtureRequest, Path], AbstractContextManager[AnyStore]]
"""Makes an empty store: fixtures have the servers that tests share, the path is a directory of its own."""


@contextmanager
def memory(request: pytest.FixtureRequest, path: Path) -> Iterator[MemoryNonceStore]:
    """Make a store in memory."""
    yield MemoryNonceStore()


@contextmanager
def stateless(request: pytest.FixtureRequest, path: Path) -> Iterator[StatelessNonceStore]:
    """Make a store that keeps nothing of a nonce, and knows itself what was spent."""
    yield StatelessNonceStore([secrets.token_bytes(32)])


@contextmanager
def stateless_over(
    spent: MakeStore, request: pytest.FixtureRequest, path: Path
) -> Iterator[StatelessNonceStore]:
    """Make one that remembers in another store what was spent."""
    with spent(request, path) as store:
        yield StatelessNonceStore([secrets.token_bytes(32)], spent=cast("SpentStore", store))


@contextmanager
def redis_store(fixture: str, request: pytest.FixtureRequest, path: Path) -> Iterator[RedisNonceStore]:
    """Make a store in a real Redis or Valkey server."""
    server: RedisServer = request.getfixturevalue(fixture)
    with redis.Redis(port=server.port, socket_timeout=TIMEOUT) as client:
        yield RedisNonceStore(client, namespace=secrets.token_hex(8))


@contextmanager
def async_redis_store(
    fixture: str, request: pytest.FixtureRequest, path: Path
) -> Iterator[AsyncRedisNonceStore]:
    """Make a store in one of them that is reached by awaiting."""
    server: RedisServer = request.getfixturevalue(fixture)
    yield AsyncRedisNonceStore(Reconnecting(server), namespace=secrets.token_hex(8))


@contextmanager
def sqlite(request: pytest.FixtureRequest, path: Path) -> Iterator[SQLiteNonceStore]:
    """Make a store in a file."""
    store = SQLiteNonceStore(path / "nonces.db")
    yield store
    store.close()


STORES: dict[str, MakeStore] = {
    "memory": memory,
    "stateless": stateless,
    "stateless over memory": functools.partial(stateless_over, memory),
    "sqlite": sqlite,
    "redis": functools.partial(redis_store, "redis_server"),
    "redis-async": functools.partial(async_redis_store, "redis_server"),
    "valkey": functools.partial(redis_store, "valkey_server"),
    "valkey-async": functools.partial(async_redis_store, "valkey_server"),
}
