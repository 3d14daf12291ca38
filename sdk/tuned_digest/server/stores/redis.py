"""Issued nonces and spent names in Redis or Valkey, which any number of machines share."""

from __future__ import annotations

__all__ = ["AsyncRedisNonceStore", "RedisNonceStore"]

import functools
import inspect
import math
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import anyio

from ..._base64 import decode_base64, encode_base64
from ..._runtime.drivers import run_anyio, run_blocking
from ..._runtime.forks import PerProcess
from ..._runtime.steps import Steps
from ...errors import ArgumentError, MissingExtraError, TunedDigestError
from ..grants import Grant
from ._places import acquired

try:
    import redis
    import redis.asyncio
    from redis.connection import AbstractConnection
except ImportError as error:
    raise MissingExtraError(
        "redis is not installed: pip install 'tuned-digest[redis]'", extra="redis"
    ) from error

from ._redis_scripts import ISSUE, SPEND, TAKE, asked, evaluated

# Bytes of a nonce, together 32 (section 1). All nonces of a response begin alike: that part chooses their
# slot in a cluster, and one script reaches one slot.
_SHARED_SIZE, _OWN_SIZE = 3, 29
_SHARED_LENGTH = 4  # characters
_NONCE = re.compile(r"[A-Za-z0-9+/]{43}")
_NAMESPACE = re.compile(r"[!-z|~]{1,64}")  # no braces: in a key they say what the slot is computed of
_EPOCH_SIZE = 12  # bytes
_LONGEST = 10**9  # seconds, 31 years
_TRIAL = 1000  # milliseconds
_AT_ONCE = 50  # of the 100 connections that a pool of redis-py has
_PATIENCE = 1.0  # seconds to wait for one of them
_OLDEST = (6, 2)  # of Redis: GETDEL
_DEFAULT_TIMEOUT = inspect.signature(AbstractConnection).parameters["socket_timeout"].default

T = TypeVar("T")


