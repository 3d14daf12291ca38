"""A store of named blobs, small and real: what ``tuned-digest serve`` runs.

``GET``, ``PUT``, ``PATCH`` (appends) and ``DELETE`` on ``/blobs/{name}``, ``POST`` on ``/blobs``, and the
same behind a prefix, where clients sign the path without it.
"""

from __future__ import annotations

__all__ = ["PREFIX", "BlobStore", "blobs_application"]

import secrets
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote

from anyio import to_thread

from ..errors import MissingExtraError
from ..proof import Tuning
from ..proof.argon2 import ACCESS_TUNING, CREATE_TUNING
from ..server import (
    KeyRegistry,
    MemoryNonceStore,
    Policy,
    SQLiteNonceStore,
    TokenVerifier,
    Verifier,
)
from ..server.asgi import TunedDigestMiddleware

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Mount, Route
except ImportError as error:
    raise MissingExtraError(
        "starlette is not installed: pip install 'tuned-digest[demo]'", extra="demo"
    ) from error

if TYPE_CHECKING:
    from ..server.stores.redis import RedisNonceStore

    Store = MemoryNonceStore | SQLiteNonceStore | RedisNonceStore

PREFIX = "/v2"
"""Where the same blobs are mounted a second time."""

_CAPACITY = 64 * 1024 * 1024  # bytes in all blobs, their names included
_BUSY = 5.0  # seconds to wait for another process that writes
_TOTAL = "SELECT total(length(CAST(name AS BLOB)) + length(content)) FROM blobs WHERE name != ?"
_READ = "SELECT content FROM blobs WHERE name = ?"
_WRITE = "INSERT INTO blobs VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET content = excluded.content"


class BlobStore:
    """Keep blobs by name, 64 MiB in all; processes that name one file share them.

    Args:
        path: The SQLite file, made where it is missing; ``:memory:`` keeps the blobs in this process.
    """

    def __init__(self, path: str = ":memory:") -> None:
        self._database = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)
        self._lock = threading.Lock()  # of a connection that this process's worker threads share
        self._database.execute("PRAGMA synchronous = OFF")  # the blobs do not outlive the service
        with self._writing():
            if not self._database.execute("SELECT 1 FROM sqlite_master").fetchone():
                self._database.execute("CREATE TABLE blobs (name TEXT PRIMARY KEY, content BLOB NOT NULL)")
                self._database.execute(_WRITE, ("welcome", b"this request was signed\n"))

    async def exists(self, path: str) -> bool:
        """Tell whether a path names a blob that is there.

        Args:
            path: The path on the wire, with or without the prefix.

        Returns:
            True when it does.
        """
        name = unquote(path.removeprefix(PREFIX).removeprefix("/blobs/"))
        return await to_thread.run_sync(self._holds, name)

    def routes(self) -> list[Route]:
        """List the store's routes."""
        return [
            Route("/blobs", self._post, methods=["POST"]),
            Route("/blobs/{name}", self._get, methods=["GET"]),
            Route("/blobs/{name}", self._put, methods=["PUT"]),
            Route("/blobs/{name}", self._patch, methods=["PATCH"]),
            Route("/blobs/{name}", self._delete, methods=["DELETE"]),
        ]

    async def _post(self, request: Request) -> Response:
        return await to_thread.run_sync(self._keep, secrets.token_urlsafe(9), await request.body())

    def _get(self, request: Request) -> Response:  # Starlette calls what is not async in a thread
        blob = self._read(_name(request))
        return _missing() if blob is None else Response(blob, media_type="application/octet-stream")

    async def _put(self, request: Request) -> Response:
        return await to_thread.run_sync(self._keep, _name(request), await request.body())

    async def _patch(self, request: Request) -> Response:
        return await to_thread.run_sync(self._append, _name(request), await request.body())

    def _delete(self, request: Request) -> Response:
        with self._writing():
            deleted = self._database.execute("DELETE FROM blobs WHERE name = ?", (_name(request),)).rowcount
        return Response(status_code=204) if deleted else _missing()

    def _read(self, name: str) -> bytes | None:
        with self._lock:
            row = self._database.execute(_READ, (name,)).fetchone()
        return row[0] if row else None

    def _holds(self, name: str) -> bool:
        with self._lock:
            return self._find(name)

    def _keep(self, name: str, content: bytes) -> Response:
        with self._writing():
            return self._write(name, content, is_new=not self._find(name))

    def _append(self, name: str, content: bytes) -> Response:
        with self._writing():
            row = self._database.execute(_READ, (name,)).fetchone()
            return self._write(name, row[0] + content, is_new=False) if row else _missing()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold every other writer off, those in other processes too."""
        with self._lock, self._database:
            self._database.execute("BEGIN IMMEDIATE")
            yield

    def _find(self, name: str) -> bool:
        return self._database.execute("SELECT 1 FROM blobs WHERE name = ?", (name,)).fetchone() is not None

    def _write(self, name: str, content: bytes, *, is_new: bool) -> Response:
        (others,) = self._database.execute(_TOTAL, (name,)).fetchone()
        if others + len(name.encode()) + len(content) > _CAPACITY:
            return JSONResponse({"message": f"all blobs together take {_CAPACITY} bytes at most"}, 507)
        self._database.execute(_WRITE, (name, content))
        return JSONResponse({"name": name, "size": len(content)}, 201 if is_new else 200)


def blobs_application(
    *,
    access: Tuning = ACCESS_TUNING,
    create: Tuning = CREATE_TUNING,
    cost: int | None = None,
    nonces: Store | None = None,
    blobs: BlobStore | None = None,
    registry: KeyRegistry | None = None,
    origin: str = "",
) -> TunedDigestMiddleware:
    """Make the application.

    Args:
        access: The Argon2 work of everything but creating.
        create: The Argon2 work of creating.
        cost: The search cost of both, bits; None offers no search.
        nonces: Where issued nonces are kept; None keeps them in this process.
        blobs: Where blobs are kept; None keeps them in this process.
        registry: Where keys are enrolled, which alone may call then, by either scheme; None lets any call.
        origin: What clients call the server, where there is a registry.

    Returns:
        An ASGI application; every request to it is verified.
    """
    blobs = blobs or BlobStore()
    policy = Policy(access=access, create=create, access_cost=cost, create_cost=cost, exists=blobs.exists)
    nonces = nonces or MemoryNonceStore()
    verifiers: list[Verifier | TokenVerifier] = [
        Verifier(nonces, policy=policy, accounts=registry, signed_path=lambda path: path.removeprefix(PREFIX))
    ]
    if registry is not None:
        verifiers.append(TokenVerifier(registry, origin, single_use=nonces, policy=policy))
    routes = [Mount(PREFIX, routes=blobs.routes()), *blobs.routes()]
    return TunedDigestMiddleware(Starlette(routes=routes), verifiers)


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _missing() -> Response:
    return JSONResponse({"message": "there is no such blob"}, 404)
