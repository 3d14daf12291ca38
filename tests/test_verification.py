"""Section 5 and section 10, step 2: identities and signatures, checked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import Ed25519Signer
from tuned_digest.errors import IdentityError, SignatureError
from tuned_digest.keys import verify_identity, verify_signature

from .curve import SIGN_BIT, P, encodings, small_order_points, x_of


@pytest.mark.parametrize("encoding", [code for point in small_order_points() for code in encodings(point)])
def test_points_of_small_order_are_refused(encoding: bytes) -> None:
    """None of the eight points of small order is an identity, in any of their encodings."""
    with pytest.raises(IdentityError, match=r"small order|not canonical"):
        verify_identity(encoding)


def test_there_are_eight_points_of_small_order() -> None:
    """The points refused are eight, and lenient readers know fourteen encodings of them."""
    points = small_order_points()
    assert len(points) == 8
    assert len({code for point in points for code in encodings(point)}) == 14


@given(st.integers(0, 2**256 - 1) | st.integers(0, 40) | st.integers(P - 20, P + 18))
def test_an_identity_is_a_canonical_point_of_large_order(number: int) -> None:
    """Of all 32-byte strings exactly the canonical points of large order are identities."""
    y = number % SIGN_BIT
    x = x_of(y) if y < P else None
    good = x is not None and (x, y) not in small_order_points() and (P - x, y) not in small_order_points()
    try:
        verify_identity(number.to_bytes(32, "little"))
    except IdentityError:
        assert not good
    else:
        assert good


@pytest.mark.parametrize("size", [0, 31, 33])
def test_an_identity_has_32_bytes(size: int) -> None:
    """A key of another size is refused."""
    with pytest.raises(IdentityError, match=f"32 bytes, not {size}"):
        verify_identity(bytes(size))


@pytest.mark.parametrize(("message", "size"), [(b"m", 63), (b"m", 65), (b"m", 0), (b"n", 64)])
def test_what_is_not_the_signature_is_refused(message: bytes, size: int) -> None:
    """Another message and a signature of another size are refused."""
    signer = Ed25519Signer.generate()
    signature = (signer.sign(b"m") + b"x")[:size]
    with pytest.raises(SignatureError):
        verify_signature(signer.public_key, message, signature)


def test_a_key_that_is_no_key_verifies_nothing() -> None:
    """A public key of another size is an identity error, and not a foreign one."""
    with pytest.raises(IdentityError):
        verify_signature(b"short", b"m", bytes(64))


@given(st.binary(max_size=40), st.binary(max_size=10), st.binary(max_size=70))
def test_a_signature_of_chance_is_refused(public_key: bytes, message: bytes, signature: bytes) -> None:
    """No bytes make the check of a signature raise anything but the package's errors."""
    with pytest.raises((IdentityError, SignatureError)):
        verify_signature(public_key, message, signature)
