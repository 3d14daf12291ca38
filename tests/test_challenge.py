"""Sections 1, 2 and 6: challenges and next nonces, read and written."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import MalformedFieldError, SearchCost, TunedDigestError, Tuning
from tuned_digest._grammar import SCHEMES, Dialect
from tuned_digest.challenge import (
    NEXT_NONCE_FIELDS,
    Challenge,
    read_challenges,
    read_next_nonces,
    read_reason,
    write_challenge,
    write_next_nonce,
)
from tuned_digest.tuning import Work

from .strategies import actions, adversarial, costs, dialects, nonces, tunings

ARGON, SEARCH = SCHEMES
DEPLOYED = "tuned-digest-signature nonce=n;algorithm=$argon2d$v=19$m=8,t=1,p=1;actions=read"
ASYMMETRIC = "asym-tuned-digest-signature nonce=n;algorithm=blake3$1;actions=read"
UNSUPPORTED = "tuned-digest-signature nonce=n;algorithm=scrypt$1;actions=read"
QUICK = Tuning("argon2d", 8, 1, 1)
READ = frozenset({"read"})


def next_nonce(nonce: str = "n", scopes: str = "read", algorithm: str = "blake3=1") -> str:
    """Write a next nonce with parts of one's own choice."""
    return f"nextnonce={nonce};{algorithm};scopes={scopes}"


def test_a_deployed_challenge_is_read() -> None:
    """A challenge of the deployed dialect gives its scheme, nonce, work and actions."""
    expected = Challenge(ARGON, "n", "$argon2d$v=19$m=8,t=1,p=1", QUICK, READ, "deployed")
    assert read_challenges([DEPLOYED]) == [expected]


def test_a_list_dialect_challenge_is_read() -> None:
    """A challenge of auth-params with quoted strings says the same, and in which dialect."""
    value = (
        'Tuned-Digest-Signature Actions="read", NONCE="n", algorithm="$argon2d$v=19$m=8,t=1,p=1", covers="x"'
    )
    expected = Challenge(ARGON, "n", "$argon2d$v=19$m=8,t=1,p=1", QUICK, READ, "list")
    assert read_challenges([value]) == [expected]


@pytest.mark.parametrize(
    "values",
    [
        [DEPLOYED, ASYMMETRIC],
        [f"{DEPLOYED}, {ASYMMETRIC}"],
        [f'Basic realm="a, b", {DEPLOYED},Negotiate a2V5==,{ASYMMETRIC}, NTLM'],
        ["Negotiate", DEPLOYED, 'Digest realm="x", nonce="y"', ASYMMETRIC],
        [
            DEPLOYED.upper().replace("ARGON2D$V", "argon2d$v").replace("M=8,T=1,P=1", "m=8,t=1,p=1"),
            ASYMMETRIC,
        ],
    ],
)
def test_challenges_are_found_among_others(values: list[str]) -> None:
    """Ours are found in several fields, in one, and in any position between other schemes."""
    assert [(challenge.scheme, challenge.work) for challenge in read_challenges(values)] == [
        (ARGON, QUICK),
        (SEARCH, SearchCost(1)),
    ]


@pytest.mark.parametrize(
    "value",
    [
        'Basic realm="a, tuned-digest-signature nonce=x"',
        'Digest nonce="x", opaque="tuned-digest-signature"',
        "Basic",
        "x" * 20000,
        'Digest realm="',
        ", ".join(["Basic"] * 40),
    ],
)
def test_fields_without_a_challenge_of_ours_are_left_alone(value: str) -> None:
    """What stands inside quotes, and what names no scheme of ours, is no business of ours."""
    assert read_challenges([value]) == []


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("tuned-digest-signature", "nonce is missing"),
        ("tuned-digest-signature nonce=n;actions=read", "algorithm is missing"),
        ("tuned-digest-signature nonce=n;algorithm=x", "actions is missing"),
        ("tuned-digest-signature nonce=;algorithm=x;actions=read", "nonce is empty"),
        ("tuned-digest-signature nonce=n;nonce=n;algorithm=x;actions=read", "nonce is repeated"),
        (f"tuned-digest-signature nonce={'n' * 513};algorithm=x;actions=read", "1 to 512"),
        (f"{DEPLOYED};{'x' * 16384}=1", "over 16384"),
        (", ".join([DEPLOYED] * 33), "more than 32"),
        (", ".join(["Basic"] * 32 + [DEPLOYED]), "more than 32"),
    ],
)
def test_a_malformed_challenge_of_ours_is_an_error(value: str, problem: str) -> None:
    """A challenge of ours that breaks the grammar or a limit raises, naming the field."""
    with pytest.raises(MalformedFieldError, match=f"^WWW-Authenticate: .*{problem}"):
        read_challenges([value])


