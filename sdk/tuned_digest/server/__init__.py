"""Adopt the scheme in an API: verifier, policy, nonce stores and middleware (section 10)."""

from .grants import Grant
from .policy import Policy, Prices
from .stores import AsyncNonceStore, MemoryNonceStore, NonceStore
from .verifier import Caller, IncomingRequest, Verifier

__all__ = [
    "AsyncNonceStore",
    "Caller",
    "Grant",
    "IncomingRequest",
    "MemoryNonceStore",
    "NonceStore",
    "Policy",
    "Prices",
    "Verifier",
]
