"""Adopt the schemes in an API: verifiers, policies, accounts, nonce stores and middleware."""

from .accounts import AuditEntry, Candidate, Code, EnrolledKey, KeyRegistry, MemoryKeyRegistry
from .adaptive import AdaptivePolicy
from .checks import CheckQueue
from .counters import Counters, Decision
from .grants import Grant
from .incoming import Caller, IncomingRequest
from .policy import Policy, Prices
from .spools import BodyLimits
from .stores import AsyncNonceStore, AsyncSpentStore, MemoryNonceStore, NonceStore, SpentStore
from .stores.sqlite import SQLiteNonceStore
from .stores.stateless import AsyncStatelessNonceStore, StatelessNonceStore
from .tokens import TokenVerifier
from .verifier import Verifier

__all__ = [
    "AdaptivePolicy",
    "AsyncNonceStore",
    "AsyncSpentStore",
    "AsyncStatelessNonceStore",
    "AuditEntry",
    "BodyLimits",
    "Caller",
    "Candidate",
    "CheckQueue",
    "Code",
    "Counters",
    "Decision",
    "EnrolledKey",
    "Grant",
    "IncomingRequest",
    "KeyRegistry",
    "MemoryKeyRegistry",
    "MemoryNonceStore",
    "NonceStore",
    "Policy",
    "Prices",
    "SQLiteNonceStore",
    "SpentStore",
    "StatelessNonceStore",
    "TokenVerifier",
    "Verifier",
]
