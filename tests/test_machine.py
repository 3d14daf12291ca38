"""What this process may use of the machine: cores and memory, by affinity and by its control groups."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tuned_digest._runtime.machine import usable_cores, usable_memory_kib


class System:
    """The files in which a system tells of control groups, put where a test can write them.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self.membership = folder / "membership"
        self.hierarchy = folder / "cgroup"

    def place(self, path: Path) -> Path:
        """Say where a file of the system is in this test."""
        if path == Path("/proc/self/cgroup"):
            return self.membership
        hierarchy = Path("/sys/fs/cgroup")
        return self.hierarchy / path.relative_to(hierarchy) if path.is_relative_to(hierarchy) else path

    def write(self, files: dict[str, str]) -> None:
        """Write files of the hierarchy."""
        for name, content in files.items():
            (self.hierarchy / name).parent.mkdir(parents=True, exist_ok=True)
            (self.hierarchy / name).write_text(content)


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    """A hierarchy of control groups without limits, this process in ``/a/b``, of eight cores and 8 GiB."""
    system = System(tmp_path)
    system.membership.write_text("12:cpu,cpuacct:/a/b\n0::/a/b\n")
    exists, read_text = Path.exists, Path.read_text

    def read(path: Path, *arguments: Any, **options: Any) -> str:
        return read_text(system.place(path), *arguments, **options)

    monkeypatch.setattr(Path, "exists", lambda path: exists(system.place(path)))
    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2 * 1024 * 1024}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__, raising=False)
    return system


V1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"a/b/cpu.max": "max 100000\n"}, 8),
        ({"a/b/cpu.max": "200000 100000\n"}, 2),
        ({"a/cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "300000 100000\n"}, 3),
        ({"a/b/cpu.max": "400000 100000", "a/cpu.max": "200000 100000", "cpu.max": "max 100000"}, 2),
        ({"a/b/c/cpu.max": "100000 100000\n"}, 8),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "200000 0\n"}, 8),
        ({"cpu.max": "garbage\n"}, 8),
        ({"cpu.max": ""}, 8),
        ({V1[0]: "300000\n", V1[1]: "100000\n"}, 3),
        ({V1[0]: "-1\n", V1[1]: "100000\n"}, 8),
        ({V1[0]: "300000\n"}, 8),
        ({"cpu.max": "garbage", V1[0]: "300000", V1[1]: "100000"}, 3),
    ],
)
def test_usable_cores_respect_a_quota(system: System, files: dict[str, str], cores: int) -> None:
    """The least quota of a control group this process is in counts, whole cores, at least one."""
    system.write(files)
    assert usable_cores() == cores


def test_usable_cores_without_control_groups(system: System) -> None:
    """Where the system has no control groups the cores it allows count."""
    system.membership.unlink()
    assert usable_cores() == 8


@pytest.mark.usefixtures("system")
@pytest.mark.parametrize(("found", "cores"), [(3, 3), (None, 1)])
def test_usable_cores_without_affinity(
    monkeypatch: pytest.MonkeyPatch, found: int | None, cores: int
) -> None:
    """Where the system tells no affinity all cores count, and one where it tells nothing."""
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: found)
    assert usable_cores() == cores


def test_usable_cores_of_this_machine() -> None:
    """This process may use at least one core and no more than there are."""
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


GIB = 1024 * 1024  # KiB


@pytest.mark.parametrize(
    ("files", "memory"),
    [
        ({}, 8 * GIB),
        ({"a/b/memory.max": "max\n"}, 8 * GIB),
        ({"a/b/memory.max": f"{2 * 1024**3}\n"}, 2 * GIB),
        ({"a/memory.max": f"{3 * 1024**3}\n", "a/b/memory.max": "max"}, 3 * GIB),
        ({"memory.max": f"{16 * 1024**3}\n"}, 8 * GIB),
        ({"a/b/c/memory.max": "4096\n"}, 8 * GIB),
        ({"memory.max": "garbage\n"}, 8 * GIB),
        ({"memory/memory.limit_in_bytes": f"{1024**3}\n"}, GIB),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * GIB),
        ({"memory/memory.limit_in_bytes": "-1\n"}, 8 * GIB),
        ({"memory.max": "garbage", "memory/memory.limit_in_bytes": f"{1024**3}"}, GIB),
    ],
)
def test_usable_memory_respects_a_limit(system: System, files: dict[str, str], memory: int) -> None:
    """The least limit of a control group this process is in counts, and what the machine has."""
    system.write(files)
    assert usable_memory_kib() == memory


def unknown(name: str) -> int:
    """Know no such name."""
    raise ValueError("unrecognized configuration name")


@pytest.mark.parametrize(
    "sysconf",
    [None, unknown, {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": -1}.__getitem__],
    ids=["absent", "unknown", "untold"],
)
def test_usable_memory_where_the_system_does_not_tell(
    system: System, monkeypatch: pytest.MonkeyPatch, sysconf: Callable[[str], int] | None
) -> None:
    """Without the machine's memory a control group's limit counts, and nothing is known without either."""
    if sysconf is None:
        monkeypatch.delattr(os, "sysconf")
    else:
        monkeypatch.setattr(os, "sysconf", sysconf)
    assert usable_memory_kib() == 0
    system.write({"memory.max": f"{1024**3}"})
    assert usable_memory_kib() == GIB
