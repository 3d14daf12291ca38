"""Sections 1 and 4: the work a server asks for, and a client's limits."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import (
    ArgumentError,
    LimitExceededError,
    Limits,
    SearchCost,
    Tuning,
    UnsupportedAlgorithmError,
    Work,
)
from tuned_digest._wire.work import KINDS, SCHEMES, parse_work, works_of
from tuned_digest.proof.argon2 import ACCESS_TUNING, CREATE_TUNING

from .strategies import adversarial, costs, tunings

QUICK = Tuning("argon2d", 64, 2, 1)


def test_the_deployed_tunings_are_those_of_the_protocol() -> None:
    """The defaults are the tunings that deployed servers ask for."""
    assert str(ACCESS_TUNING) == "$argon2d$v=19$m=65536,t=3,p=8"
    assert str(CREATE_TUNING) == "$argon2d$v=19$m=262144,t=5,p=8"


@given(tunings())
def test_a_written_tuning_reads_back(tuning: Tuning) -> None:
    """Every tuning RFC 9106 allows is written and read without loss, in challenges and in next nonces."""
    assert Tuning.parse(str(tuning)) == parse_work(tuning.scheme, str(tuning)) == tuning
    assert works_of({"argon": tuning.parameter_value}) == {tuning.scheme: tuning}
    assert tuning.scheme == SCHEMES[0]


@given(costs())
def test_a_written_cost_reads_back(cost: SearchCost) -> None:
    """Every cost is written and read without loss, in challenges and in next nonces."""
    assert SearchCost.parse(str(cost)) == parse_work(cost.scheme, str(cost)) == cost
    assert works_of({"blake3": cost.parameter_value}) == {cost.scheme: cost}
    assert cost.scheme == SCHEMES[1]


@pytest.mark.parametrize(
    "text",
    [
        "argon2d$v=19$m=8,t=1,p=1",
        "$argon2d$v=19$m=8,t=1,p=1$",
        "$argon2d$v=19$m=8,t=1,p=1\n",
        "$argon2d$v=16$m=8,t=1,p=1",
        "$argon2d$m=8,t=1,p=1",
        "$argon2x$v=19$m=8,t=1,p=1",
        "$Argon2d$v=19$m=8,t=1,p=1",
        "$argon2d$v=19$t=1,m=8,p=1",
        "$argon2d$v=19$m=8,t=1",
        "$argon2d$v=19$m=8, t=1,p=1",
        "$argon2d$v=19$m=08,t=1,p=1",
        "$argon2d$v=19$m=+8,t=1,p=1",
        "$argon2d$v=19$m=-8,t=1,p=1",
        "$argon2d$v=19$m=8,t=0,p=1",
        "$argon2d$v=19$m=8,t=1,p=0",
        "$argon2d$v=19$m=7,t=1,p=1",
        "$argon2d$v=19$m=15,t=1,p=2",
        "$argon2d$v=19$m=4294967296,t=1,p=1",
        "$argon2d$v=19$m=8,t=4294967296,p=1",
        "$argon2d$v=19$m=4294967295,t=1,p=16777216",
        "$argon2d$v=19$m=99999999999999999999,t=1,p=1",
        "$argon2d$v=19$m=\u0668,t=1,p=1",
        "$argon2d$v=19$m=8,t=1,p=1" + "0" * 5000,
        "blake3$1",
        "",
    ],
)
def test_any_other_tuning_is_unsupported(text: str) -> None:
    """What is not exactly the PHC form, in range, is unsupported; the error carries it whole."""
    with pytest.raises(UnsupportedAlgorithmError, match="is not supported") as caught:
        Tuning.parse(text)
    with pytest.raises(UnsupportedAlgorithmError):
        works_of({"argon": text})
    assert caught.value.algorithm == text
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["", "0", "33", "01", "+1", "-1", "1.0", "1 ", "\u0661", "x", "9" * 5000])
def test_any_other_cost_is_unsupported(text: str) -> None:
    """A cost is 1 to 32 in decimal, without sign or leading zero."""
    with pytest.raises(UnsupportedAlgorithmError):
        SearchCost.parse_parameter(text)
    with pytest.raises(UnsupportedAlgorithmError):
        works_of({"blake3": text})


@pytest.mark.parametrize("text", ["blake3", "blake3$", "$blake3$1", "BLAKE3$1", "blake3$1$", "$argon2d$v=19"])
def test_a_search_algorithm_is_blake3_and_a_cost(text: str) -> None:
    """The second scheme's algorithm is ``blake3$<cost>`` and nothing else."""
    with pytest.raises(UnsupportedAlgorithmError):
        parse_work(SCHEMES[1], text)


@given(st.sampled_from(SCHEMES), adversarial())
def test_reading_work_raises_nothing_foreign(scheme: str, text: str) -> None:
    """No text makes the reader of algorithms raise anything but an unsupported one."""
    with contextlib.suppress(UnsupportedAlgorithmError):
        assert str(parse_work(scheme, text)) == text


@given(st.dictionaries(st.sampled_from(("argon", "blake3", "nextnonce")), adversarial()))
def test_reading_next_nonces_parameters_raises_nothing_foreign(parameters: dict[str, str]) -> None:
    """No text makes the reader of a next nonce's work raise anything but an unsupported algorithm."""
    with contextlib.suppress(UnsupportedAlgorithmError):
        works = works_of(parameters)
        assert {work.parameter: work.parameter_value for work in works.values()} == {
            name: value for name, value in parameters.items() if name != "nextnonce"
        }