class _Store:
    """Do what both stores do, in steps that a driver performs, blocking or awaited."""

    _clients: ClassVar[tuple[type[Any], type[Any]]]  # of a server, of a cluster

    def __init__(
        self,
        client: Any,
        *,
        namespace: str = "tuned-digest",
        lifetime: float = 86400,
        challenge_lifetime: float = 300,
        randomness: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        if not isinstance(client, self._clients):
            kinds = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in self._clients)
            raise ArgumentError(f"client is an object of {kinds}")
        if client.get_connection_kwargs().get("socket_timeout", _DEFAULT_TIMEOUT) is None:
            raise ArgumentError("this client may wait for ever: give it socket_timeout=1, in seconds")
        if not _NAMESPACE.fullmatch(namespace):
            raise ArgumentError("a namespace has 1 to 64 characters of ASCII, no spaces, no braces")
        if not all(0 < seconds < _LONGEST for seconds in (lifetime, challenge_lifetime)):
            raise ArgumentError(f"lifetimes are above 0 and below {_LONGEST}")
        self._client = client
        self._namespace = namespace
        self._lifetimes = {True: lifetime, False: challenge_lifetime}
        self._randomness = randomness
        self._is_checked = PerProcess(threading.Event)

    def _check(self) -> Steps[None]:
        for server in (yield from self._primaries()):
            version, policy = server["redis_version"], server.get("maxmemory_policy")
            if tuple(map(int, version.split(".")[:2])) < _OLDEST:
                raise ArgumentError(f"Redis is too old: {version}. Use Redis 6.2 or later, or Valkey")
            if policy != "noeviction":
                raise ArgumentError(
                    f"Redis drops keys under maxmemory-policy {policy}, and could forget nonces: set "
                    "maxmemory-policy noeviction, in its configuration file as well, and on its replicas"
                )
        (nonce,) = self._made(1)  # finds what the server, or its access rules, will refuse
        yield from evaluated(self._client, ISSUE, [self._key(nonce)], ["", _TRIAL])
        yield from evaluated(self._client, TAKE, [self._key(nonce)])
        self._is_checked.get().set()

    def _primaries(self) -> Steps[Sequence[Any]]:
        is_cluster = isinstance(self._client, self._clients[1])
        where = {"target_nodes": redis.RedisCluster.PRIMARIES} if is_cluster else {}
        answer = yield from asked(functools.partial(self._client.info, **where))
        return [answer] if "redis_version" in answer else list(answer.values())

    def _check_once(self) -> Steps[None]:
        if not self._is_checked.get().is_set():
            yield from self._check()

    def _issue(self, grants: Sequence[Grant]) -> Steps[list[str]]:
        yield from self._check_once()
        nonces = self._made(len(grants))
        arguments: list[str | int] = []
        for grant in grants:
            arguments += encode_base64(grant.encode()), _milliseconds(self._lifetimes[grant.chained])
        yield from evaluated(self._client, ISSUE, [self._key(nonce) for nonce in nonces], arguments)
        return nonces

    def _take(self, nonce: str) -> Steps[Grant | None]:
        if not _NONCE.fullmatch(nonce):
            return None
        yield from self._check_once()
        kept = yield from evaluated(self._client, TAKE, [self._key(nonce)])
        return None if kept is None else _read(kept)

    def _spend(self, name: str, seconds: float) -> Steps[str | None]:
        yield from self._check_once()
        epoch = f"{{{self._namespace}}}"  # one slot for all names, so that they have one epoch
        arguments = (_milliseconds(min(seconds, _LONGEST)), encode_base64(self._randomness(_EPOCH_SIZE)))
        return (yield from evaluated(self._client, SPEND, [f"{epoch}:{name}", epoch], arguments))

    def _made(self, count: int) -> list[str]:
        shared = encode_base64(self._randomness(_SHARED_SIZE))
        return [shared + encode_base64(self._randomness(_OWN_SIZE)) for _ in range(count)]

    def _key(self, nonce: str) -> str:
        return f"{self._namespace}:{{{nonce[:_SHARED_LENGTH]}}}{nonce[_SHARED_LENGTH:]}"


