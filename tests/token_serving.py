"""A server that takes self-signed tokens, and clients that send them, over real sockets."""

import atexit
import base64
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import pytest

import tuned_digest.httpx
import tuned_digest.requests
from tuned_digest import AsyncSigner, Ed25519Signer, PublicKey, Signer
from tuned_digest._tokens.reading import (
    Expected,
    check_binding,
    check_claims,
    check_digest,
    read_token,
    spent_name,
)
from tuned_digest.errors import TokenError
from tuned_digest.server.asgi import Application, Receive, Scope, Send

from . import field_server
from .clients import CLIENTS, Transport
from .field_server import answer, encoded
from .serving import Served, serve

ACCOUNT = "acme-42"

Answer = tuple[int, list[tuple[str, str]]]
"""A status and header fields."""

every_client = pytest.mark.parametrize("name", CLIENTS)
"""Run a test with each kind of client, by its name."""


def claims_of(token: str) -> dict[str, Any]:
    """Read the claims of a token, with or without the scheme before it, and check nothing."""
    return _part(token, 1)


def header_of(token: str) -> dict[str, Any]:
    """Read the header of a token in the same way."""
    return _part(token, 0)


def _part(token: str, number: int) -> dict[str, Any]:
    part = token.rpartition(" ")[2].split(".")[number]
    members: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return members


def http_date(seconds: float) -> str:
    """Write a time as a Date field has it."""
    return formatdate(seconds, usegmt=True)


@dataclass
class TokenServer:
    """Take what is signed by a key, and echo it; redirect at ``/redirect?status=&to=``.

    Args:
        key: The public key.
        clock: Gives the server's time.
        is_bound: Whether tokens have to be bound.
        is_single_use: Whether each is good for one request.
        carrier: The field that carries the token.
        scheme: What stands before it.
        fields: Gives the Date field and others of each response, from the server's time.
        script: Answers to give before tokens are looked at, None for none; at its end there are none.
    """

    key: PublicKey
    clock: Callable[[], float] = time.time
    is_bound: bool = True
    is_single_use: bool = True
    carrier: str = "Authorization"
    scheme: str = "Bearer"
    fields: Callable[[float], list[tuple[str, str]]] = lambda now: [("Date", http_date(now))]
    script: list[Answer | None] = field(default_factory=list)
    after: Callable[[Scope], str | None] = lambda scope: None
    """Where a request that was accepted is redirected to by a 307, None for nowhere."""
    refused: list[str] = field(default_factory=list)
    claims: list[dict[str, Any]] = field(default_factory=list)
    """Of each token that was accepted."""
    _spent: set[str] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        hasher, size = hashlib.sha256(), 0
        while True:
            message = await receive()
            hasher.update(message.get("body", b""))
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        scripted = self.script.pop(0) if self.script else None
        fields = self.fields(self.clock())
        if scripted is not None:
            await answer(send, scripted[0], encoded([*fields, *scripted[1]]), b"")
            return
        try:
            self._check(scope, hasher.digest())
        except TokenError as error:
            self.refused.append(str(error))
            said = f', error="invalid_token", error_description="{error}"' if error.step else ""
            fields.append(("WWW-Authenticate", f'Bearer realm="test"{said}'))
            await answer(send, error.status, encoded(fields), b"{}")
            return
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        if scope["path"] == "/redirect":
            fields.append(("Location", query["to"]))
        status = int(query.get("status", 200))
        if following := self.after(scope):
            status = 307
            fields.append(("Location", following))
        echo = {"method": scope["method"], "size": size, "sha256": hasher.hexdigest()}
        await answer(send, status, encoded(fields), json.dumps(echo).encode())

    def _check(self, scope: Scope, digest: bytes) -> None:
        """Verify a request in the order of tokens.md."""
        values = _values(scope, self.carrier)
        if not values:
            raise TokenError("there is no token", step=0)
        scheme, _, value = values[0].rpartition(" ")
        if len(values) > 1 or scheme != self.scheme:
            raise TokenError("this is no token", step=1)
        token = read_token(value)
        if token.kid != self.key.thumbprint:
            raise TokenError("unknown key", step=2)
        claims = token.claims_by(self.key)
        origin = f"{scope['scheme']}://{_values(scope, 'Host')[0]}"
        check_claims(claims, Expected(origin, ACCOUNT, self.clock(), 10, 300))
        wanted = {"htm": scope["method"], "htu": origin + scope["raw_path"].decode()}
        if scope["query_string"]:
            wanted["query"] = scope["query_string"].decode()
        if check_binding(claims, wanted, is_required=self.is_bound):
            check_digest(claims, digest)
        if self.is_single_use:
            name = spent_name(token, claims)
            if name in self._spent:
                raise TokenError("the token was used before", step=7)
            self._spent.add(name)
        self.claims.append(dict(claims))


def _values(scope: Scope, name: str) -> Sequence[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name.lower().encode()]


class _Lent:
    """A server that runs from test to test, each time with another application: starting one takes 0.1 s."""

    def __init__(self) -> None:
        self.application: Application = field_server.field
        self.served = _running.enter_context(serve(self, date_header=False))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.application(scope, receive, send)


_running = ExitStack()
_idle: list[_Lent] = []
atexit.register(_running.close)


@contextmanager
def lent(application: Application) -> Iterator[Served]:
    """Serve an application until the block ends, without a Date field of the server's own."""
    server = _idle.pop() if _idle else _Lent()
    server.application = application
    server.served.requests = []
    loan = Served(server.served.url, server.served.requests)
    try:
        yield loan
    finally:
        _idle.append(server)


@contextmanager
def serving_tokens(signer: Signer | AsyncSigner, **options: Any) -> Iterator[tuple[TokenServer, Served]]:
    """Serve an application that knows the key of a signer.

    A test whose requests are broken off needs a server that is not lent (an option ``is_lent``): they may
    arrive when it has ended.
    """
    is_lent = options.pop("is_lent", True)
    application = TokenServer(PublicKey.of(signer), **options)
    with lent(application) if is_lent else serve(application, date_header=False) as served:
        yield application, served


@contextmanager
def signed_in(
    name: str,
    origin: Any,
    signer: Signer | AsyncSigner,
    **options: Any,
) -> Iterator[Any]:
    """Connect a client that signs with tokens; an option ``transport`` says how it reaches its servers."""
    transport = options.pop("transport", Transport())
    auth = auth_of(name, origin, signer, **options)
    with CLIENTS[name]("https://elsewhere.example", Ed25519Signer.generate(), transport=transport) as client:
        client.auth = auth
        if hasattr(client, "client"):
            client.client.auth = auth
        yield client


def auth_of(name: str, origin: Any, signer: Signer | AsyncSigner, **options: Any) -> Any:
    """Make the auth object of a kind of client."""
    options.setdefault("account", ACCOUNT)
    leaf: Any = tuned_digest.requests if name == "requests" else tuned_digest.httpx
    return leaf.SelfSignedTokenAuth(origin, signer, **options)
