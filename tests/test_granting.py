"""Section 6: which responses bring next nonces, and how nonces are written."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tuned_digest._base64 import encode_base64
from tuned_digest._wire.challenge import NextNonceReader, read_challenges
from tuned_digest.server import MemoryNonceStore, Policy

from .driving import Server, fields_of, quick_policy
from .verifying import ARGON, SEARCH

Lines = Sequence[tuple[str, str]]


def numbered() -> Callable[[int], bytes]:
    """Give predictable randomness: 01 01 ..., 02 02 ..."""
    numbers = iter(range(1, 256))
    return lambda size: bytes([next(numbers)] * size)


def predictable(policy: Policy) -> Server:
    """Make a server whose nonces are known beforehand."""
    return Server(MemoryNonceStore(randomness=numbered()), policy=policy)


ONE, TWO = encode_base64(b"\1" * 32), encode_base64(b"\2" * 32)
REST = "read,update,delete,debug,proxy"


def test_next_nonces_are_written_as_section_6_shows_them() -> None:
    """First everything but creating, then creating, each under both schemes, then the repeated fields."""
    info, repeated = "Authentication-Info", "uno-authn-info"
    assert predictable(Policy.deployed()).grant_next() == (
        (info, f"nextnonce={ONE};argon=$argon2d$v=19$m=65536,t=3,p=8;scopes={REST}"),
        (info, f"nextnonce={ONE};blake3=1;scopes={REST}"),
        (info, f"nextnonce={TWO};argon=$argon2d$v=19$m=262144,t=5,p=8;scopes=create"),
        (info, f"nextnonce={TWO};blake3=1;scopes=create"),
        (repeated, f"nextnonce={ONE};blake3=1;scopes={REST}"),
        (repeated, f"nextnonce={TWO};blake3=1;scopes=create"),
    )


def test_a_policy_that_is_told_nothing_grants_argon2_alone() -> None:
    """Without a search there is nothing to repeat for browsers."""
    assert predictable(Policy()).grant_next() == (
        ("Authentication-Info", f"nextnonce={ONE};argon=$argon2d$v=19$m=65536,t=3,p=8;scopes={REST}"),
        ("Authentication-Info", f"nextnonce={TWO};argon=$argon2d$v=19$m=262144,t=5,p=8;scopes=create"),
    )


def test_a_challenge_is_written_as_section_1_shows_it() -> None:
    """The nonce is the base64 of 32 random bytes, and the asymmetric challenge is repeated."""
    asymmetric = f"asym-tuned-digest-signature nonce={ONE};algorithm=blake3$1;actions=read"
    assert predictable(Policy.deployed()).refusal("GET", "/", []).fields[:3] == (
        (
            "WWW-Authenticate",
            f"tuned-digest-signature nonce={ONE};algorithm=$argon2d$v=19$m=65536,t=3,p=8;actions=read",
        ),
        ("WWW-Authenticate", asymmetric),
        ("uno-www-authn", asymmetric),
    )


def test_the_list_dialect_is_written_where_it_is_set() -> None:
    """A server can be set to quoted auth-params, in challenges and in next nonces."""
    to = Server(dialect="list")
    challenges = fields_of(to.refusal("GET", "/", []).fields)("WWW-Authenticate")
    assert {one.dialect for one in read_challenges(challenges)} == {"list"}
    found, dropped = NextNonceReader().read(fields_of(to.grant_next())("Authentication-Info"))
    assert ([nonce.terms.dialect for nonce in found], dropped) == (["list", "list"], [])


def test_the_repeated_fields_can_be_switched_off() -> None:
    """Without ``repeat_fields`` only the standard's own field names are written."""
    to = Server(repeat_fields=False)
    names = {name for name, _ in (*to.refusal("GET", "/", []).fields, *to.grant_next())}
    assert names == {"WWW-Authenticate", "Cache-Control", "Content-Type", "Authentication-Info"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"create_cost": None}, [{ARGON, SEARCH}, {ARGON}]),
        ({"access": None}, [{SEARCH}, {ARGON, SEARCH}]),
    ],
)
def test_schemes_without_a_price_are_not_offered(options: dict[str, Any], expected: list[set[str]]) -> None:
    """A next nonce and a challenge name only the schemes that the policy prices."""
    to = Server(policy=quick_policy(**options))
    found, dropped = NextNonceReader().read(fields_of(to.grant_next())("Authentication-Info"))
    assert ([set(nonce.terms.works) for nonce in found], dropped) == (expected, [])
    offered = read_challenges(fields_of(to.refusal("GET", "/", []).fields)("WWW-Authenticate"))
    assert {challenge.scheme for challenge in offered} == expected[0]


def grants(status: int, lines: Lines) -> bool:
    """Tell whether a response brings next nonces; where it brings none, none may be issued."""
    to = Server()
    granted = bool(to.grant_next(status, fields=lines))
    assert ("issue" in to.story) is granted
    return granted


@pytest.mark.parametrize(
    ("status", "cache_control", "expected"),
    [
        (200, "", True),
        (204, "no-cache", True),
        (302, "max-age=60", True),
        (404, "", True),
        (403, "private", True),
        (499, "", True),
        (401, "", False),
        (500, "", False),
        (503, "private", False),
        (200, "public", False),
        (200, "Public, max-age=60", False),
        (200, "max-age=60,\ts-maxage=60", False),
        (200, "s-maxage = 60", False),
        (200, "must-revalidate", False),
        (200, "public, no-store", True),
        (200, "No-Store,public", True),
        (200, "public, private", True),
        (200, 'public, private="set-cookie"', False),
        (200, 'private, ext="public"', True),
        (200, 'ext="private, no-store", public', False),
        (200, 'ext="never closed, private, public', True),
        (200, "x-public, publicity", True),
        (200, "no-transform, PUBLIC", False),
    ],
)
def test_next_nonces_go_with_most_responses(status: int, cache_control: str, expected: bool) -> None:
    """None go with a 401, a 5xx or what a shared cache may keep (RFC 9111), and then none is issued."""
    assert grants(status, [("Cache-Control", cache_control)]) is expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("CDN-Cache-Control", "public")], False),
        ([("CDN-Cache-Control", "max-age=60")], True),
        ([("Surrogate-Control", "public")], False),
        ([("Surrogate-Control", "max-age=3600")], False),
        ([("Cache-Control", "public; max-age=60")], False),
        ([("surrogate-control", "PUBLIC, max-age=60")], False),
        ([("Surrogate-Control", 'content="ESI/1.0"')], True),
        ([("Cache-Control", "private"), ("CDN-Cache-Control", "public")], False),
        ([("Cache-Control", "no-store"), ("Surrogate-Control", "s-maxage=1")], False),
        ([("CDN-Cache-Control", "no-store"), ("Cache-Control", "public")], False),
        ([("CDN-Cache-Control", "public, no-store")], True),
        ([("Surrogate-Control", "private, public")], True),
        ([("Cache-Control", "public"), ("Cache-Control", "private")], True),
        ([("Cache-Control", "max-age=1"), ("Cache-Control", "public")], False),
        ([("X-Cache-Control", "public")], True),
    ],
)
def test_each_field_for_caches_counts(lines: Lines, expected: bool) -> None:
    """Private and no-store win within one field, all its lines together, and not over another field."""
    assert grants(200, lines) is expected
