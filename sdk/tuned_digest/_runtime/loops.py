"""What each event loop has of its own."""

from __future__ import annotations

__all__ = ["PerLoop"]

from collections.abc import Callable
from typing import Generic, TypeVar

import anyio.lowlevel

T = TypeVar("T")


class PerLoop(Generic[T]):
    """Hold one value for each event loop.

    Args:
        name: Names it, for debuggers.
        make: Makes the value, on the loop.
    """

    def __init__(self, name: str, make: Callable[[], T]) -> None:
        self._make = make
        self._value = anyio.lowlevel.RunVar[T](name)

    def get(self) -> T:
        """Give the running loop's value.

        Returns:
            The value, made on the first call.
        """
        try:
            return self._value.get()
        except LookupError:
            value = self._make()
            self._value.set(value)
            return value
