"""Adopt the scheme in an API: verifier, policies, nonce stores and middleware (section 10)."""

from .adaptive import AdaptivePolicy
from .checks import CheckQueue
from .counters import Counters, Decision
from .grants import Grant
from .policy import Policy, Prices
from .spools import BodyLimits
from .stores import AsyncNonceStore, AsyncSpentStore, MemoryNonceStore, NonceStore, SpentStore
from .stores.sqlite import SQLiteNonceStore
from .stores.stateless import AsyncStatelessNonceStore, StatelessNonceStore
from .verifier import Caller, IncomingRequest, Verifier

__all__ = [
    "AdaptivePolicy",
    "AsyncNonceStore",
    "AsyncSpentStore",
    "AsyncStatelessNonceStore",
    "BodyLimits",
    "Caller",
    "CheckQueue",
    "Counters",
    "Decision",
    "Grant",
    "IncomingRequest",
    "MemoryNonceStore",
    "NonceStore",
    "Policy",
    "Prices",
    "SQLiteNonceStore",
    "SpentStore",
    "StatelessNonceStore",
    "Verifier",
]
