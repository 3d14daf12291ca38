"""What a server has done so far, for dashboards and alarms."""

from __future__ import annotations

__all__ = ["Counters", "Decision", "Tally"]

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """Say how the server decided on one request.

    Args:
        status: The status of a refusal; 0 for a request that was accepted.
        reason: Why it was refused; empty for a request that was accepted.
        action: The action that it was accepted for; empty for a refusal.
        identity: Who called (base64); empty for a refusal.
    """

    status: int
    reason: str
    action: str
    identity: str


@dataclass(frozen=True, slots=True)
class Counters:
    """Count what a verifier has done since it was made, in this process.

    Args:
        issued: Nonces issued.
        accepted: Requests accepted.
        refused: Requests refused, by reason.
        work_seconds: Seconds that checks of work took in all.
        checks_running: Checks running now.
        checks_waiting: Checks that wait for their turn now.
        price: How many times the usual work the policy asks for now.
    """

    issued: int
    accepted: int
    refused: Mapping[str, int]
    work_seconds: float
    checks_running: int
    checks_waiting: int
    price: float


class Tally:
    """Count decisions, and tell them to a callback.

    Args:
        on_decision: Called with each decision, on the thread that serves the request; it must be quick.
    """

    def __init__(self, on_decision: Callable[[Decision], None] | None) -> None:
        self._on_decision = on_decision
        self._lock = threading.Lock()
        self._refused: Counter[str] = Counter()
        self._work_seconds = 0.0
        self._accepted = self._issued = 0

    def accept(self, action: str, identity: str) -> None:
        """Count a request that was accepted."""
        with self._lock:
            self._accepted += 1
        if self._on_decision is not None:
            self._on_decision(Decision(0, "", action, identity))

    def refuse(self, status: int, reason: str) -> None:
        """Count a request that was refused."""
        with self._lock:
            self._refused[reason] += 1
        if self._on_decision is not None:
            self._on_decision(Decision(status, reason, "", ""))

    def issue(self, nonces: int) -> None:
        """Count nonces issued."""
        with self._lock:
            self._issued += nonces

    def check(self, seconds: float) -> None:
        """Count the seconds that a check took."""
        with self._lock:
            self._work_seconds += seconds

    def counters(self, *, running: int, waiting: int, price: float) -> Counters:
        """Give the counters, with what others know.

        Args:
            running: Checks running now.
            waiting: Checks waiting now.
            price: The policy's.

        Returns:
            The counters.
        """
        with self._lock:
            refused = dict(self._refused)
            return Counters(
                self._issued, self._accepted, refused, self._work_seconds, running, waiting, price
            )