def test_32_challenges_are_read() -> None:
    """The limit on challenges is 32, in however many fields."""
    assert len(read_challenges([f"{DEPLOYED}, {DEPLOYED}"] * 16)) == 32
    with pytest.raises(MalformedFieldError, match="more than 32"):
        read_challenges([DEPLOYED] * 33)


@pytest.mark.parametrize(
    ("values", "read"),
    [
        ([], [(SEARCH, SearchCost(1))]),
        (["Basic"], [(SEARCH, SearchCost(1))]),
        ([UNSUPPORTED], [(ARGON, None), (SEARCH, SearchCost(1))]),
        ([DEPLOYED], [(ARGON, QUICK)]),
        ([UNSUPPORTED, DEPLOYED], [(ARGON, None), (ARGON, QUICK)]),
    ],
)
def test_the_fallback_field_is_read_when_it_is_needed(
    values: list[str], read: list[tuple[str, Work | None]]
) -> None:
    """``uno-www-authn`` counts when ``WWW-Authenticate`` holds no challenge of ours or only unsupported."""
    challenges = read_challenges(values, [ASYMMETRIC])
    assert [(challenge.scheme, challenge.work) for challenge in challenges] == read


def test_an_error_in_the_fallback_field_names_it() -> None:
    """A malformed challenge in ``uno-www-authn`` is an error that names that field."""
    with pytest.raises(MalformedFieldError, match=r"^uno-www-authn: ") as caught:
        read_challenges([], ["asym-tuned-digest-signature nonce=n"])
    assert caught.value.field == "uno-www-authn"


@pytest.mark.parametrize(
    ("scheme", "algorithm"),
    [(ARGON, "blake3$1"), (SEARCH, "$argon2d$v=19$m=8,t=1,p=1"), (SEARCH, "blake3$0"), (ARGON, "x")],
)
def test_an_unknown_algorithm_is_unsupported_and_not_malformed(scheme: str, algorithm: str) -> None:
    """A well-formed challenge of an unknown algorithm is read, without work."""
    challenge = read_challenges([f"{scheme} nonce=n;algorithm={algorithm};actions=read"])[0]
    assert (challenge.work, challenge.algorithm) == (None, algorithm)


@given(nonces(), tunings() | costs(), actions(), dialects())
def test_a_written_challenge_reads_back(
    nonce: str, work: Work, scope: frozenset[str], dialect: Dialect
) -> None:
    """Writing a challenge and reading it is the identity, under both schemes and in both dialects."""
    challenge = Challenge(work.scheme, nonce, str(work), work, scope, dialect)
    assert read_challenges([write_challenge(challenge)]) == [challenge]


@given(
    st.lists(st.tuples(nonces(), costs(), actions(), dialects()), max_size=5), st.sampled_from((",", ", "))
)
def test_merged_challenges_read_back(
    written: list[tuple[str, SearchCost, frozenset[str], Dialect]], joint: str
) -> None:
    """Any number of written challenges merged into one value read back in order."""
    challenges = [
        Challenge(SEARCH, nonce, str(cost), cost, scope, form) for nonce, cost, scope, form in written
    ]
    assert read_challenges([joint.join(map(write_challenge, challenges))]) == challenges


def test_a_challenge_is_written_as_deployed_clients_match_it() -> None:
    """Nonce, algorithm and actions are contiguous, and actions in the protocol's order."""
    challenge = Challenge(ARGON, "n", str(QUICK), QUICK, frozenset({"create", "update"}))
    assert write_challenge(challenge) == (
        "tuned-digest-signature nonce=n;algorithm=$argon2d$v=19$m=8,t=1,p=1;actions=update,create"
    )


