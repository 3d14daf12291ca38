"""Nonces issued by hand, and requests signed under them: what a verifier is shown in tests."""

from dataclasses import astuple
from typing import Any

from blake3 import blake3

from tuned_digest import Ed25519Signer, Work, proof
from tuned_digest._wire.credentials import Credentials, write_credentials
from tuned_digest._wire.grammar import ACTIONS
from tuned_digest._wire.profiles.deployed import Deployed
from tuned_digest._wire.request import SignedRequest
from tuned_digest._wire.work import SCHEMES
from tuned_digest.proof import Job, SearchCost
from tuned_digest.server import Grant
from tuned_digest.server.policy import Prices

from .driving import ACCESS, Server, fields_of

ARGON, SEARCH = SCHEMES
BOTH: Prices = {ARGON: ACCESS, SEARCH: SearchCost(8)}
EVERY_ACTION = frozenset(ACTIONS)


def issued(by: Server, prices: Prices = BOTH, scope: frozenset[str] = EVERY_ACTION) -> str:
    """Issue a nonce by hand."""
    nonce: str
    (nonce,) = by.store.issue(Grant(prices, scope, chained=True))
    return nonce


def is_held(by: Server, nonce: str) -> bool:
    """Find out whether a store still holds a nonce, which takes it."""
    return by.store.take(nonce) is not None


def signed(
    nonce: str,
    work: Work = ACCESS,
    *,
    method: str = "GET",
    path: str = "/a",
    body: bytes = b"",
    signer: Ed25519Signer | None = None,
) -> Credentials:
    """Sign a request as a client does."""
    signer = signer or Ed25519Signer.generate()
    credentials = Credentials(work.scheme, signer.public_key, nonce)
    request = SignedRequest(method, "", path, "", path, fields_of(()), blake3(body).digest())
    string = Deployed().work_string(request, credentials)
    credentials.response = proof.prove(string, work, nonce=nonce, salt=bytes(range(16)))
    credentials.signature = signer.sign(credentials.response.encode())
    return credentials


def written(nonce: str, work: Work = ACCESS, **request: Any) -> str:
    """Sign a request, and write the Authorization field."""
    return write_credentials(signed(nonce, work, **request))


def noted(work: Work, story: list[str]) -> Work:
    """Make the same work, which notes that it is checked."""
    kind: Any = type(work)

    class Noted(kind):  # type: ignore[misc]
        __slots__ = ()

        def verify(self, string: bytes, response: str, *, nonce: str, job: Job) -> None:
            story.append("proof")
            super().verify(string, response, nonce=nonce, job=job)

    made: Work = Noted(*astuple(work))  # type: ignore[call-overload]
    return made
