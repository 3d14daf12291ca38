"""Adopt the scheme in an API: verifier, policy, nonce stores and middleware (section 10)."""

from .policy import Policy, Prices
from .stores import AsyncNonceStore, Grant, MemoryNonceStore, NonceStore
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
