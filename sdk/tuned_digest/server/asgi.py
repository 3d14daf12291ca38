"""ASGI middleware: every request that reaches the application was verified.

The body is held in memory up to a limit, the proof is checked off the event loop, and the application
finds a `Caller` in ``scope["tuned_digest"]``.
"""

from __future__ import annotations

__all__ = ["Application", "Message", "Receive", "Scope", "Send", "TunedDigestMiddleware"]

import functools
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import quote

from blake3 import blake3

from .._runtime.drivers import run_anyio
from ..errors import ArgumentError, RequestRejectedError
from .verifier import Fields, IncomingRequest, Verifier, bad_request

# The types of the ASGI specification, version 3.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

# What RFC 3986 section 3.3 allows in a path: the way back from a decoded path, where a server gives
# no other. It is a guess for paths that were encoded otherwise, and those then fail to verify.
_PATH_SAFE = "/:@!$&'()*+,;=~-._"

_LENGTH = re.compile(r"[0-9]{1,18}")


class TunedDigestMiddleware:
    """Let verified requests through to an application, and answer all others.

    WebSocket connections are refused: the scheme signs requests with a body and a response.

    Args:
        app: The application.
        verifier: Decides.
        max_body: The largest body taken, bytes; more is answered 413.

    Raises:
        ArgumentError: If `verifier` is not one, or `max_body` is negative.
    """

    def __init__(self, app: Application, verifier: Verifier, *, max_body: int = 16 * 1024 * 1024) -> None:
        if not isinstance(verifier, Verifier):
            raise ArgumentError("verifier is a Verifier: TunedDigestMiddleware(app, Verifier(...))")
        if max_body < 0:
            raise ArgumentError("max_body is not negative")
        self._app = app
        self._verifier = verifier
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope (ASGI 3)."""
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "requests alone are served here"})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _BufferedBody(scope, receive, self._max_body)
        try:
            caller = await run_anyio(self._verifier.verify(_incoming(scope), body.read))
        except RequestRejectedError as rejection:
            await _respond(send, rejection)
            return
        except _ClientGoneError:
            return

        async def send_granting(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))  # any iterable, and perhaps good for one turn
                values = functools.partial(_values, headers)
                granted = await run_anyio(self._verifier.grant_next(message["status"], values))
                message = {**message, "headers": [*headers, *_encoded(granted)]}
            await send(message)

        await self._app({**scope, "tuned_digest": caller}, body.receive, send_granting)


class _ClientGoneError(Exception):
    """The client closed the connection while its body was read."""


class _BufferedBody:
    """A request body, read once by the verifier and given again to the application."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        self._announced = _values(scope["headers"], "content-length")
        self._receive = receive
        self._limit = limit
        self._content: bytes | None = None

    async def read(self) -> bytes | None:
        """Read the body and digest it; None when it is over the limit."""
        if any(not _LENGTH.fullmatch(value) or int(value) > self._limit for value in self._announced):
            return None
        content, hasher = bytearray(), blake3()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            chunk = message.get("body", b"")
            content += chunk
            hasher.update(chunk)
            if len(content) > self._limit:
                return None
            if not message.get("more_body", False):
                self._content = bytes(content)
                return hasher.digest()

    async def receive(self) -> Message:
        """Stand in for the server's receive."""
        content, self._content = self._content, None
        if content is None:
            return await self._receive()
        return {"type": "http.request", "body": content, "more_body": False}


def _incoming(scope: Scope) -> IncomingRequest:
    raw_path = scope.get("raw_path")
    try:
        path = raw_path.decode("latin-1") if raw_path else quote(scope["path"], safe=_PATH_SAFE)
    except UnicodeEncodeError:  # bytes of a path that a server could not decode, and left as surrogates
        raise bad_request("the request target is not UTF-8") from None
    query = scope.get("query_string", b"").decode("latin-1")
    fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    return IncomingRequest(scope["method"], path or "/", query, fields)


def _values(headers: Iterable[tuple[bytes, bytes]], name: str) -> list[str]:
    wanted = name.lower().encode("ascii")
    return [value.decode("latin-1") for key, value in headers if key.lower() == wanted]


def _encoded(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("ascii"), value.encode("ascii")) for name, value in fields]


async def _respond(send: Send, rejection: RequestRejectedError) -> None:
    headers = [*_encoded(rejection.fields), (b"content-length", str(len(rejection.body)).encode("ascii"))]
    await send({"type": "http.response.start", "status": rejection.status, "headers": headers})
    await send({"type": "http.response.body", "body": rejection.body})
