"""The row of a request's cost to a server beyond its work, beside a bearer token, around one application."""

import asyncio
import time
from collections.abc import Callable, Iterable
from statistics import median

import jwt
from blake3 import blake3
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.verifying import signed

from tuned_digest import Ed25519Signer, Tuning
from tuned_digest._base64 import encode_base64
from tuned_digest._wire.credentials import write_credentials
from tuned_digest.proof import verify
from tuned_digest.server import Grant, MemoryNonceStore, Policy, Verifier
from tuned_digest.server.asgi import Application, Message, Receive, Scope, Send, TunedDigestMiddleware

from .table import row

SMALL = Tuning("argon2d", 8, 1, 1)
REQUESTS = 2000
ROUNDS = 7


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer as small applications do."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


class Bearer:
    """Check a bearer token as services do, with PyJWT and Ed25519."""

    def __init__(self, app: Application, key: object) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        authorization = next(value for name, value in scope["headers"] if name == b"authorization")
        token = authorization.decode("latin-1").removeprefix("Bearer ")
        claims = jwt.decode(
            token,
            self._key,
            algorithms=["EdDSA"],
            audience="https://api.example.com",
            options={"require": ["exp"]},
        )
        await self._app({**scope, "caller": claims["sub"]}, receive, send)


def scopes(authorizations: Iterable[str]) -> list[Scope]:
    """Make requests as servers hand them on."""
    return [
        {
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "path": "/vaults/abc",
            "raw_path": b"/vaults/abc",
            "query_string": b"",
            "client": ("127.0.0.1", 50000),
            "headers": [
                (b"host", b"api.example.com"),
                (b"accept", b"*/*"),
                (b"accept-encoding", b"gzip, deflate"),
                (b"connection", b"keep-alive"),
                (b"user-agent", b"python-httpx/0.28.1"),
                (b"authorization", authorization.encode("ascii")),
            ],
        }
        for authorization in authorizations
    ]


async def served(app: Application, requests: list[Scope]) -> float:
    """Serve requests one after the other; give the seconds of CPU for each."""
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    started = time.process_time()
    for scope in requests:
        await app(scope, receive, send)
    seconds = time.process_time() - started
    assert statuses == [200] * len(requests)
    return seconds / len(requests)


def signed_requests(store: MemoryNonceStore, policy: Policy, signer: Ed25519Signer) -> list[Scope]:
    """Sign requests under next nonces of a store."""
    scope, prices = policy.scopes()[0]
    grants = [Grant(prices, scope, chained=True, identity=str(number)) for number in range(REQUESTS)]
    nonces = store.issue(*grants)
    return scopes(
        write_credentials(signed(nonce, SMALL, path="/vaults/abc", signer=signer)) for nonce in nonces
    )


def work() -> float:
    """Measure the check of the work alone, seconds of CPU."""
    nonce = "A" * 43
    response = signed(nonce, SMALL).response
    string = f"{nonce}:GET:/a:{encode_base64(blake3(b'').digest())}".encode()
    started = time.process_time()
    for _ in range(REQUESTS):
        verify(string, SMALL, response, nonce=nonce)
    return (time.process_time() - started) / REQUESTS


def added(make: Callable[[], tuple[Application, list[Scope]]]) -> list[float]:
    """Measure what a middleware adds to the bare application, in microseconds, round by round."""
    seconds = []
    for _ in range(ROUNDS):
        app, requests = make()
        alone = asyncio.run(served(bare, requests))
        seconds.append((asyncio.run(served(app, requests)) - alone) * 1e6)
    return seconds


def ours() -> tuple[Application, list[Scope]]:
    """Make a verified application and requests to it."""
    store, policy = MemoryNonceStore(), Policy(access=SMALL, create=SMALL, exists=lambda path: True)
    requests = signed_requests(store, policy, Ed25519Signer.generate())
    return TunedDigestMiddleware(bare, Verifier(store, policy=policy)), requests


def bearer() -> tuple[Application, list[Scope]]:
    """Make an application behind bearer tokens, each checked as if it was new."""
    key = Ed25519PrivateKey.generate()
    now = int(time.time())
    tokens = (
        jwt.encode(
            {
                "sub": "acme",
                "aud": "https://api.example.com",
                "iat": now,
                "exp": now + 300,
                "jti": str(number),
            },
            key,
            algorithm="EdDSA",
        )
        for number in range(REQUESTS)
    )
    return Bearer(bare, key.public_key()), scopes(f"Bearer {token}" for token in tokens)


def rows() -> None:
    """What a verified request costs beyond its work, to a bearer token."""
    verified, checking, token = (
        median(added(ours)),
        median(work() for _ in range(ROUNDS)) * 1e6,
        median(added(bearer)),
    )
    ratio = (verified - checking) / token
    row(
        "CPU of a verified request beyond its work, to a bearer token",
        f"{verified - checking:.0f} to {token:.0f} us, {ratio:.2f}",
        "1.5 or less",
        ratio <= 1.5,
    )
