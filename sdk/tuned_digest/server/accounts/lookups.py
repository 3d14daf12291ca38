"""A key registry as verifiers use it: one read for a request, and now and then a note of a key's use."""

from __future__ import annotations

__all__ = ["BRIEF", "KeyLookups"]

import functools
import logging
import math

from ..._runtime.steps import Here, Steps
from ...errors import ArgumentError, StoreUnavailableError
from ..decoys import decoy
from ..effects import InRegistryThread, started
from ..outages import Outage
from .registry import USE_INTERVAL, EnrolledKey, KeyRegistry

_LOG = logging.getLogger(__name__)

BRIEF = 1.0
"""Seconds for which a key is taken to be as it was read: much less than a used token is remembered."""

_MOST_NOTED = 4096  # keys, of which this process remembers for a minute that they were noted: 200 bytes each


class KeyLookups:
    """Find keys in a registry, on an event loop in a thread where the registry may block.

    Args:
        registry: The registry.

    Raises:
        ArgumentError: If it is none.
        MissingExtraError: If joserfc is not installed.
    """

    def __init__(self, registry: KeyRegistry) -> None:
        if isinstance(registry, type) or not callable(getattr(registry, "find", None)):
            raise ArgumentError("registry is a KeyRegistry: pass MemoryKeyRegistry(), an object")
        decoy("Ed25519")  # says now that joserfc is not installed, and not to the first request
        self._registry = registry
        self._step = InRegistryThread if getattr(registry, "blocks", True) else Here
        self._outage = Outage("key registry")
        self._noted: dict[str, float] = {}  # thumbprint to when its use was noted from here
        self._next_note = -math.inf

    def start(self) -> Steps[None]:
        """Check that the registry can serve; that it is unavailable now is logged.

        Raises:
            TunedDigestError: If it will not serve without somebody's help.
        """
        try:
            yield from started(self._registry)
        except StoreUnavailableError as error:
            self._outage.begin(error)

    def find(self, thumbprint: str) -> Steps[EnrolledKey | None]:
        """Read a key.

        Args:
            thumbprint: Its thumbprint, as anybody may have sent it.

        Returns:
            The key, also a revoked one; None where it is not enrolled.

        Raises:
            RequestRejectedError: With status 503, if the registry is unavailable.
        """
        try:
            key: EnrolledKey | None = yield self._step(functools.partial(self._registry.find, thumbprint))
        except StoreUnavailableError as error:
            raise self._outage.rejection(error) from error
        self._outage.end()
        return key

    def note_use(self, key: EnrolledKey, now: float) -> Steps[None]:
        """Note that a key was used, once a minute; where that fails, none is noted for a minute.

        Args:
            key: The key, as it was found.
            now: Seconds since 1970.
        """
        latest = self._noted.get(key.thumbprint, now - USE_INTERVAL)
        if key.last_used is not None:
            latest = max(latest, key.last_used)
        if now - latest < USE_INTERVAL or now < self._next_note:
            return
        if len(self._noted) >= _MOST_NOTED:
            self._noted.clear()
        self._noted[key.thumbprint] = now
        try:
            yield self._step(functools.partial(self._registry.note_use, key.thumbprint, now))
        except Exception as error:  # the request is a good one, whatever is wrong here
            self._next_note = now + USE_INTERVAL
            _LOG.warning("the use of a key could not be noted: %s", error)
