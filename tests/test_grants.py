"""What a nonce is good for, written for stores that keep bytes, and read back."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, SearchCost
from tuned_digest.server import Grant

from .driving import ACCESS
from .strategies import actions, works
from .verifying import ARGON, SEARCH

PLAIN = b"1;next;read,update;argon=$argon2d$v=19$m=8,t=1,p=1;blake3=1"


def grants() -> st.SearchStrategy[Grant]:
    """Draw grants that a verifier makes."""
    return st.builds(Grant, works(), actions(), chained=st.booleans())


def test_a_grant_is_written_as_documented() -> None:
    """Version, kind, scope and work stand in this order, in ASCII."""
    both = Grant({ARGON: ACCESS, SEARCH: SearchCost(1)}, frozenset({"update", "read"}), chained=True)
    assert both.encode() == PLAIN
    assert Grant({SEARCH: SearchCost(32)}, frozenset({"create"}), chained=False).encode() == (
        b"1;challenge;create;blake3=32"
    )


@given(grants())
def test_a_written_grant_reads_back(grant: Grant) -> None:
    """Every grant is written and read without loss, in little space."""
    encoded = grant.encode()
    assert Grant.decode(encoded) == grant
    assert encoded.isascii()
    assert len(encoded) <= 256


@given(grants(), grants())
def test_two_grants_are_written_differently(one: Grant, two: Grant) -> None:
    """What is written says all that a nonce is good for."""
    assert (one.encode() == two.encode()) is (one == two)


def fragments() -> st.SearchStrategy[bytes]:
    """Draw bytes made of what grants are made of."""
    pieces = (
        *(b"1", b"2", b"next", b"challenge", b"read", b"update", b"create", b"levitate", b";", b",", b"="),
        *(
            b"argon=",
            b"$argon2d$v=19$m=8,t=1,p=1",
            b"blake3=",
            b"8",
            b"33",
            b"0",
            b" ",
            b"\n",
            b"\0",
            b"\xff",
        ),
    )
    return st.lists(st.sampled_from(pieces), max_size=20).map(b"".join)


def damaged() -> st.SearchStrategy[bytes]:
    """Draw a grant as written, with something put in the place of some of it."""
    places = st.integers(0, 60)
    return st.builds(
        lambda grant, start, size, put: grant.encode()[:start] + put + grant.encode()[start + size :],
        grants() | st.just(Grant.decode(PLAIN)),
        places,
        st.just(0) | places,
        fragments(),
    )


@given(st.binary(max_size=100) | fragments() | damaged())
def test_reading_a_grant_raises_nothing_foreign(encoded: bytes) -> None:
    """Any bytes are an argument error, or are exactly what their grant is written as."""
    with contextlib.suppress(ArgumentError):
        assert Grant.decode(encoded).encode() == encoded


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b";",
        b"1;next;read",
        b"1;next;read;",
        b"1;next;;blake3=1",
        b"2;next;read;blake3=1",
        b"01;next;read;blake3=1",
        b"1;later;read;blake3=1",
        b"1;Next;read;blake3=1",
        b"1;next;levitate;blake3=1",
        b"1;next;read,levitate;blake3=1",
        b"1;next;update,read;blake3=1",
        b"1;next;read,read;blake3=1",
        b"1;next;read,;blake3=1",
        b"1;next;read;blake3",
        b"1;next;read;blake3=0",
        b"1;next;read;blake3=33",
        b"1;next;read;blake3=1;blake3=1",
        b"1;next;read;blake3=1;blake3=2",
        b"1;next;read;blake3=1;argon=$argon2d$v=19$m=8,t=1,p=1",
        b"1;next;read;argon=1",
        b"1;next;read;md5=1",
        b"1;next;read;blake3=1;md5=1",
        b"1;next;read;blake3=1;",
        b"1;next;read;blake3=1\n",
        b"1;next;read;blake3=\xd9\xa1",
        PLAIN + b"0" * 512,
        PLAIN + bytes(2**20),
    ],
)
def test_what_is_no_grant_is_refused(encoded: bytes) -> None:
    """Bytes of another version, of another store or half-written ones are an argument error."""
    with pytest.raises(ArgumentError, match="not a grant of this version"):
        Grant.decode(encoded)


def test_a_grant_shows_what_it_is_good_for() -> None:
    """A grant holds no secret, and its repr says all of it."""
    prices, scope = {ARGON: ACCESS}, frozenset({"read"})
    shown = repr(Grant(prices, scope, chained=True))
    assert shown == f"Grant(prices={prices!r}, scope={scope!r}, chained=True)"
