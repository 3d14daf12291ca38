"""The accounts of a server: their keys, how keys are enrolled and revoked, and who did it."""

from __future__ import annotations

__all__ = [
    "AuditEntry",
    "Candidate",
    "Code",
    "EnrolledKey",
    "Enrolment",
    "KeyRegistry",
    "MemoryKeyRegistry",
    "Registration",
]

from .enrolment import Enrolment, Registration
from .memory import MemoryKeyRegistry
from .registry import AuditEntry, Candidate, Code, EnrolledKey, KeyRegistry
