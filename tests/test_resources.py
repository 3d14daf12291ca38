"""What a user may say of this process's resources, and what the work of one call may take."""

from typing import Any

import pytest

from tuned_digest import ArgumentError, Resources, WorkTimeoutError
from tuned_digest._client.settings import Budget

NUMBERS = ("max_concurrent", "memory_kib", "refusals_allowed", "spool_kib", "prime_above_kib")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: number}, f"{name} is at least 1") for name in NUMBERS for number in (0, -1)),
        *(({"work_timeout": seconds}, "work_timeout is more than 0") for seconds in (0, -0.5)),
        ({"prime_method": "TRACE"}, "a method that is signed, unlike 'TRACE'"),
        ({"prime_method": "CONNECT"}, "unlike 'CONNECT'"),
        ({"prime_path": ""}, "a path as on the wire, percent-encoded, unlike ''"),
        ({"prime_path": "a"}, "unlike 'a'"),
        ({"prime_method": "OPTIONS", "prime_path": "*"}, "unlike 'OPTIONS'"),
    ],
)
def test_resources_that_could_do_nothing_are_refused(options: dict[str, Any], message: str) -> None:
    """A process without places, memory or time, and a request that cannot be signed, are errors at once."""
    with pytest.raises(ArgumentError, match=message):
        Resources(**options)


def test_resources_have_defaults() -> None:
    """Without being told, a process uses its cores, allows ten refusals and primes above 1 MiB."""
    assert Resources() == Resources(
        max_concurrent=None,
        memory_kib=None,
        work_timeout=None,
        refusals_allowed=10,
        spool_kib=8192,
        spool_dir=None,
        prime_above_kib=1024,
        prime_method="HEAD",
        prime_path="/",
    )
    assert Resources(max_concurrent=1, spool_kib=1).max_concurrent == 1


@pytest.mark.parametrize(
    "options",
    [
        {"prime_path": "/caf\u00e9"},
        {"prime_path": "/a#b"},
        {"prime_path": "/a\r\nX: y"},
        {"prime_method": ""},
        {"prime_method": "A B"},
    ],
    ids=ascii,
)
def test_a_priming_request_that_cannot_be_sent_is_refused(options: dict[str, Any]) -> None:
    """A path or a method that no request can have is an error at once."""
    with pytest.raises(ArgumentError, match="priming"):
        Resources(**options)


@pytest.mark.parametrize("name", NUMBERS)
def test_one_is_enough(name: str) -> None:
    """The least of each number is one."""
    options: dict[str, Any] = {name: 1}
    assert getattr(Resources(**options), name) == 1


@pytest.mark.parametrize("name", ["max_concurrent", "memory_kib", "work_timeout", "refusals_allowed"])
def test_nothing_need_be_bounded(name: str) -> None:
    """Each bound can be left to the machine, or switched off, with None."""
    options: dict[str, Any] = {name: None}
    assert getattr(Resources(**options), name) is None


def test_a_budget_is_drawn_down() -> None:
    """What was spent is not there for the next piece of work."""
    budget = Budget(10.0)
    assert (budget.left, budget.draw()) == (10.0, 10.0)
    budget.spend(4.0)
    budget.spend(3.5)
    assert (budget.left, budget.draw()) == (2.5, 2.5)


@pytest.mark.parametrize("spent", [10.0, 10.5])
def test_nothing_is_drawn_from_a_budget_that_is_spent(spent: float) -> None:
    """No work begins without time, and the error says how much there was and how to allow more."""
    budget = Budget(10.0)
    budget.spend(spent)
    with pytest.raises(WorkTimeoutError, match=r"spent the 10 s .*work_timeout=") as raised:
        budget.draw()
    assert raised.value.seconds == 10.0


def test_a_budget_without_a_limit_is_never_spent() -> None:
    """Where no time is set, any amount may be spent."""
    budget = Budget(None)
    budget.spend(1e9)
    assert (budget.left, budget.draw()) == (None, None)
