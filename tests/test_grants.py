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

PLAIN = bytes.fromhex("01 83 03 00 00000008 00000001 00000001 01")


def grants() -> st.SearchStrategy[Grant]:
    """Draw grants that a verifier makes."""
    return st.builds(Grant, works(), actions(), chained=st.booleans())


def test_a_grant_is_written_as_documented() -> None:
    """Version, kind and scope, schemes and work stand in this order."""
    both = Grant({ARGON: ACCESS, SEARCH: SearchCost(1)}, frozenset({"update", "read"}), chained=True)
    assert both.encode() == PLAIN
    written = Grant({SEARCH: SearchCost(32)}, frozenset({"create"}), chained=False).encode()
    assert written == bytes.fromhex("01 20 02 20")


@given(grants())
def test_a_written_grant_reads_back(grant: Grant) -> None:
    """Every grant is written and read without loss, in little space."""
    encoded = grant.encode()
    assert Grant.decode(encoded) == grant
    assert len(encoded) <= 32


@given(grants(), grants())
def test_two_grants_are_written_differently(one: Grant, two: Grant) -> None:
    """What is written says all that a nonce is good for."""
    assert (one.encode() == two.encode()) is (one == two)


def damaged() -> st.SearchStrategy[bytes]:
    """Draw a grant as written, with something put in the place of some of it."""
    places = st.integers(0, 20)
    return st.builds(
        lambda grant, start, size, put: grant.encode()[:start] + put + grant.encode()[start + size :],
        grants() | st.just(Grant.decode(PLAIN)),
        places,
        st.just(0) | places,
        st.binary(max_size=4),
    )


@given(st.binary(max_size=40) | damaged())
def test_reading_a_grant_raises_nothing_foreign(encoded: bytes) -> None:
    """Any bytes are an argument error, or are exactly what their grant is written as."""
    with contextlib.suppress(ArgumentError):
        assert Grant.decode(encoded).encode() == encoded


@pytest.mark.parametrize(
    "encoded",
    [
        b"",
        b"\x01",
        b"\x01\x81",
        b"\x01\x81\x00",
        b"\x01\x80\x02\x01",
        b"\x00\x81\x02\x01",
        b"\x02\x81\x02\x01",
        b"\x01\xc1\x02\x01",
        b"\x01\x81\x06\x01",
        b"\x01\x81\x02",
        b"\x01\x81\x02\x00",
        b"\x01\x81\x02\x21",
        b"\x01\x81\x02\x01\x01",
        b"1;next;read;blake3=1",
        PLAIN[:-1],
        PLAIN[:3] + b"\x03" + PLAIN[4:],
        PLAIN[:4] + b"\x00\x00\x00\x07" + PLAIN[8:],
        PLAIN + b"\x00",
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
    assert shown == f"Grant(prices={prices!r}, scope={scope!r}, chained=True, identity='')"
