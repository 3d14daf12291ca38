"""Notice forks: a child has its parent's nonces, and locks that threads hold which it does not have.

A process id does not tell: in a namespace of its own a child may have its parent's.
"""

from __future__ import annotations

__all__ = ["generation"]

import os

_forks = 0


def generation() -> int:
    """Count the forks that lie between the first process and this one.

    Returns:
        A number that no parent of this process has.
    """
    return _forks


def _count() -> None:
    global _forks  # noqa: PLW0603  # one for each process
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count)
