"""What ``tuned-digest serve`` serves, in each of its worker processes, and where these keep their state."""

from __future__ import annotations

__all__ = ["Service", "open_store"]

import asyncio
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

from ..errors import ArgumentError, MissingExtraError
from ..proof import Tuning
from ..server import MemoryNonceStore
from ..server.stores.sqlite import SQLiteNonceStore
from .blobs import BlobStore, blobs_application
from .registries import is_path, registry_at
from .workers import until_parent_ends

try:
    import uvicorn
except ImportError as error:
    raise MissingExtraError(
        "uvicorn is not installed: pip install 'tuned-digest[demo]'", extra="demo"
    ) from error

if TYPE_CHECKING:
    from ..server.accounts.enrolment import Registration
    from ..server.asgi import Application
    from ..server.stores.redis import RedisNonceStore

_STARTUP_FAILURE = 3  # exit status, as uvicorn's own
_REDIS = ("redis://", "rediss://")
_TIMEOUT = 5  # seconds to wait for Redis


@dataclass(frozen=True)
class Service:
    """Say what to serve; it can be pickled, and each process makes its own application from it.

    Args:
        access: The Argon2 work of everything but creating.
        create: The Argon2 work of creating.
        cost: The search cost of both, bits; None offers no search.
        store: Where issued nonces are kept, see `open_store`.
        blobs: The SQLite file of the blobs; ``:memory:`` for one process.
        accounts: Where the keys of accounts are kept, see `registry_at`; None lets any key call.
        registration: How an account gets its first key, see `Enrolment`.
        origin: What clients call the server, where it has accounts.
    """

    access: Tuning
    create: Tuning
    cost: int | None
    store: str | None = field(default=None, repr=False)  # a URL may hold a password
    blobs: str = ":memory:"
    accounts: str | None = field(default=None, repr=False)  # the same
    registration: Registration = "invited"
    origin: str = ""

    def shared(self, private: Path) -> Service:
        """Let several processes serve it.

        Args:
            private: A directory for files that go with the service.

        Returns:
            The service, its state in files.
        """
        store = self.store or str(private / "nonces.sqlite")
        return replace(self, store=store, blobs=str(private / "blobs.sqlite"))

    def start_stores(self) -> None:
        """Check that the store of issued nonces and the key registry can serve, before any process serves.

        Raises:
            TunedDigestError: If it cannot.
        """
        store = open_store(self.store)
        try:
            store.start()
        finally:
            if isinstance(store, SQLiteNonceStore):
                store.close()  # each worker opens the file itself
        if self.accounts is not None:
            registry = registry_at(self.accounts)
            try:
                registry.start()
            finally:
                registry.close()

    def run(self, listening: socket, started: Callable[[], None]) -> None:
        """Serve in this process until a signal ends it.

        Args:
            listening: The socket to take connections from.
            started: Called when requests are served.
        """
        self._server(started).run(sockets=[listening])

    def run_worker(self, listening: socket) -> None:
        """Serve in a worker process, until a signal ends it or its supervisor is gone.

        Args:
            listening: The socket to take connections from, shared by all workers.
        """
        server = self._server(lambda: None)
        until_parent_ends(server.end)
        server.run(sockets=[listening])

    def _server(self, started: Callable[[], None]) -> _Server:
        application = self._application()
        worker = ("Server-Worker", str(os.getpid()))  # which process answers, for those who try it
        config = uvicorn.Config(application, log_level="warning", access_log=False, headers=[worker])
        return _Server(config, started)

    def _application(self) -> Application:
        nonces = open_store(self.store)
        registry = None if self.accounts is None else registry_at(self.accounts)
        blobs = blobs_application(
            access=self.access,
            create=self.create,
            cost=self.cost,
            nonces=nonces,
            blobs=BlobStore(self.blobs),
            registry=registry,
            origin=self.origin,
        )
        if registry is None:
            return blobs
        # Here, since nothing else needs the extra.
        from .accounts import beside_accounts  # noqa: PLC0415

        return beside_accounts(
            blobs, registry, self.origin, registration=self.registration, single_use=nonces
        )


class _Server(uvicorn.Server):
    """A server that says when it serves, and can be told to end.

    Args:
        config: What to serve.
        started: Called when requests are served.
    """

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = started

    async def startup(self, sockets: list[socket] | None = None) -> None:
        """Take connections."""
        await super().startup(sockets)
        if not self.started:  # uvicorn 0.35 returns when the application fails; later versions exit
            sys.exit(_STARTUP_FAILURE)
        # After this turn: a signal that comes before, uvicorn 0.35 answers with a traceback.
        asyncio.get_running_loop().call_soon(self._on_started)

    def end(self) -> None:
        """Answer the requests that are here, and end."""
        self.should_exit = True


def open_store(text: str | None) -> MemoryNonceStore | SQLiteNonceStore | RedisNonceStore:
    """Open the store of issued nonces.

    Args:
        text: A path for SQLite, a ``redis://`` URL, or None for this process's memory.

    Returns:
        The store, not yet started.

    Raises:
        ArgumentError: If the URL cannot be read.
        MissingExtraError: If redis-py is needed and not installed.
    """
    if text is None:
        return MemoryNonceStore()
    if text.startswith(_REDIS):
        return _redis_store(text)
    if not is_path(text):  # it may hold a password, and is not repeated
        raise ArgumentError("a store is the path of a file, or a URL that begins with redis:// or rediss://")
    return SQLiteNonceStore(text)


def _redis_store(url: str) -> RedisNonceStore:
    # An extra that the other stores do without; this import says which, so it comes first.
    from ..server.stores.redis import RedisNonceStore  # noqa: PLC0415, I001

    import redis  # noqa: PLC0415

    try:
        client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
    except ValueError:  # its message may show the URL's password
        raise ArgumentError("the store's URL cannot be read: write redis://host:port/0") from None
    return RedisNonceStore(client)
