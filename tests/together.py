"""Calls that are made at once, each in a thread of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

_PATIENCE = 60  # seconds until a test that hangs fails


def at_once(*calls: Callable[[], T]) -> list[T]:
    """Make calls at once, and give their results in order; the first error of any is raised."""
    together = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        together.wait(_PATIENCE)
        return call()

    with ThreadPoolExecutor(len(calls)) as threads:
        return [future.result(_PATIENCE) for future in [threads.submit(run, call) for call in calls]]


def elsewhere(call: Callable[[], T]) -> T:
    """Make a call in another thread, and wait for it."""
    return at_once(call)[0]
