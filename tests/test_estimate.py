"""How long work will take here: measured once, and scaled."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tuned_digest import SearchCost, Tuning, Work
from tuned_digest.proof import Job, estimate
from tuned_digest.proof.engines import Engine
from tuned_digest.proof.estimate import estimate_seconds

COSTS = (estimate._argon2_costs, estimate._seconds_per_try)


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    """A machine that was not measured yet, before and after."""
    for costs in COSTS:
        costs.cache_clear()
    yield
    for costs in COSTS:
        costs.cache_clear()


class Simulated:
    """An engine that takes 1 ns for a KiB, 2 ns for a KiB in a pass, and so long for a try.

    Args:
        per_try: Seconds for each number tried.
    """

    name = "simulated"

    def __init__(self, per_try: float) -> None:
        self.per_try = per_try
        self.now = 0.0
        self.samples: list[str] = []

    def digest(self, string: bytes, tuning: Tuning, salt: bytes, job: Job) -> bytes:
        """Take the time of a digest."""
        self.samples.append(str(tuning))
        self.now += tuning.memory_kib * (1e-9 + 2e-9 * tuning.passes)
        return bytes(32)

    def search(self, string: bytes, cost: SearchCost, candidates: int, job: Job) -> int | None:
        """Take the time of a search that finds nothing."""
        self.samples.append(str(cost))
        self.now += candidates * self.per_try
        return None

    def holds(self, string: bytes, cost: SearchCost, number: int) -> bool:
        """Accept nothing."""
        return False


def measure(monkeypatch: pytest.MonkeyPatch, working: Simulated) -> None:
    """Let estimates be made from a simulated engine, by its own clock, on two cores."""

    def choose() -> Engine:
        return working

    monkeypatch.setattr(estimate, "chosen", choose)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: working.now))
    monkeypatch.setattr(estimate, "usable_cores", lambda: 2)


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The samples done on a machine that takes 1 us for a try."""
    working = Simulated(1e-6)
    measure(monkeypatch, working)
    return working.samples


@pytest.mark.parametrize(
    ("work", "seconds"),
    [
        (Tuning("argon2d", 1_000_000, 1, 8), 0.003),
        (Tuning("argon2d", 1_000_000, 3, 8), 0.007),
        (Tuning("argon2d", 2_000_000, 3, 8), 0.014),
        (Tuning("argon2d", 1_000_000, 3, 2), 0.007),
        (Tuning("argon2d", 1_000_000, 3, 1), 0.014),
        (SearchCost(1), 2e-6),
        (SearchCost(20), 1.048576),
    ],
    ids=str,
)
def test_samples_are_scaled(worked: list[str], work: Work, seconds: float) -> None:
    """Memory costs with each pass and once, lanes that no core computes cost, a bit doubles a search."""
    assert estimate_seconds(work) == pytest.approx(seconds)


@pytest.mark.parametrize("work", [Tuning("argon2d", 8, 1, 1), SearchCost(1)], ids=str)
def test_a_machine_is_measured_once(worked: list[str], work: Work) -> None:
    """The second estimate does no work."""
    estimate_seconds(work)
    done = list(worked)
    estimate_seconds(work)
    assert worked == done
    assert len(done) == (2 if isinstance(work, Tuning) else 1)


@pytest.mark.parametrize("dearer", [Tuning("argon2d", 65536, 3, 8), SearchCost(12)], ids=str)
def test_this_machine_is_measured(dearer: Any) -> None:
    """An estimate on the machine of this test is positive, and larger for more work."""
    cheap: Work = Tuning("argon2d", 1024, 3, 8) if isinstance(dearer, Tuning) else SearchCost(4)
    assert 0 < estimate_seconds(cheap) < estimate_seconds(dearer)


@pytest.mark.parametrize(("per_try", "samples"), [(1e-6, 1), (1e-7, 4), (1e-9, 10)])
def test_a_fast_engine_is_given_more_to_search(
    monkeypatch: pytest.MonkeyPatch, per_try: float, samples: int
) -> None:
    """A sample too short for the clock to tell is followed by one of twice the tries."""
    working = Simulated(per_try)
    measure(monkeypatch, working)
    assert estimate_seconds(SearchCost(10)) == pytest.approx(per_try * 1024)
    assert len(working.samples) == samples
