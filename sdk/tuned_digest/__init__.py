"""Sign HTTP requests under server challenges: Tuned-Digest-Signature.

The rest is imported by name: `tuned_digest.httpx` and `tuned_digest.requests` for clients, and
`tuned_digest.server` for APIs.
"""

from ._client.nonces import MemoryNonceCache, NonceCache
from ._client.settings import Resources
from ._tokens.making import TokenRequest
from ._wire.challenge import NextNonce, Terms
from ._wire.origins import Origin
from ._wire.work import Limits
from .errors import (
    ArgumentError,
    BodyError,
    ClockError,
    LimitExceededError,
    MalformedFieldError,
    MissingExtraError,
    NoThreadError,
    PrivateKeyError,
    RefusedError,
    TunedDigestError,
    UnsupportedAlgorithmError,
    WorkTimeoutError,
)
from .keys import AsyncSigner, Ed25519Signer, KeyFileWarning, PrivateKeySigner, PublicKey, Signer
from .proof import SearchCost, Tuning, Work

__all__ = [
    "ArgumentError",
    "AsyncSigner",
    "BodyError",
    "ClockError",
    "Ed25519Signer",
    "KeyFileWarning",
    "LimitExceededError",
    "Limits",
    "MalformedFieldError",
    "MemoryNonceCache",
    "MissingExtraError",
    "NextNonce",
    "NoThreadError",
    "NonceCache",
    "Origin",
    "PrivateKeyError",
    "PrivateKeySigner",
    "PublicKey",
    "RefusedError",
    "Resources",
    "SearchCost",
    "Signer",
    "Terms",
    "TokenRequest",
    "TunedDigestError",
    "Tuning",
    "UnsupportedAlgorithmError",
    "Work",
    "WorkTimeoutError",
]
