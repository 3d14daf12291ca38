"""Perform the steps of a generator: blocking, or under anyio. The two differ in nothing else."""

from __future__ import annotations

__all__ = ["run_anyio", "run_blocking", "take_turn"]

from typing import TypeVar

import anyio
import anyio.lowlevel

from .loops import PerLoop
from .steps import Step, Steps

T = TypeVar("T")


def run_blocking(steps: Steps[T]) -> T:
    """Run a generator of steps to its end in this thread.

    Args:
        steps: The generator.

    Returns:
        What the generator returns.

    Raises:
        ArgumentError: If a step can only be awaited.
    """
    try:
        step: Step = next(steps)
        while True:
            try:
                answer = step.blocking()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        answer_of_all: T = end.value
        return answer_of_all
    finally:
        steps.close()  # also where an interrupt or a cancellation ends it, whoever keeps that


async def run_anyio(steps: Steps[T]) -> T:
    """Run a generator of steps to its end on the event loop, what may be slow in worker threads.

    Args:
        steps: The generator.

    Returns:
        What the generator returns.
    """
    try:
        step: Step = next(steps)
        while True:
            try:
                answer = await step.awaited()
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        answer_of_all: T = end.value
        return answer_of_all
    finally:
        steps.close()  # also where an interrupt or a cancellation ends it, whoever keeps that


async def take_turn() -> None:
    """Let a burst of requests through one by one, and everybody else onto the loop between them."""
    async with _turns.get():
        await anyio.lowlevel.checkpoint()


# Acquired fast: the turn of the loop is the checkpoint above.
_turns = PerLoop("tuned_digest_turns", lambda: anyio.Lock(fast_acquire=True))
