"""Sections 1 and 2: challenges are read and written, and so are the reasons of a 401."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import MalformedFieldError, SearchCost, TunedDigestError, Tuning, Work
from tuned_digest._wire.challenge import Challenge, read_challenges, read_reason, write_challenge
from tuned_digest._wire.grammar import Dialect
from tuned_digest._wire.work import SCHEMES

from .strategies import actions, adversarial, costs, dialects, nonces, tunings

ARGON, SEARCH = SCHEMES
DEPLOYED = "tuned-digest-signature nonce=n;algorithm=$argon2d$v=19$m=8,t=1,p=1;actions=read"
ASYMMETRIC = "asym-tuned-digest-signature nonce=n;algorithm=blake3$1;actions=read"
UNSUPPORTED = "tuned-digest-signature nonce=n;algorithm=scrypt$1;actions=read"
QUICK = Tuning("argon2d", 8, 1, 1)
READ = frozenset({"read"})


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


def test_a_challenge_shows_no_nonce() -> None:
    """The repr of a challenge does not hold its nonce."""
    assert "secret0" not in repr(Challenge(ARGON, "secret0", str(QUICK), QUICK, READ))


def test_readers_share_one_root_error() -> None:
    """A malformed challenge is caught as the package's one root error."""
    with pytest.raises(TunedDigestError):
        read_challenges(["tuned-digest-signature nonce"])
