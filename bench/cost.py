"""What a signed request costs beyond an unsigned one, beside what people would use in its place.

No network and no server: each client talks to a transport of its own that answers at once, with the same
response fields for every row. All clients take turns in one process. CPU time of the process counts, the
least of fifteen rounds of 300 requests each. The work is the least there is (``m=8,t=1,p=1``), so that the
rest shows.
"""

import io
import itertools
import os
import time
from collections.abc import Callable, Generator
from typing import Any

import anyio
import anyio.from_thread
import httpx
import requests
import urllib3
from argon2.low_level import Type, hash_secret_raw
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPSignatureKeyResolver
from httpx_auth import AWS4Auth as HttpxAWS4Auth
from requests_aws4auth import AWS4Auth as RequestsAWS4Auth
from requests_http_signature import HTTPSignatureAuth, algorithms

import tuned_digest.httpx
import tuned_digest.requests
from tuned_digest import Ed25519Signer

from .table import row

ORIGIN = "https://api.example.com"
URL = f"{ORIGIN}/blobs/welcome?x=1"
TUNING = "$argon2d$v=19$m=8,t=1,p=1"
ROUNDS, REQUESTS = 15, 300

_numbers = itertools.count()


def next_nonces() -> list[tuple[str, str]]:
    """Write what a server sends with every response: a nonce for each scope, under both schemes."""
    fields = []
    for scopes in ("read,update,delete,debug,proxy", "create"):
        nonce = f"{next(_numbers):043d}"
        fields += [
            ("Authentication-Info", f"nextnonce={nonce};{work};scopes={scopes}")
            for work in (f"argon={TUNING}", "blake3=1")
        ]
    return fields


def answered(is_signed: bool) -> tuple[int, list[tuple[str, str]]]:
    """Accept a request that is signed, and challenge any other."""
    if is_signed:
        return 200, next_nonces()
    nonce = f"{next(_numbers):043d}"
    return 401, [
        ("WWW-Authenticate", f"tuned-digest-signature nonce={nonce};algorithm={TUNING};actions=read")
    ]


class Adapter(requests.adapters.HTTPAdapter):
    """A transport of requests that answers at once."""

    def __init__(self, *, challenges: bool) -> None:
        super().__init__()
        self._challenges = challenges

    def send(  # noqa: D102
        self, request: requests.PreparedRequest, *args: Any, **kwargs: Any
    ) -> requests.Response:
        status, fields = answered("Authorization" in request.headers or not self._challenges)
        headers = urllib3.HTTPHeaderDict()
        for name, value in fields:
            headers.add(name, value)
        response = requests.Response()
        response.raw = urllib3.HTTPResponse(
            io.BytesIO(b"ok"), headers=headers, status=status, preload_content=False
        )
        response.status_code, response.request, response.url = status, request, request.url or ""
        response.headers = requests.structures.CaseInsensitiveDict(headers)
        response.connection = self
        return response

    def close(self) -> None:
        """Hold nothing."""


def transport(*, challenges: bool) -> httpx.MockTransport:
    """Make a transport of httpx that answers at once."""

    def answer(request: httpx.Request) -> httpx.Response:
        status, fields = answered("Authorization" in request.headers or not challenges)
        return httpx.Response(status, headers=fields, content=b"ok")

    return httpx.MockTransport(answer)


class Botocore(httpx.Auth):
    """SigV4 by botocore, as anyone would call it from httpx."""

    def __init__(self) -> None:
        self._credentials = Credentials("AKIA", "secret")

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request."""
        copied = AWSRequest(request.method, str(request.url), headers=dict(request.headers))
        SigV4Auth(self._credentials, "execute-api", "eu-west-1").add_auth(copied)
        request.headers.update(dict(copied.headers))
        yield request


class OneKey(HTTPSignatureKeyResolver):
    """The key of the RFC 9421 row."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()

    def resolve_private_key(self, key_id: str) -> Any:
        """Give the key."""
        return self._key

    def resolve_public_key(self, key_id: str) -> Any:
        """Give its public half."""
        return self._key.public_key()


