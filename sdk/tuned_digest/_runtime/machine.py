"""What this process may use of the machine: cores and memory, by affinity and by its control groups."""

from __future__ import annotations

__all__ = ["usable_cores", "usable_memory_kib"]

import os
from collections.abc import Callable, Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Count the cores this process may use.

    Returns:
        At least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_limits(_unified_quotas), *_limits(_legacy_quotas)]))


def usable_memory_kib() -> int:
    """Find how much memory this process may use, that of other processes included.

    Returns:
        KiB; 0 where the system does not tell.
    """
    physical = _limits(_physical_memory)
    return min([*physical, *_limits(_unified_memory), *_limits(_legacy_memory)], default=0)


def _limits(read: Callable[[], Iterator[int]]) -> Iterator[int]:
    """Read limits as far as the system has them in a form we know."""
    try:
        yield from (limit for limit in read() if limit >= 0)
    except (AttributeError, OSError, ValueError, ZeroDivisionError):  # not this kind of system
        return


def _unified_quotas() -> Iterator[int]:
    for text in _unified("cpu.max"):
        quota, period = text.replace("max", "-1").split()
        yield int(quota) // int(period)


def _legacy_quotas() -> Iterator[int]:
    group = _HIERARCHY / "cpu"
    yield (
        int((group / "cpu.cfs_quota_us").read_text()) // int((group / "cpu.cfs_period_us").read_text())
    )  # -1 is no quota


def _unified_memory() -> Iterator[int]:
    for text in _unified("memory.max"):
        yield int(text.replace("max", "-1")) // 1024


def _legacy_memory() -> Iterator[int]:
    # Without a limit this is the largest number of whole pages there is.
    yield int((_HIERARCHY / "memory" / "memory.limit_in_bytes").read_text()) // 1024


def _physical_memory() -> Iterator[int]:
    yield os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 1024


def _unified(name: str) -> Iterator[str]:
    """Read a file of this process's group and of those it is in, version 2 (cgroups(7))."""
    for line in _MEMBERSHIP.read_text().splitlines():
        if line.startswith("0::"):
            group = _HIERARCHY / line.removeprefix("0::/")
            for path in (group, *group.parents):
                if path.is_relative_to(_HIERARCHY) and (path / name).exists():
                    yield (path / name).read_text()
