"""Section 6: next nonces are read and written."""

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import NextNonce, SearchCost, Terms, Tuning, Work
from tuned_digest._wire.challenge import NEXT_NONCE_FIELDS, Dropped, NextNonceReader, write_next_nonce
from tuned_digest._wire.grammar import Dialect
from tuned_digest._wire.work import SCHEMES

from .strategies import actions, adversarial, dialects, nonces, works

ARGON, SEARCH = SCHEMES
QUICK = Tuning("argon2d", 8, 1, 1)
READ = frozenset({"read"})


def next_nonce(nonce: str = "n", scopes: str = "read", algorithm: str = "blake3=1") -> str:
    """Write a next nonce with parts of one's own choice."""
    return f"nextnonce={nonce};{algorithm};scopes={scopes}"


def read_next_nonces(
    values: list[str], repeated: list[str] | None = None
) -> tuple[list[NextNonce], list[Dropped]]:
    """Read next nonces with a reader that remembers nothing yet."""
    return NextNonceReader().read(values, repeated or [])


def test_next_nonces_of_the_protocol_text_are_read() -> None:
    """The four values of section 6 are two nonces, each under both schemes."""
    others = "read,update,delete,debug,proxy"
    values = [
        f"nextnonce=a;argon=$argon2d$v=19$m=65536,t=3,p=8;scopes={others}",
        f"nextnonce=a;blake3=1;scopes={others}",
        "nextnonce=b;argon=$argon2d$v=19$m=262144,t=5,p=8;scopes=create",
        "nextnonce=b;blake3=1;scopes=create",
    ]
    for arrived in (values, [", ".join(values)], [",".join(values)]):
        found, dropped = read_next_nonces(arrived)
        assert dropped == []
        assert [(nonce.nonce, dict(nonce.terms.works), nonce.terms.scopes) for nonce in found] == [
            (
                "a",
                {ARGON: Tuning("argon2d", 65536, 3, 8), SEARCH: SearchCost(1)},
                frozenset(others.split(",")),
            ),
            ("b", {ARGON: Tuning("argon2d", 262144, 5, 8), SEARCH: SearchCost(1)}, frozenset({"create"})),
        ]


def test_next_nonces_are_read_from_both_fields() -> None:
    """``uno-authn-info`` is always read too: it repeats nonces, or alone holds some."""
    found, dropped = read_next_nonces([next_nonce("a")], [next_nonce("a"), next_nonce("b", "create")])
    assert [(nonce.nonce, nonce.terms.scopes) for nonce in found] == [("a", READ), ("b", {"create"})]
    assert dropped == []


def test_a_list_dialect_next_nonce_is_read() -> None:
    """Merged next nonces of quoted auth-params are read, and say their dialect."""
    value = (
        'nextnonce="a", argon="$argon2d$v=19$m=8,t=1,p=1", scopes="read,update", nextnonce="b", blake3=2, '
    )
    found, dropped = read_next_nonces([value + "scopes=read, create"])
    assert dropped == []
    assert [(nonce.nonce, nonce.terms.scopes, nonce.terms.dialect) for nonce in found] == [
        ("a", frozenset({"read", "update"}), "list"),
        ("b", frozenset({"read", "create"}), "list"),
    ]


