"""The steps that generators of the client and of the server yield to their drivers."""

from __future__ import annotations

__all__ = ["Call", "Step", "ask"]

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Step(Generic[T]):
    """Stand for one local action, answered with a `T`."""

    __slots__ = ()


@dataclass(slots=True)
class Call(Step[T]):
    """Ask for a call that only a leaf knows how to make, awaited where it is async."""

    call: Callable[[], T | Awaitable[T]]


def ask(step: Step[T]) -> Generator[Step[object], object, T]:
    """Yield a step to the driver and hand its answer back under its own type.

    Args:
        step: The step.

    Returns:
        What the driver answered.
    """
    return cast("T", (yield cast("Step[object]", step)))
