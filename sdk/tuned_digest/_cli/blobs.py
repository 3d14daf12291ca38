"""A store of named blobs, small and real: what ``tuned-digest serve`` runs.

``GET``, ``PUT``, ``PATCH`` (appends) and ``DELETE`` on ``/blobs/{name}``, ``POST`` on ``/blobs``, and the
same behind a prefix, where clients sign the path without it.
"""

from __future__ import annotations

__all__ = ["PREFIX", "BlobStore", "blobs_application"]

import secrets
from urllib.parse import unquote

from ..errors import MissingExtraError
from ..proof import Tuning
from ..proof.argon2 import ACCESS_TUNING, CREATE_TUNING
from ..server import MemoryNonceStore, Policy, Verifier
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

PREFIX = "/v2"
"""Where the same blobs are mounted a second time."""

_CAPACITY = 64 * 1024 * 1024  # bytes in all blobs


class BlobStore:
    """Keep blobs by name, in memory, 64 MiB in all."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {"welcome": b"this request was signed\n"}

    def exists(self, path: str) -> bool:
        """Tell whether a path names a blob that is there.

        Args:
            path: The path on the wire, with or without the prefix.

        Returns:
            True when it does.
        """
        return unquote(path.removeprefix(PREFIX).removeprefix("/blobs/")) in self._blobs

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
        return self._keep(secrets.token_urlsafe(9), await request.body())

    async def _get(self, request: Request) -> Response:
        blob = self._blobs.get(_name(request))
        return _missing() if blob is None else Response(blob, media_type="application/octet-stream")

    async def _put(self, request: Request) -> Response:
        return self._keep(_name(request), await request.body())

    async def _patch(self, request: Request) -> Response:
        name = _name(request)
        if name not in self._blobs:
            return _missing()
        return self._keep(name, self._blobs[name] + await request.body())

    async def _delete(self, request: Request) -> Response:
        return _missing() if self._blobs.pop(_name(request), None) is None else Response(status_code=204)

    def _keep(self, name: str, content: bytes) -> Response:
        others = sum(len(blob) for other, blob in self._blobs.items() if other != name)
        if others + len(content) > _CAPACITY:
            return JSONResponse({"message": f"all blobs together take {_CAPACITY} bytes at most"}, 507)
        is_new = name not in self._blobs
        self._blobs[name] = content
        return JSONResponse({"name": name, "size": len(content)}, 201 if is_new else 200)


def blobs_application(
    *,
    access: Tuning = ACCESS_TUNING,
    create: Tuning = CREATE_TUNING,
    cost: int | None = None,
) -> Starlette:
    """Make the application.

    Args:
        access: The Argon2 work of everything but creating.
        create: The Argon2 work of creating.
        cost: The search cost of both, bits; None offers no search.

    Returns:
        An ASGI application; every request to it is verified.
    """
    blobs, nonces = BlobStore(), MemoryNonceStore()
    policy = Policy(access=access, create=create, access_cost=cost, create_cost=cost, exists=blobs.exists)
    plain = Verifier(nonces, policy=policy)
    prefixed = Verifier(nonces, policy=policy, signed_path=lambda path: path.removeprefix(PREFIX))
    application = Starlette(routes=blobs.routes())
    return Starlette(
        routes=[
            Mount(PREFIX, TunedDigestMiddleware(application, prefixed)),
            Mount("/", TunedDigestMiddleware(application, plain)),
        ]
    )


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _missing() -> Response:
    return JSONResponse({"message": "there is no such blob"}, 404)
