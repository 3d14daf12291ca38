"""How many cores this process may use: affinity, and the quotas of its control groups."""

from __future__ import annotations

__all__ = ["usable_cores"]

import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_HIERARCHY = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Count the cores this process may use.

    Returns:
        At least 1.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([cores, *_quotas()]))


def _quotas() -> Iterator[int]:
    """Read the CPU quotas that hold for this process, in whole cores; none outside of Linux."""
    for read in (_unified_quotas, _legacy_quotas):
        try:
            yield from (int(quota) // int(period) for quota, period in read() if int(quota) > 0)
        except (OSError, ValueError, ZeroDivisionError):  # not this kind of hierarchy, or not one we know
            continue


def _unified_quotas() -> Iterator[tuple[str, str]]:
    """Read quota and period of this process's group and of those it is in, version 2 (cgroups(7))."""
    for line in _MEMBERSHIP.read_text().splitlines():
        if line.startswith("0::"):
            group = _HIERARCHY / line.removeprefix("0::/")
            for path in (group, *group.parents):
                if path.is_relative_to(_HIERARCHY) and (path / "cpu.max").exists():
                    quota, period = (path / "cpu.max").read_text().split()
                    yield quota.replace("max", "-1"), period


def _legacy_quotas() -> Iterator[tuple[str, str]]:
    """Read quota and period of this container's group, version 1; -1 is no quota."""
    group = _HIERARCHY / "cpu"
    yield (group / "cpu.cfs_quota_us").read_text(), (group / "cpu.cfs_period_us").read_text()
