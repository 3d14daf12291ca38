"""Notice forks: a child has its parent's nonces, and locks that threads hold which it does not have.

A process id does not tell: in a namespace of its own a child may have its parent's.
"""

from __future__ import annotations

__all__ = ["PerProcess", "generation"]

import functools
import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_forks: list[None] = []  # one for each fork between the first process and this one


def generation() -> int:
    """Count the forks that lie between the first process and this one.

    Returns:
        A number that no parent of this process has.
    """
    return len(_forks)


class PerProcess(Generic[T]):
    """Hold one value for each process: a forked child makes its own, the same one for all of its threads.

    Args:
        make: Makes the value.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[int, T] = {}

    def get(self) -> T:
        """Give this process's value.

        Returns:
            The value, made on the first call.
        """
        process = generation()
        value = self._values.get(process)
        if value is None:
            value = self._values.setdefault(process, self._make())
            for parent in self._values.keys() - {process}:
                self._values.pop(parent, None)
        return value


_register = getattr(os, "register_at_fork", dict)  # a system without forks has none
_register(after_in_child=functools.partial(_forks.append, None))
