"""A verified application that redirects, echoes and misbehaves, as servers in the field do."""

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qs

from tuned_digest import SearchCost
from tuned_digest.server import MemoryNonceStore, Policy, Verifier
from tuned_digest.server.asgi import Application, Receive, Scope, Send, TunedDigestMiddleware

from .ledger import nonce_of
from .serving import QUICK, QUICK_CREATE

POLICY = Policy(access=QUICK, create=QUICK_CREATE, access_cost=1, create_cost=1, exists=lambda path: True)
"""Both kinds of work, as servers in the field ask for them, under quick tunings."""


def challenge(nonce: str, algorithm: str = str(QUICK), actions: str = "read") -> tuple[str, str]:
    """A WWW-Authenticate field."""
    return "WWW-Authenticate", f"tuned-digest-signature nonce={nonce};algorithm={algorithm};actions={actions}"


def search_challenge(
    nonce: str, bits: int = 1, actions: str = "read", *, field: str = "WWW-Authenticate"
) -> tuple[str, str]:
    """A WWW-Authenticate field, or its copy for browsers, that asks for a search."""
    return field, f"{SearchCost.scheme} nonce={nonce};algorithm=blake3${bits};actions={actions}"


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
        await answer(send, status, encoded(fields), body)

    return app


def decided(respond: Callable[[Scope, bytes], tuple[int, list[tuple[str, str]], bytes]]) -> Application:
    """Answer each request as a function of it and its body says."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        status, fields, body = respond(scope, await read(receive))
        await answer(send, status, encoded(fields), body)

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


def encoded(fields: Sequence[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """Write header fields as ASGI has them."""
    return [(name.encode(), value.encode()) for name, value in fields]


def is_signed(scope: Scope) -> bool:
    """Tell whether a request has an Authorization field."""
    return any(name == b"authorization" for name, _ in scope["headers"])


def sent_nonce(scope: Scope) -> str:
    """Give the nonce that a request was sent with, empty where it was not signed."""
    return nonce_of(_header(scope, b"authorization") or "")


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode() for key, value in scope["headers"] if key == name), None)
