"""ASGI middleware: every request that reaches the application was verified.

The body is held within bounds, the proof is checked off the event loop, and the application finds
a `Caller` in ``scope["tuned_digest"]``.
"""

from __future__ import annotations

__all__ = ["Application", "Message", "Receive", "Scope", "Send", "TunedDigestMiddleware"]

import functools
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from urllib.parse import quote

from .._runtime.drivers import run_anyio
from ..errors import ArgumentError, ProofAbandonedError, RequestRejectedError, TunedDigestError
from .bodies import BufferedBody, ClientGoneError
from .incoming import IncomingRequest
from .refusals import Fields, bad_request
from .schemes import AnyVerifier, Schemes
from .spools import BodyLimits

# The types of the ASGI specification, version 3.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# What RFC 3986 section 3.3 allows in a path: the way back from a decoded path, where a server gives
# no other. It is a guess for paths that were encoded otherwise, and those then fail to verify.
_PATH_SAFE = "/:@!$&'()*+,;=~-._"


class TunedDigestMiddleware:
    """Let verified requests through to an application, and answer all others.

    WebSocket connections are refused: the scheme signs requests with a body and a response.

    Args:
        app: The application.
        verifier: Decides. In a list of a `Verifier` and a `TokenVerifier` the scheme of the Authorization
            field says which one; a request without credentials is challenged by both, in this order.
        bodies: How much is held of request bodies, and how long they are waited for.

    Raises:
        ArgumentError: If `verifier` or `bodies` is of another kind.
    """

    def __init__(
        self,
        app: Application,
        verifier: AnyVerifier | Sequence[AnyVerifier],
        *,
        bodies: BodyLimits = BodyLimits(),
    ) -> None:
        schemes = Schemes(verifier)
        if not isinstance(bodies, BodyLimits):
            raise ArgumentError("bodies is a BodyLimits: pass BodyLimits(max_body=...)")
        self._app = app
        self._schemes = schemes
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope (ASGI 3)."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "requests alone are served here"})

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application start once stores and registries can serve."""
        first: Message | None = await receive()
        try:
            await run_anyio(self._schemes.start())
        except TunedDigestError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return

        async def receive_first() -> Message:
            nonlocal first
            message, first = first, None
            return message or await receive()

        await self._app(scope, receive_first, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with BufferedBody(scope, receive, self._bodies) as body:
            await self._serve_held(scope, body, send)

    async def _serve_held(self, scope: Scope, body: BufferedBody, send: Send) -> None:
        try:
            caller = await run_anyio(self._schemes.verify(_incoming(scope), body.read, body.gone))
        except RequestRejectedError as rejection:
            await _respond(send, rejection)
            return
        except (ClientGoneError, ProofAbandonedError):
            return

        async def send_granting(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))  # any iterable, and perhaps good for one turn
                values = functools.partial(_values, headers)
                granted = await run_anyio(self._schemes.grant_next(caller, message["status"], values))
                message = {**message, "headers": [*headers, *_encoded(granted)]}
            await send(message)

        await self._app({**scope, "tuned_digest": caller}, body.receive, send_granting)


def _incoming(scope: Scope) -> IncomingRequest:
    raw_path = scope.get("raw_path")
    try:
        path = raw_path.decode("latin-1") if raw_path else quote(scope["path"], safe=_PATH_SAFE)
    except UnicodeEncodeError:  # bytes of a path that a server could not decode, and left as surrogates
        raise bad_request("the request target is not UTF-8") from None
    query = scope.get("query_string", b"").decode("latin-1")
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    peer = (scope.get("client") or ("",))[0]
    return IncomingRequest(scope["method"], path or "/", query, fields, peer)


def _values(headers: Iterable[tuple[bytes, bytes]], name: str) -> list[str]:
    wanted = name.lower().encode("ascii")
    return [value.decode("latin-1") for key, value in headers if key.lower() == wanted]


def _encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in fields]


async def _respond(send: Send, rejection: RequestRejectedError) -> None:
    headers = [*_encoded(rejection.fields), (b"content-length", str(len(rejection.body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": rejection.status, "headers": headers})
    await send({"type": "http.response.body", "body": rejection.body})
