"""Perform the steps of a generator: blocking, or under anyio. The two differ in nothing else."""

from __future__ import annotations

__all__ = ["run_anyio", "run_blocking", "take_turn"]

from typing import TypeVar, cast

import anyio
import anyio.lowlevel

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
        return cast("T", end.value)


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
        return cast("T", end.value)


async def take_turn() -> None:
    """Let a burst of requests through one by one, and everybody else onto the loop between them."""
    try:
        turn = _turns.get()
    except LookupError:
        turn = anyio.Lock()
        _turns.set(turn)
    async with turn:
        await anyio.lowlevel.checkpoint()


_turns = anyio.lowlevel.RunVar[anyio.Lock]("tuned_digest_turns")  # one for each event loop