Send = Callable[[int], None]
"""Sends so many requests."""


def by_httpx(auth: Any, *, challenges: bool = False) -> Send:
    """Send with a blocking httpx client."""
    client = httpx.Client(transport=transport(challenges=challenges), auth=auth)

    def send(count: int) -> None:
        for _ in range(count):
            client.get(URL)

    return send


def by_async(portal: anyio.from_thread.BlockingPortal, auth: Any, *, challenges: bool = False) -> Send:
    """Send with an async httpx client, one request after the other."""
    client = httpx.AsyncClient(transport=transport(challenges=challenges), auth=auth)

    async def get(count: int) -> None:
        for _ in range(count):
            await client.get(URL)

    return lambda count: portal.call(get, count)


def by_requests(auth: Any, *, challenges: bool = False) -> Send:
    """Send with a session of requests."""
    session = requests.Session()
    session.mount("https://", Adapter(challenges=challenges))
    session.auth, session.trust_env = auth, False

    def send(count: int) -> None:
        for _ in range(count):
            session.get(URL)

    return send


def least(sends: dict[str, Send]) -> dict[str, float]:
    """Give the microseconds of CPU that one request takes by each way."""
    times = dict.fromkeys(sends, float("inf"))
    for send in sends.values():
        send(2)
    for _ in range(ROUNDS):
        for name, send in sends.items():
            started = time.process_time()
            send(REQUESTS)
            times[name] = min(times[name], (time.process_time() - started) / REQUESTS * 1e6)
    return times


def primitives(count: int) -> None:
    """Do what every signed request has to: a hash at the least tuning, and a signature."""
    key = Ed25519PrivateKey.generate()
    for _ in range(count):
        hash_secret_raw(b"x" * 120, os.urandom(16), 1, 8, 1, 32, Type.D, 19)
        key.sign(b"x" * 66)


def added() -> None:
    """What each way of signing adds to a request, and ours in proportion to botocore's."""
    signer = Ed25519Signer.generate()
    http_signature = HTTPSignatureAuth(
        key_resolver=OneKey(), key_id="k", signature_algorithm=algorithms.ED25519
    )
    ours = tuned_digest.httpx.TunedDigestAuth(ORIGIN, signer)
    ours_in_requests = tuned_digest.requests.TunedDigestAuth(ORIGIN, signer)
    with anyio.from_thread.start_blocking_portal() as portal:
        times = least(
            {
                "httpx": by_httpx(None),
                "httpx async": by_async(portal, None),
                "requests": by_requests(None),
                "httpx, signed": by_httpx(ours, challenges=True),
                "httpx async, signed": by_async(portal, ours, challenges=True),
                "requests, signed": by_requests(ours_in_requests, challenges=True),
                "httpx, SigV4 by botocore": by_httpx(Botocore()),
                "httpx, SigV4 by httpx_auth": by_httpx(
                    HttpxAWS4Auth("AKIA", "secret", "eu-west-1", "execute-api")
                ),
                "requests, SigV4 by requests-aws4auth": by_requests(
                    RequestsAWS4Auth("AKIA", "secret", "eu-west-1", "execute-api")
                ),
                "requests, RFC 9421 by requests-http-signature": by_requests(http_signature),
                "primitives": primitives,
            }
        )
    row("cost: a hash at m=8,t=1,p=1 and a signature", f"{times.pop('primitives'):.0f} us", "reported", True)
    plain = {name: times.pop(name) for name in ("httpx", "httpx async", "requests")}
    extra = {name: time - plain[name.partition(",")[0]] for name, time in times.items()}
    botocore = extra["httpx, SigV4 by botocore"]
    claims = {"httpx, signed": 1.0, "httpx async, signed": 1.5, "requests, signed": 1.3}
    for name, microseconds in extra.items():
        ratio, claim = microseconds / botocore, claims.get(name)
        row(
            f"cost: {name}",
            f"{microseconds:.0f} us added, {ratio:.2f} of botocore's",
            f"{claim} or less" if claim else "reported",
            claim is None or ratio <= claim,
        )
