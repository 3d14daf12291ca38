"""Perform the steps of a generator: blocking, or under anyio. The two differ in nothing else."""

from __future__ import annotations

__all__ = ["run_anyio", "run_blocking", "take_turn"]

from typing import TypeVar

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
        answer_of_all: T = end.value
        return answer_of_all


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


async def take_turn() -> None:
    """Let a burst of requests through one by one, and everybody else onto the loop between them."""
    try:
        turn = _turns.get()
    except LookupError:
        turn = anyio.Lock(fast_acquire=True)  # the turn of the loop is the checkpoint below
        _turns.set(turn)
    async with turn:
        await anyio.lowlevel.checkpoint()


_turns = anyio.lowlevel.RunVar[anyio.Lock]("tuned_digest_turns")  # one for each event loop