@pytest.mark.parametrize(
    "value",
    [
        'nextnonce="digest", qop=auth, rspauth="x", cnonce="y", nc=00000001',
        "nextnonce=a;scopes=read",
        'nextnonce="a", realm="x',
        'nextnonce="argon="',
        "",
        ",;,",
    ],
)
def test_values_without_argon_or_blake3_are_not_ours(value: str) -> None:
    """A value of another scheme is neither stored nor reported."""
    assert read_next_nonces([value]) == ([], [])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("blake3=1;scopes=read", "nextnonce is missing"),
        ("nextnonce=a;blake3=1", "scopes is missing"),
        ("nextnonce=a;blake3=1;scopes=", "scopes is empty"),
        ("nextnonce=a;blake3=1;blake3=1;scopes=read", "blake3 is repeated"),
        ("nextnonce=a;blake3=0;scopes=read", "not supported"),
        ("nextnonce=a;argon=blake3$1;scopes=read", "not supported"),
        (f"nextnonce={'a' * 513};blake3=1;scopes=read", "1 to 512"),
        ("nextnonce=a;blake3=1;scopes=read;" + "x" * 16384, "over 16384"),
        ('nextnonce="a, blake3=1;scopes=read', "broken quoted string"),
    ],
)
def test_a_malformed_next_nonce_is_dropped(value: str, problem: str) -> None:
    """A bad next nonce is reported with what was wrong, and the good ones beside it are kept."""
    found, dropped = read_next_nonces([value, next_nonce("good")])
    assert [nonce.nonce for nonce in found] == ["good"]
    assert [drop.field for drop in dropped] == ["Authentication-Info"]
    assert problem in dropped[0].problem


@pytest.mark.parametrize("times", [2, 3])
def test_two_values_of_one_nonce_that_differ_in_scope_are_both_dropped(times: int) -> None:
    """A nonce whose values disagree on its scope is not stored, whatever else repeats it."""
    values = [next_nonce("a"), next_nonce("a", "update"), next_nonce("a")][:times]
    found, dropped = read_next_nonces([*values, next_nonce("b")])
    assert [nonce.nonce for nonce in found] == ["b"]
    assert [drop.problem for drop in dropped] == [
        "Authentication-Info: two values of one nonce differ in scopes"
    ]


def test_a_disagreement_between_the_two_fields_drops_the_nonce() -> None:
    """Values of one nonce are held against each other across both fields."""
    found, dropped = read_next_nonces([next_nonce("a")], [next_nonce("a", "update")])
    assert (found, [drop.field for drop in dropped]) == ([], ["uno-authn-info"])


def test_the_first_of_two_works_of_one_nonce_counts() -> None:
    """A nonce that comes twice under one scheme keeps the work it came with first."""
    found, _ = read_next_nonces([next_nonce("a"), next_nonce("a", algorithm="blake3=9")])
    assert [dict(nonce.terms.works) for nonce in found] == [{SEARCH: SearchCost(1)}]


def test_one_value_may_name_both_works() -> None:
    """A value with ``argon`` and ``blake3`` is a nonce under both schemes."""
    found, _ = read_next_nonces([next_nonce(algorithm=f"argon={QUICK};blake3=1")])
    assert [dict(nonce.terms.works) for nonce in found] == [{ARGON: QUICK, SEARCH: SearchCost(1)}]


def test_32_next_nonces_are_read_from_a_field() -> None:
    """Values beyond the thirty-second are dropped, reported once, and the other field is still read."""
    found, dropped = read_next_nonces([next_nonce(f"a{n}") for n in range(40)], [next_nonce("b")])
    assert [nonce.nonce for nonce in found] == [*(f"a{n}" for n in range(32)), "b"]
    assert [drop.problem for drop in dropped] == ["Authentication-Info: more than 32 next nonces"]


@given(nonces(), works(), actions(), dialects(), st.sampled_from((None, ",", ", ")))
def test_a_written_next_nonce_reads_back(
    nonce: str, works: dict[str, Work], scopes: frozenset[str], dialect: Dialect, joint: str | None
) -> None:
    """Writing a next nonce and reading it is the identity, in both dialects, merged or not."""
    written = write_next_nonce(NextNonce(nonce, Terms(works, scopes, dialect)))
    assert [scheme for scheme, _ in written] == [scheme for scheme in SCHEMES if scheme in works]
    values = [value for _, value in written]
    found, dropped = read_next_nonces(values if joint is None else [joint.join(values)])
    assert dropped == []
    assert [described(one) for one in found] == [(nonce, works, scopes, dialect)]


