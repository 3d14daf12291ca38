"""Refuse to serve from the memory of one process where another process serves too."""

from __future__ import annotations

__all__ = ["PATIENCE", "require_alone"]

import time
from collections.abc import Callable

from ..._runtime.siblings import has_sibling
from ...errors import ArgumentError

# On a reload gunicorn and granian start a worker before its forerunner ends; granian leaves them together for
# 3.5 s (its respawn_interval).
PATIENCE = 5.0  # seconds
_INTERVAL = 0.1  # seconds


def require_alone(
    store: str,
    *,
    patience: float = 0.0,
    has_sibling: Callable[[], bool] = has_sibling,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Let a store serve only where no other worker does.

    Args:
        store: The name of its class, for the error.
        patience: Seconds in which another worker may end.
        has_sibling: Tells whether there is another worker.
        sleep: Waits.

    Raises:
        ArgumentError: If another worker is there.
    """
    waited = 0.0
    while has_sibling():
        if waited >= patience:
            raise ArgumentError(
                f"this server runs more than one worker process, and {store} serves only one: a worker does "
                "not know the nonces of another. Run one worker, or use a store that workers share "
                "(SQLiteNonceStore, RedisNonceStore, StatelessNonceStore with spent=), or pass "
                "several_processes=True if each client always reaches the same worker"
            )
        sleep(_INTERVAL)
        waited += _INTERVAL
