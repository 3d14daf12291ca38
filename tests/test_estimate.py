"""How long work will take here: measured once, and scaled."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tuned_digest import SearchCost, Tuning, Work
from tuned_digest.errors import ProofNotFoundError
from tuned_digest.proof import estimate
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


@pytest.fixture
def worked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The samples done on a machine that takes 1 ns for a KiB, 2 ns for a KiB in a pass, 1 us for a try."""
    done: list[str] = []
    now = 0.0

    def digest(string: bytes, tuning: Tuning, salt: bytes) -> str:
        nonlocal now
        done.append(str(tuning))
        now += tuning.memory_kib * (1e-9 + 2e-9 * tuning.passes)
        return ""

    def search(string: bytes, cost: SearchCost, nonce: str, *, candidates: int) -> str:
        nonlocal now
        done.append(str(cost))
        now += candidates * 1e-6
        raise ProofNotFoundError("none")

    monkeypatch.setattr(estimate, "argon2_response", digest)
    monkeypatch.setattr(estimate, "search_response", search)
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(estimate, "usable_cores", lambda: 2)
    return done


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


def test_a_sample_that_finds_something_is_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample search that ends early by luck still gives an estimate."""
    monkeypatch.setattr(estimate, "_RARE", SearchCost(1))
    assert estimate_seconds(SearchCost(4)) > 0