class TestMemory:
    """What a reader remembers of what it has read."""

    def test_nonces_of_one_ending_share_their_terms(self) -> None:
        """A server's second response brings the terms of its first, and no copies of them."""
        reader = NextNonceReader()
        values = [[next_nonce(nonce), next_nonce(nonce, algorithm=f"argon={QUICK}")] for nonce in "ab"]
        (one,), (two,) = (reader.read(value)[0] for value in values)
        assert (one.nonce, two.nonce) == ("a", "b")
        assert one.terms is two.terms
        assert dict(one.terms.works) == {SEARCH: SearchCost(1), ARGON: QUICK}

    @given(
        st.lists(st.lists(adversarial() | st.builds(next_nonce), max_size=3), max_size=3),
        st.lists(adversarial() | st.builds(next_nonce), max_size=3),
    )
    def test_what_was_read_before_changes_nothing(self, before: list[list[str]], values: list[str]) -> None:
        """A response reads the same whatever the reader has read before, itself included."""
        reader = NextNonceReader()
        for earlier in [*before, values]:
            reader.read(earlier)
        (found, dropped), (fresh, fresh_dropped) = reader.read(values), read_next_nonces(values)
        assert [described(one) for one in found] == [described(one) for one in fresh]
        assert dropped == fresh_dropped

    def test_a_bad_ending_is_reported_each_time(self) -> None:
        """What was dropped once is dropped again, and said again."""
        reader = NextNonceReader()
        drops = [reader.read([next_nonce(algorithm="blake3=0")])[1] for _ in range(2)]
        assert drops[0] == drops[1] != []

    @pytest.mark.parametrize("is_pair", [False, True])
    def test_memory_is_bounded(self, is_pair: bool) -> None:
        """A server that writes another ending, or another pair of them, each time makes a reader forget."""
        reader = NextNonceReader()
        before = terms_alive()
        for passes in range(1, 2001):
            dear = next_nonce(algorithm=f"argon={Tuning('argon2d', 8, passes, 1)}")
            found, _ = reader.read([dear, next_nonce()] if is_pair else [dear])
            assert found[0].terms.works[ARGON] == Tuning("argon2d", 8, passes, 1)
        assert terms_alive() - before <= 1024


def terms_alive() -> int:
    """Count the terms in memory."""
    gc.collect()
    return sum(isinstance(thing, Terms) for thing in gc.get_objects())


def described(nonce: NextNonce) -> tuple[str, dict[str, Work], frozenset[str], Dialect]:
    """Say what a next nonce is: terms compare as objects."""
    terms = nonce.terms
    return nonce.nonce, dict(terms.works), terms.scopes, terms.dialect


@given(st.lists(adversarial(), max_size=3), st.lists(adversarial(), max_size=3))
def test_reading_next_nonces_never_raises(values: list[str], repeated: list[str]) -> None:
    """No text makes the reader of next nonces raise: a bad one is dropped and reported."""
    found, dropped = read_next_nonces(values, repeated)
    assert all(nonce.nonce and nonce.terms.works for nonce in found)
    assert {drop.field for drop in dropped} <= set(NEXT_NONCE_FIELDS)


@given(adversarial(), adversarial())
def test_a_good_next_nonce_survives_its_neighbours(before: str, after: str) -> None:
    """Whatever other field lines hold, a well-formed value of an unheard-of nonce is found."""
    found, _ = read_next_nonces([before, next_nonce("0only0here0"), after])
    assert "0only0here0" in [nonce.nonce for nonce in found]


def test_a_next_nonce_shows_no_nonce() -> None:
    """The repr of a next nonce does not hold the nonce, and that of its terms says what it is good for."""
    found, _ = read_next_nonces([next_nonce("secret0")])
    assert "secret0" not in repr(found) + str(found[0])
    assert "read" in repr(found)
