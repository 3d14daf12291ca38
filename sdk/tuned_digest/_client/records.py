"""What an auth object remembers of each origin, beside its nonces; shared by its views, threads and tasks."""

from __future__ import annotations

__all__ = ["Records"]

import logging
import threading
from dataclasses import dataclass
from typing import Self

from .._runtime.forks import PerProcess
from .._wire.origins import Origin
from ..errors import RefusedError

_logger = logging.getLogger("tuned_digest")

_ORIGINS = 256  # origins that something is remembered of; beyond them nothing more is

# Refused answers at one origin: how they are slowed down, and for how long they are stopped.
_FREE_REFUSALS = 3
_FIRST_PAUSE = 1.0  # seconds, doubled with each further refusal
_DOUBLINGS = 3  # at most: 8 seconds
_REST = 60.0  # seconds without an answer once too many were refused


@dataclass(slots=True)
class _Refusals:
    count: int = 0
    last: float = 0.0
    reason: str = ""


class Records:
    """Remember of each origin what later requests need to know.

    A new one is made with an auth object; a copy of the object shares it.
    """

    def __init__(self) -> None:
        self._lock = PerProcess(threading.Lock)  # a thread may hold it at a fork
        self._warned: set[tuple[str, Origin]] = set()
        self._unprimed: set[Origin] = set()
        self._refusals: dict[Origin, _Refusals] = {}

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)()

    def warn(self, origin: Origin, message: str) -> None:
        """Log a warning, once for each origin.

        Args:
            origin: The origin it is about.
            message: What happened.
        """
        if (message, origin) not in self._warned and len(self._warned) < _ORIGINS:
            self._warned.add((message, origin))
            _logger.warning("%s: %s", origin, message)

    def brings_no_nonce(self, origin: Origin) -> bool:
        """Tell whether priming has brought nothing at an origin, and no nonce has come since.

        Args:
            origin: The origin.

        Returns:
            True when it is not worth another try.
        """
        return origin in self._unprimed

    def note_priming(self, origin: Origin, *, is_primed: bool) -> None:
        """Remember whether an origin sends next nonces.

        Args:
            origin: The origin.
            is_primed: Whether some have come.
        """
        if is_primed:
            self._unprimed.discard(origin)
        elif len(self._unprimed) < _ORIGINS:
            self._unprimed.add(origin)

    def note_answer(self, origin: Origin, now: float, *, is_refused: bool, reason: str = "") -> None:
        """Count answers to challenges that an origin refuses in a row.

        Args:
            origin: The origin.
            now: Seconds on the clock.
            is_refused: Whether it was; one that is accepted ends the row.
            reason: The server's reason.
        """
        if not is_refused:
            if origin in self._refusals:
                self._refusals.pop(origin, None)
            return
        with self._lock.get():
            if len(self._refusals) >= _ORIGINS and origin not in self._refusals:
                self._refusals.pop(next(iter(self._refusals)))
            refusals = self._refusals.setdefault(origin, _Refusals())
            refusals.count, refusals.last, refusals.reason = refusals.count + 1, now, reason

    def pause(self, origin: Origin, now: float, allowed: int | None, left: float | None) -> float:
        """Find how long to wait before one more answer.

        Args:
            origin: The origin.
            now: Seconds on the clock.
            allowed: Refusals allowed in a row, None for no limit.
            left: Seconds that the call may still take, None for no limit.

        Returns:
            Seconds, 0 for none.

        Raises:
            RefusedError: If it refused too many, or the wait is longer than the call may take.
        """
        with self._lock.get():
            refusals = self._refusals.get(origin)
            if refusals is None or allowed is None:
                return 0.0
            since = now - refusals.last
            if refusals.count >= allowed:
                seconds = _REST - since
            elif refusals.count < _FREE_REFUSALS:
                return 0.0
            else:
                doubled = _FIRST_PAUSE * 2 ** min(refusals.count - _FREE_REFUSALS, _DOUBLINGS)
                seconds = doubled - since
            if seconds <= 0:
                return 0.0
            if refusals.count < allowed and (left is None or seconds <= left):
                return seconds
            reason = f"; the last reason was {refusals.reason!r}" if refusals.reason else ""
            advice = (
                "Check the key, signed_path and the server; to allow more refusals, pass "
                "resources=Resources(refusals_allowed=...)"
                if refusals.count >= allowed
                else f"This call has {left:.3g} s left: allow more with Resources(work_timeout=...)"
            )
            raise RefusedError(
                f"{origin} refused {refusals.count} answers in a row{reason}. It gets no further answer for "
                f"{seconds:.0f} s. {advice}",
                origin=str(origin),
                refusals=refusals.count,
                reason=refusals.reason,
                seconds=seconds,
            )
