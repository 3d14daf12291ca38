"""How one call's credentials are carried: what the messages of a client library need to know of a scheme."""

from __future__ import annotations

__all__ = ["DIGEST_FIELD", "Carriage"]

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

from .settings import Resources

DIGEST_FIELD = "Content-Digest"  # RFC 9530 section 2


@dataclass(frozen=True, slots=True)
class Carriage:
    """Say which field is ours, and what a body may take.

    Args:
        resources: What this process spends on bodies.
        clock: Gives seconds, never going back.
        is_ours: Tells the credentials of this scheme from a caller's own.
        field: The field that carries them.
        further: Other fields that a call sets, which go to no other origin where a library lets us see to it.
        sent: The values that a call has sent in these fields, where nothing else tells which are ours.
    """

    resources: Resources
    clock: Callable[[], float]
    is_ours: Callable[[str], bool]
    field: str = "Authorization"
    further: tuple[str, ...] = ()
    sent: set[str] = dataclasses.field(default_factory=set, repr=False)
