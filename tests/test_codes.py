"""One-time codes: written for typing, read as typed, and kept as hashes."""

import string
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest.errors import EnrolmentError
from tuned_digest.server.accounts.codes import (
    HASHING,
    UNKNOWN_HASH,
    WrittenCode,
    check_secret,
    hash_secret,
    make_code,
    read_code,
)

CODE = WrittenCode("0123456789AB", "CDEFGHJKMNPQRSTV")
ANOTHER = "$argon2id$v=19$m=8,t=1,p=1$c29tZSBzYWx0$jOkRaZmVhCY"  # of another secret


class TestWriting:
    def test_groups(self) -> None:
        """A code is written in seven groups of four."""
        assert CODE.text == "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV"

    @given(st.binary(min_size=28, max_size=28))
    def test_round_trip(self, drawn: bytes) -> None:
        """Every code that is made is read as what it is, and has none of the letters I, L, O and U."""
        code = make_code(lambda size: drawn[:size])
        assert read_code(code.text) == code
        assert not set(code.text) & set("ILOU")
        assert (len(code.name), len(code.secret)) == (12, 16)

    def test_every_character_is_as_likely(self) -> None:
        """The 256 values of a byte make each of the 32 characters equally often."""
        octets = iter(list(range(256)) * 28)
        drawn = [make_code(lambda size: bytes(next(octets) for _ in range(size))) for _ in range(256)]
        times = Counter(character for code in drawn for character in code.name + code.secret)
        assert times == dict.fromkeys("0123456789ABCDEFGHJKMNPQRSTVWXYZ", 224)

    def test_repr(self) -> None:
        """The secret part is not in the repr, the name is."""
        assert CODE.secret not in repr(CODE)
        assert CODE.name in repr(CODE)


class TestReading:
    @pytest.mark.parametrize(
        "text",
        [
            "0123456789ABCDEFGHJKMNPQRSTV",
            "0123-4567-89ab-cdef-ghjk-mnpq-rstv",
            " 0123 4567 89AB CDEF GHJK MNPQ RSTV ",
            "0123\u20134567\u201189AB-CDEF\u00a0GHJK\tMNPQ-RSTV",
            "oi23-4567-89AB-CDEF-GHJK-MNPQ-RSTV",
            "Ol23-4567-89AB-CDEF-GHJK-MNPQ-RSTV",
        ],
    )
    def test_as_typed(self, text: str) -> None:
        """Letter case, dashes and spaces do not matter, and letters that look like digits are these."""
        assert read_code(text) == CODE

    @pytest.mark.parametrize(
        "text", ["", "-", CODE.text[:-1], CODE.text + "0", CODE.text.replace("Q", "U"), " " * 200 + CODE.text]
    )
    def test_no_code(self, text: str) -> None:
        """What cannot be a code is refused without a hash."""
        with pytest.raises(EnrolmentError, match="seven groups") as refused:
            read_code(text)
        assert refused.value.reason == "bad request"

    @given(st.text() | st.text(string.ascii_letters + string.digits + "-", min_size=28, max_size=40))
    def test_anything(self, text: str) -> None:
        """Any text is a code or an EnrolmentError that does not repeat it."""
        message = ""
        try:
            read_code(text)
        except EnrolmentError as error:
            message = str(error)
        assert len(text) < 8 or text not in message


class TestHashing:
    def test_right(self) -> None:
        """A secret is good for its own hash, and hashed with a salt each time."""
        first, second = hash_secret(CODE.secret), hash_secret(CODE.secret)
        check_secret(first, CODE.secret)
        assert first != second
        assert CODE.secret not in first

    @pytest.mark.parametrize("hashed", [ANOTHER, UNKNOWN_HASH, "", "$argon2id$", "junk"])
    def test_wrong(self, hashed: str) -> None:
        """Another secret's hash, the hash of none, and what is no hash are refused alike."""
        with pytest.raises(EnrolmentError) as refused:
            check_secret(hashed, CODE.secret)
        assert refused.value.reason == "code refused"
        assert CODE.secret not in str(refused.value)

    def test_cost(self) -> None:
        """Every hash has the parameters of OWASP's cheat sheet, the hash of no secret too."""
        parameters = "$argon2id$v=19$m=19456,t=2,p=1$"
        assert hash_secret(CODE.secret).startswith(parameters)
        assert UNKNOWN_HASH.startswith(parameters)
        assert str(HASHING).startswith(parameters[:-1])