@given(st.lists(adversarial(), max_size=3), st.lists(adversarial(), max_size=3))
def test_reading_challenges_raises_nothing_foreign(values: list[str], fallback: list[str]) -> None:
    """No text makes the reader of challenges raise anything but a malformed field."""
    with contextlib.suppress(MalformedFieldError):
        challenges = read_challenges(values, fallback)
        assert all(challenge.scheme in SCHEMES and challenge.nonce for challenge in challenges)


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
        assert [(nonce.nonce, dict(nonce.works), nonce.scopes) for nonce in found] == [
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
    assert [(nonce.nonce, nonce.scopes) for nonce in found] == [("a", READ), ("b", {"create"})]
    assert dropped == []


def test_a_list_dialect_next_nonce_is_read() -> None:
    """Merged next nonces of quoted auth-params are read, and say their dialect."""
    value = (
        'nextnonce="a", argon="$argon2d$v=19$m=8,t=1,p=1", scopes="read,update", nextnonce="b", blake3=2, '
    )
    found, dropped = read_next_nonces([value + "scopes=read, create"])
    assert dropped == []
    assert [(nonce.nonce, nonce.scopes, nonce.dialect) for nonce in found] == [
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
    assert [dict(nonce.works) for nonce in found] == [{SEARCH: SearchCost(1)}]


def test_one_value_may_name_both_works() -> None:
    """A value with ``argon`` and ``blake3`` is a nonce under both schemes."""
    found, _ = read_next_nonces([next_nonce(algorithm=f"argon={QUICK};blake3=1")])
    assert [dict(nonce.works) for nonce in found] == [{ARGON: QUICK, SEARCH: SearchCost(1)}]


def test_32_next_nonces_are_read_from_a_field() -> None:
    """Values beyond the thirty-second are dropped, reported once, and the other field is still read."""
    found, dropped = read_next_nonces([next_nonce(f"a{n}") for n in range(40)], [next_nonce("b")])
    assert [nonce.nonce for nonce in found] == [*(f"a{n}" for n in range(32)), "b"]
    assert [drop.problem for drop in dropped] == ["Authentication-Info: more than 32 next nonces"]


@given(nonces(), tunings() | costs(), actions(), dialects())
def test_a_written_next_nonce_reads_back(
    nonce: str, work: Work, scopes: frozenset[str], dialect: Dialect
) -> None:
    """Writing a next nonce and reading it is the identity, in both dialects."""
    found, dropped = read_next_nonces([write_next_nonce(nonce, work, scopes, dialect)])
    assert dropped == []
    assert [(one.nonce, dict(one.works), one.scopes, one.dialect) for one in found] == [
        (nonce, {work.scheme: work}, scopes, dialect)
    ]


@given(st.lists(adversarial(), max_size=3), st.lists(adversarial(), max_size=3))
def test_reading_next_nonces_never_raises(values: list[str], repeated: list[str]) -> None:
    """No text makes the reader of next nonces raise: a bad one is dropped and reported."""
    found, dropped = read_next_nonces(values, repeated)
    assert all(nonce.nonce and nonce.works for nonce in found)
    assert {drop.field for drop in dropped} <= set(NEXT_NONCE_FIELDS)


@given(adversarial(), adversarial())
def test_a_good_next_nonce_survives_its_neighbours(before: str, after: str) -> None:
    """Whatever other field lines hold, a well-formed value of an unheard-of nonce is found."""
    found, _ = read_next_nonces([before, next_nonce("0only0here0"), after])
    assert "0only0here0" in [nonce.nonce for nonce in found]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"reason": "unknown nonce", "action": "read"}', "unknown nonce"),
        (b'{"action":"read","reason":"scope mismatch"}', "scope mismatch"),
        (b'{"reason" :\n "unknown nonce", action: }', "unknown nonce"),
        (b'"reason": "' + b"a" * 64 + b'"', "a" * 64),
        (b'"reason": "' + b"a" * 65 + b'"', ""),
        (b'{"reason": ""}', ""),
        (b'{"reason": "\xff"}', ""),
        (b'{"reason": 1}', ""),
        (b" " * 65536 + b'{"reason": "late"}', ""),
        (b"", ""),
    ],
)
def test_a_reason_is_found_in_any_body(body: bytes, reason: str) -> None:
    """A reason is found in JSON, also invalid JSON, within 64 KiB, and is empty where there is none."""
    assert read_reason(body) == reason


@given(
    st.binary() | st.text().map(str.encode) | adversarial().map(lambda text: f'"reason":"{text}"'.encode())
)
def test_reading_a_reason_never_raises(body: bytes) -> None:
    """No body makes the reader of reasons raise, and a reason is plain words."""
    assert set(read_reason(body)) <= set("abcdefghijklmnopqrstuvwxyz ")


def test_nonces_are_not_in_a_repr() -> None:
    """Neither a challenge nor a next nonce shows its nonce."""
    challenge = Challenge(ARGON, "secret0", str(QUICK), QUICK, READ)
    found, _ = read_next_nonces([next_nonce("secret0")])
    assert "secret0" not in repr(challenge) + repr(found)


def test_readers_share_one_root_error() -> None:
    """A malformed challenge is caught as the package's one root error."""
    with pytest.raises(TunedDigestError):
        read_challenges(["tuned-digest-signature nonce"])