def test_the_kinds_of_work_are_listed_in_the_order_they_are_written() -> None:
    """Argon2 comes before the search (section 6), and each kind is found by its scheme."""
    assert list(KINDS) == list(SCHEMES) == [Tuning.scheme, SearchCost.scheme]
    assert list(works_of({"blake3": "1", "argon": str(QUICK)})) == list(SCHEMES)
    assert works_of({}) == {}


def test_only_the_search_is_for_browsers() -> None:
    """The fields for browsers repeat the kind of work that browsers do (sections 1 and 6)."""
    assert [kind.in_browsers for kind in KINDS.values()] == [False, True]


@pytest.mark.parametrize(
    ("work", "footprint", "is_quick"),
    [
        (Tuning("argon2d", 64, 8, 1), 64, True),
        (Tuning("argon2d", 64, 9, 1), 64, False),
        (Tuning("argon2d", 64, 1, 2), 64, False),
        (ACCESS_TUNING, 65536, False),
        (SearchCost(6), 0, True),
        (SearchCost(7), 0, False),
    ],
    ids=str,
)
def test_what_work_takes_of_a_machine(work: Work, footprint: int, is_quick: bool) -> None:
    """Argon2 takes its memory and a search none; what is done in 0.3 ms is quick."""
    assert (work.footprint_kib, work.is_quick) == (footprint, is_quick)


@pytest.mark.parametrize(
    ("variant", "memory", "passes", "lanes", "problem"),
    [
        ("argon2", 8, 1, 1, "not an Argon2 variant"),
        ("argon2d", 7, 1, 1, "memory for 1 lanes is 8 to"),
        ("argon2d", 2**32, 1, 1, "memory"),
        ("argon2d", 8, 0, 1, "passes"),
        ("argon2d", 8, 2**32, 1, "passes"),
        ("argon2d", 8, 1, 0, "lanes"),
        ("argon2d", 2**32 - 1, 1, 2**24, "lanes"),
    ],
)
def test_a_tuning_outside_rfc_9106_cannot_be_made(
    variant: str, memory: int, passes: int, lanes: int, problem: str
) -> None:
    """Argon2 parameters are held to RFC 9106's ranges."""
    with pytest.raises(ArgumentError, match=problem):
        Tuning(variant, memory, passes, lanes)  # type: ignore[arg-type]


@pytest.mark.parametrize("bits", [-1, 0, 33])
def test_a_cost_outside_its_range_cannot_be_made(bits: int) -> None:
    """A search cost is 1 to 32 bits."""
    with pytest.raises(ArgumentError, match="1 to 32 bits"):
        SearchCost(bits)


@pytest.mark.parametrize(
    ("work", "floor", "reaches"),
    [
        (QUICK, QUICK, True),
        (Tuning("argon2d", 65, 3, 1), QUICK, True),
        (Tuning("argon2d", 64, 2, 8), QUICK, True),
        (Tuning("argon2d", 63, 9, 1), QUICK, False),
        (Tuning("argon2d", 999, 1, 1), QUICK, False),
        (Tuning("argon2id", 64, 2, 1), QUICK, False),
        (SearchCost(32), QUICK, False),
        (SearchCost(3), SearchCost(3), True),
        (SearchCost(4), SearchCost(3), True),
        (SearchCost(2), SearchCost(3), False),
        (QUICK, SearchCost(1), False),
    ],
)
def test_work_is_compared_with_a_floor(work: Work, floor: Work, reaches: bool) -> None:
    """A floor is reached by the same algorithm with at least its memory and passes, or its bits."""
    assert work.reaches(floor) is reaches


@pytest.mark.parametrize(
    ("limits", "limit", "asked", "allowed"),
    [
        (Limits(max_memory_kib=63), "max_memory_kib", 64, 63),
        (Limits(max_passes=1), "max_passes", 2, 1),
        (Limits(max_lanes=1), "max_lanes", 2, 1),
        (Limits(max_work_kib=127), "max_work_kib", 128, 127),
    ],
)
def test_work_beyond_a_limit_is_refused(limits: Limits, limit: str, asked: int, allowed: int) -> None:
    """The error names the limit, what was asked, what is allowed and how to allow it."""
    with pytest.raises(LimitExceededError, match=rf"limits=Limits\({limit}={asked}\)") as caught:
        limits.check(Tuning("argon2d", 64, 2, 2))
    assert (caught.value.limit, caught.value.asked, caught.value.allowed) == (limit, asked, allowed)


def test_a_search_beyond_the_limit_is_refused() -> None:
    """A search is held to its bits, and work at a limit is allowed."""
    Limits(max_search_bits=4).check(SearchCost(4))
    with pytest.raises(LimitExceededError, match="5 bits"):
        Limits(max_search_bits=4).check(SearchCost(5))


@pytest.mark.parametrize("work", [ACCESS_TUNING, CREATE_TUNING, SearchCost(1), SearchCost(24)])
def test_the_default_limits_allow_deployed_work(work: Work) -> None:
    """A client with default limits can answer deployed servers."""
    Limits().check(work)


@pytest.mark.parametrize(
    "name", ["max_memory_kib", "max_passes", "max_lanes", "max_work_kib", "max_search_bits"]
)
def test_a_limit_is_positive(name: str) -> None:
    """A limit that would refuse everything is an error at once."""
    with pytest.raises(ArgumentError, match=f"{name} is at least 1"):
        Limits(**{name: 0})
