"""What a request with a self-signed token costs beyond an unsigned one, beside PyJWT called by hand.

No network and no server, as in `cost`: all clients take turns in one process, and the CPU time of the least
round counts. By hand means an auth flow of httpx of a dozen lines that makes the same claims.
"""

import base64
import hashlib
import os
import time
from collections.abc import Generator
from typing import Any

import anyio.from_thread
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

import tuned_digest.httpx
import tuned_digest.requests
from tuned_digest import Ed25519Signer, PublicKey

from .cost import ORIGIN, by_async, by_httpx, by_requests, least
from .table import row

ACCOUNT = "acme-42"

MOST = {"fresh bound": 1.3, "reused": 0.1}
"""What each may add, in proportion to a bound token by hand."""


class ByHand(httpx.Auth):
    """A bound token by PyJWT, as anyone would make it.

    Args:
        signer: Whose key it is.
    """

    requires_request_body = True

    def __init__(self, signer: Ed25519Signer) -> None:
        key = load_pem_private_key(signer.to_pem(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self._key = key
        self._kid = PublicKey.of(signer).thumbprint

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign a request."""
        now = int(time.time())
        digest = f"sha-256=:{base64.b64encode(hashlib.sha256(request.content).digest()).decode()}:"
        claims: dict[str, object] = {
            "iss": ACCOUNT,
            "sub": ACCOUNT,
            "aud": ORIGIN,
            "iat": now - 5,
            "exp": now + 60,
            "jti": base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("="),
            "htm": request.method,
            "htu": str(request.url.copy_with(query=None, fragment=None)),
            "content_digest": digest,
        }
        if request.url.query:
            claims["query"] = request.url.query.decode()
        token = jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self._kid})
        request.headers["Content-Digest"] = digest
        request.headers["Authorization"] = f"Bearer {token}"
        yield request


def primitives(count: int) -> None:
    """Do what every fresh token has to: sign so many bytes."""
    key, message = Ed25519PrivateKey.generate(), b"x" * 500
    for _ in range(count):
        key.sign(message)


def added() -> None:
    """What a fresh and a reused token add in each client, in proportion to a bound one by hand."""
    signer = Ed25519Signer.generate()
    options: dict[str, dict[str, Any]] = {
        "fresh bound": {},
        "fresh unbound": {"bind": False},
        "reused": {"bind": False, "reuse": True},
    }
    for_httpx = {
        how: tuned_digest.httpx.SelfSignedTokenAuth(ORIGIN, signer, account=ACCOUNT, **given)
        for how, given in options.items()
    }
    for_requests = {
        how: tuned_digest.requests.SelfSignedTokenAuth(ORIGIN, signer, account=ACCOUNT, **given)
        for how, given in options.items()
    }
    by_hand = ByHand(signer)
    with anyio.from_thread.start_blocking_portal() as portal:
        times = least(
            {
                "httpx": by_httpx(None),
                "httpx async": by_async(portal, None),
                "requests": by_requests(None),
                "httpx, bound by PyJWT": by_httpx(by_hand),
                "httpx async, bound by PyJWT": by_async(portal, by_hand),
                **{f"httpx, {how}": by_httpx(auth) for how, auth in for_httpx.items()},
                **{f"httpx async, {how}": by_async(portal, auth) for how, auth in for_httpx.items()},
                **{f"requests, {how}": by_requests(auth) for how, auth in for_requests.items()},
                "signature": primitives,
            }
        )
    row("tokens: an Ed25519 signature", f"{times.pop('signature'):.0f} us", "reported", True)
    plain = {name: times.pop(name) for name in ("httpx", "httpx async", "requests")}
    extra = {name: taken - plain[name.partition(",")[0]] for name, taken in times.items()}
    for name, microseconds in extra.items():
        client, _, how = name.partition(", ")
        hand = extra[f"{'httpx async' if client == 'httpx async' else 'httpx'}, bound by PyJWT"]
        ratio, most = microseconds / hand, MOST.get(how)
        row(
            f"tokens: {name}",
            f"{microseconds:.0f} us added, {ratio:.2f} of PyJWT's",
            f"{most} or less" if most else "reported",
            most is None or ratio <= most,
        )
