"""Section 8: base64 is written in one way and read in either alphabet."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import MalformedFieldError, TunedDigestError
from tuned_digest._base64 import decode_base64, encode_base64

from .strategies import adversarial


@given(st.binary())
def test_base64_reads_back(octets: bytes) -> None:
    """Bytes read back from either alphabet, with padding and without."""
    assert decode_base64(encode_base64(octets), "F", "a") == octets
    assert decode_base64(base64.b64encode(octets).decode(), "F", "a") == octets
    assert decode_base64(base64.urlsafe_b64encode(octets).decode(), "F", "a") == octets
    assert decode_base64(base64.urlsafe_b64encode(octets).decode().rstrip("="), "F", "a") == octets


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A", "the length is impossible"),
        ("AAAAA", "the length is impossible"),
        ("A=", "the length is impossible"),
        ("AA=", "the length is impossible"),
        ("AAA==", "the length is impossible"),
        ("AAAA=", "the length is impossible"),
        ("AAAA==", "the length is impossible"),
        ("==", "the length is impossible"),
        ("AB", "trailing bits are not zero"),
        ("AAB=", "trailing bits are not zero"),
        ("A===", "not base64"),
        ("+-AA", "not base64"),
        ("AA A", "not base64"),
        ("AA\n==", "not base64"),
        ("AAAA\n", "not base64"),
        ("A*AA", "not base64"),
        ("AA==AA", "not base64"),
        ("éAAA", "not base64"),
    ],
)
def test_base64_that_is_not_canonical_is_refused(text: str, problem: str) -> None:
    """Foreign characters, impossible lengths and non-zero trailing bits are malformed."""
    with pytest.raises(MalformedFieldError, match=f"^F: a is .*{problem}"):
        decode_base64(text, "F", "a")


@given(adversarial())
def test_two_texts_of_one_alphabet_never_decode_alike(text: str) -> None:
    """Whatever decodes is the one unpadded spelling of its bytes in its alphabet."""
    try:
        octets = decode_base64(text, "F", "a")
    except TunedDigestError:
        return
    assert text.rstrip("=").replace("-", "+").replace("_", "/") == encode_base64(octets)
