"""Sign HTTP requests under server challenges: Tuned-Digest-Signature.

Adapters are imported by name: `tuned_digest.httpx`, `tuned_digest.requests`, `tuned_digest.server`.
"""

from ._work import Resources
from .challenge import NextNonce
from .errors import (
    ArgumentError,
    BodyError,
    LimitExceededError,
    MalformedFieldError,
    MissingExtraError,
    NoThreadError,
    PrivateKeyError,
    TunedDigestError,
    UnsupportedAlgorithmError,
    WorkTimeoutError,
)
from .nonces import MemoryNonceCache, NonceCache
from .origins import Origin
from .signers import AsyncSigner, Ed25519Signer, KeyFileWarning, Signer
from .tuning import Limits, SearchCost, Tuning, Work

__all__ = [
    "ArgumentError",
    "AsyncSigner",
    "BodyError",
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
    "Resources",
    "SearchCost",
    "Signer",
    "TunedDigestError",
    "Tuning",
    "UnsupportedAlgorithmError",
    "Work",
    "WorkTimeoutError",
]
