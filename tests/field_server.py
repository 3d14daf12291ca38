"""A verified application that redirects, echoes and misbehaves, as servers in the field do."""

import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

from tuned_digest.server import MemoryNonceStore, Policy, Verifier
from tuned_digest.server.asgi import Application, Receive, Scope, Send, TunedDigestMiddleware

from .serving import QUICK, QUICK_CREATE

POLICY = Policy(access=QUICK, create=QUICK_CREATE, exists=lambda path: True)


def challenge(nonce: str, algorithm: str = str(QUICK), actions: str = "read") -> tuple[str, str]:
    """A WWW-Authenticate field."""
    return "WWW-Authenticate", f"tuned-digest-signature nonce={nonce};algorithm={algorithm};actions={actions}"


def next_nonce(nonce: str, scopes: str = "read,update,delete,debug,proxy") -> tuple[str, str]:
    """An Authentication-Info field."""
    return "Authentication-Info", f"nextnonce={nonce};argon={QUICK};scopes={scopes}"


async def field(scope: Scope, receive: Receive, send: Send) -> None:
    """Redirect, answer with a status, or echo: ``/redirect?status=&to=``, ``/status?status=``, any other."""
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    body = await read(receive)
    status, headers = int(query.get("status", 200)), []
    if scope["path"] == "/loop":
        status, query["to"] = 302, "/loop"
    if scope["path"] in ("/redirect", "/folder/redirect", "/loop"):
        headers.append((b"location", query["to"].encode()))
    echo = {
        "method": scope["method"],
        "path": scope["raw_path"].decode(),
        "size": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "length": _header(scope, b"content-length"),
        "coding": _header(scope, b"transfer-encoding"),
        "cookie": _header(scope, b"cookie"),
        "caller": scope["tuned_digest"].identity if "tuned_digest" in scope else None,
    }
    await answer(send, status, headers, json.dumps(echo).encode())


def verified(app: Application = field, **options: Any) -> Application:
    """Put an application behind the middleware under quick tunings."""
    options.setdefault("policy", POLICY)
    return TunedDigestMiddleware(app, Verifier(MemoryNonceStore(), **options))


def scripted(*answers: tuple[int, list[tuple[str, str]], bytes]) -> Application:
    """Answer each request with the next of a list of responses, the last one for ever."""
    remaining = list(answers)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        await read(receive)
        status, fields, body = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        await answer(send, status, [(name.encode(), value.encode()) for name, value in fields], body)

    return app


def decided(respond: Callable[[Scope, bytes], tuple[int, list[tuple[str, str]], bytes]]) -> Application:
    """Answer each request as a function of it and its body says."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, fields, body = respond(scope, await read(receive))
        await answer(send, status, [(name.encode(), value.encode()) for name, value in fields], body)

    return app


async def read(receive: Receive) -> bytes:
    """Read a request's body."""
    body: bytes = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return body


async def answer(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send a whole response; a 204 has no body."""
    body = b"" if status == 204 else body
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode() for key, value in scope["headers"] if key == name), None)
