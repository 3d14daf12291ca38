"""How long work will take here: measured once, and scaled."""

import importlib.util
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from tuned_digest import SearchCost, Tuning, Work
from tuned_digest.proof import Job


class Simulated:
    """An engine that takes 1 ns for a KiB, 2 ns for a KiB in a pass, and so long for a try.

    Args:
        per_try: Seconds for each number tried.
    """

    name = "simulated"
    tries_per_piece = 65536

    def __init__(self, per_try: float) -> None:
        self.per_try = per_try
        self.now = 0.0
        self.samples = 0

    def digest(
        self, string: bytes, salt: bytes, *, variant: str, memory_kib: int, passes: int, lanes: int, job: Job
    ) -> bytes:
        """Take the time of a digest."""
        self.samples += 1
        self.now += memory_kib * (1e-9 + 2e-9 * passes)
        return bytes(32)

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Take the time of a search that finds nothing."""
        self.samples += 1
        self.now += (end - first) * self.per_try
        return None

    def holds(self, string: bytes, number: int, *, bits: int) -> bool:
        """Accept nothing."""
        return False


def unmeasured(kind: type[Work], working: Simulated) -> Any:
    """Load one kind of work once more, for a simulated engine by its own clock on two cores."""
    spec = importlib.util.find_spec(kind.__module__)
    assert spec is not None
    assert spec.loader is not None
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    simulation = {
        "chosen": lambda: working,
        "time": SimpleNamespace(perf_counter=lambda: working.now),
        "usable_cores": lambda: 2,
    }
    for name, value in simulation.items():
        setattr(module, name, value)
    return getattr(module, kind.__name__)


@pytest.mark.parametrize(
    ("memory_kib", "passes", "lanes", "seconds"),
    [
        (1_000_000, 1, 8, 0.003),
        (1_000_000, 3, 8, 0.007),
        (2_000_000, 3, 8, 0.014),
        (1_000_000, 3, 2, 0.007),
        (1_000_000, 3, 1, 0.014),
    ],
)
def test_samples_of_argon2_are_scaled(memory_kib: int, passes: int, lanes: int, seconds: float) -> None:
    """Memory costs with each pass and once, and lanes that no core computes cost time."""
    tuning = unmeasured(Tuning, Simulated(1e-6))("argon2d", memory_kib, passes, lanes)
    assert tuning.estimate() == pytest.approx(seconds)


@pytest.mark.parametrize(("bits", "seconds"), [(1, 2e-6), (20, 1.048576), (32, 4294.967296)])
def test_samples_of_a_search_are_scaled(bits: int, seconds: float) -> None:
    """A bit doubles a search."""
    assert unmeasured(SearchCost, Simulated(1e-6))(bits).estimate() == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("kind", "arguments", "samples"),
    [(Tuning, ("argon2d", 8, 1, 1), 2), (SearchCost, (1,), 1)],
    ids=["argon2", "search"],
)
def test_a_machine_is_measured_once(kind: type[Work], arguments: tuple[Any, ...], samples: int) -> None:
    """The second estimate does no work."""
    working = Simulated(1e-6)
    work = unmeasured(kind, working)(*arguments)
    first = work.estimate()
    assert working.samples == samples
    assert work.estimate() == first
    assert working.samples == samples


@pytest.mark.parametrize(
    ("cheap", "dear"),
    [
        (Tuning("argon2d", 1024, 3, 8), Tuning("argon2d", 65536, 3, 8)),
        (SearchCost(4), SearchCost(12)),
    ],
    ids=["argon2", "search"],
)
def test_this_machine_is_measured(cheap: Work, dear: Work) -> None:
    """An estimate on the machine of this test is positive, and larger for more work."""
    assert 0 < cheap.estimate() < dear.estimate()


@pytest.mark.parametrize(("per_try", "samples"), [(1e-6, 1), (1e-7, 4), (1e-9, 10), (1e-15, 13)])
def test_a_fast_engine_is_given_more_to_search(per_try: float, samples: int) -> None:
    """A sample too short for the clock to tell is followed by one of twice the tries, up to a limit."""
    working = Simulated(per_try)
    assert unmeasured(SearchCost, working)(10).estimate() == pytest.approx(per_try * 1024)
    assert working.samples == samples