class RedisNonceStore(_Store):
    """Keep issued nonces in Redis or Valkey, for all processes of all machines that reach it.

    Each call is one script, in one round trip. When the server cannot be reached, requests are answered with
    503 until it is back. After a restart, and after a replica took over, nonces from before are unknown: the
    server may have lost that they were taken. Clients are then challenged once more.

    The server's ``maxmemory-policy`` has to be ``noeviction``, on replicas that may take over too. This is
    checked by `start`, or else by the first use in each process. A user of the server's access rules needs
    ``+evalsha +eval +info +set +get +getdel`` and keys that contain the namespace.

    In a cluster the nonces of one response share a slot, and responses are spread over all slots; the spent
    names of one namespace all share one slot. Do not put an older copy of the data in place of a running
    server's memory, as a snapshot of a virtual machine does: nonces taken since would be good again.

    Args:
        client: ``redis.Redis``, also from ``Sentinel.master_for``, or ``redis.RedisCluster``. It has a
            ``socket_timeout``, and waits that long for each of its tries: with ``socket_timeout=1`` and
            ``retry=Retry(NoBackoff(), 1)`` a request is refused within 2 seconds when the server hangs.
        namespace: Stores of different namespaces in one server know nothing of each other: 1 to 64 printable
            characters of ASCII, without spaces and braces.
        lifetime: Seconds a next nonce is good for (section 7).
        challenge_lifetime: Seconds the nonce of a challenge is good for: longer than the dearest work.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: If the client is of another kind or has no timeout, the namespace has other characters,
            or a lifetime is not positive or too long.
    """

    _clients = (redis.Redis, redis.RedisCluster)

    def start(self) -> None:
        """Check that the server can serve: every primary of a cluster, and a nonce issued and taken.

        Raises:
            ArgumentError: If the server is too old or may evict keys.
            StoreUnavailableError: If it cannot be reached, or refuses.
        """
        run_blocking(self._check())

    def issue(self, *grants: Grant) -> list[str]:
        """Make nonces and keep what they are good for, in one operation.

        Args:
            grants: What they are good for.

        Returns:
            A nonce for each.

        Raises:
            ArgumentError: If the server is too old or may evict keys.
            StoreUnavailableError: If it cannot be reached, has no room, or refuses.
        """
        return run_blocking(self._issue(grants))

    def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically.

        Args:
            nonce: The nonce presented.

        Returns:
            What it is good for, None when it was not issued by this run of the server, is stale, was taken
            before, or was kept by a version that wrote grants in another way.

        Raises:
            ArgumentError: If the server is too old or may evict keys.
            StoreUnavailableError: If it cannot be reached, or refuses. The nonce may be taken.
        """
        return run_blocking(self._take(nonce))

    def spend(self, name: str, seconds: float, /) -> str | None:
        """Remember a name, atomically, unless it is remembered already.

        Args:
            name: What is spent.
            seconds: How long to remember it.

        Returns:
            The epoch: a restart, a replica that takes over, and an emptied server begin another one. None
            when the name was spent before.

        Raises:
            ArgumentError: If the server is too old or may evict keys.
            StoreUnavailableError: If it cannot be reached, has no room, or refuses. The name may be spent.
        """
        return run_blocking(self._spend(name, seconds))


class AsyncRedisNonceStore(_Store):
    """Keep issued nonces in Redis or Valkey, reached by awaiting; else as `RedisNonceStore`.

    The client belongs to one event loop of asyncio's, and so does the store: make both in each worker.

    Args:
        client: ``redis.asyncio.Redis``, also from ``redis.asyncio.Sentinel.master_for``, or
            ``redis.asyncio.RedisCluster``; with a ``socket_timeout``, as for `RedisNonceStore`.
        namespace: As for `RedisNonceStore`, as all that follows.
        lifetime: Seconds a next nonce is good for.
        challenge_lifetime: Seconds the nonce of a challenge is good for.
        randomness: Gives that many random bytes.

    Raises:
        ArgumentError: As for `RedisNonceStore`.
    """

    _clients = (redis.asyncio.Redis, redis.asyncio.RedisCluster)
    _places: anyio.Semaphore | None = None

    async def start(self) -> None:
        """Check that the server can serve; see `RedisNonceStore.start`."""
        await run_anyio(self._check())

    async def issue(self, *grants: Grant) -> list[str]:
        """Make nonces; see `RedisNonceStore.issue`."""
        return await self._in_turn(self._issue(grants))

    async def take(self, nonce: str, /) -> Grant | None:
        """Take a nonce out, atomically; see `RedisNonceStore.take`."""
        return await self._in_turn(self._take(nonce))

    async def spend(self, name: str, seconds: float, /) -> str | None:
        """Remember a name, atomically; see `RedisNonceStore.spend`."""
        return await self._in_turn(self._spend(name, seconds))

    async def _in_turn(self, steps: Steps[T]) -> T:
        """Use one of the client's connections: a pool that has none left refuses, and does not wait."""
        if self._places is None:
            pool = getattr(self._client, "connection_pool", None)
            self._places = anyio.Semaphore(min(_AT_ONCE, getattr(pool, "max_connections", _AT_ONCE)))
        await acquired(self._places, _PATIENCE)
        try:
            return await run_anyio(steps)
        finally:
            self._places.release()


def _milliseconds(seconds: float) -> int:
    return max(1, math.ceil(seconds * 1000))


def _read(kept: str) -> Grant | None:
    try:
        return Grant.decode(decode_base64(kept, "a store's value", "grant"))
    except TunedDigestError:
        return None
