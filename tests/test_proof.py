"""Section 4: the work, and its verification."""

import contextlib
from types import SimpleNamespace

import pytest
from argon2.low_level import Type, hash_secret_raw
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import ArgumentError, SearchCost, Tuning, Work
from tuned_digest._base64 import decode_base64, encode_base64
from tuned_digest.errors import ProofAbandonedError, ProofError, ProofNotFoundError
from tuned_digest.proof import Job, argon2, prove, search, verify
from tuned_digest.proof.argon2 import Variant, draw_salt

from .strategies import adversarial

QUICK = Tuning("argon2d", 8, 1, 1)
STRING = b"n:GET:/:digest"
SALT = bytes(range(16))


@pytest.mark.parametrize(
    ("variant", "kind"), [("argon2d", Type.D), ("argon2i", Type.I), ("argon2id", Type.ID)]
)
def test_a_response_is_salt_and_argon2_digest(variant: Variant, kind: Type) -> None:
    """The response is the salt and the 32-byte digest under exactly the tuning asked for."""
    salt, _, digest = prove(STRING, Tuning(variant, 16, 3, 2), nonce="n", salt=SALT).partition("$")
    assert decode_base64(salt, "F", "salt") == SALT
    assert decode_base64(digest, "F", "hash") == hash_secret_raw(STRING, SALT, 3, 16, 2, 32, kind, 19)


@pytest.mark.parametrize("size", [8, 48])
def test_salts_of_8_to_48_bytes_prove_and_verify(size: int) -> None:
    """The shortest and the longest salt allowed are accepted on both sides."""
    verify(STRING, QUICK, prove(STRING, QUICK, nonce="n", salt=bytes(size)), nonce="n")


@pytest.mark.parametrize("size", [0, 7, 49])
def test_other_salts_are_refused(size: int) -> None:
    """A shorter or longer salt cannot be proved with, and does not verify."""
    with pytest.raises(ArgumentError, match=f"8 to 48 bytes, not {size}"):
        prove(STRING, QUICK, nonce="n", salt=bytes(size))
    with pytest.raises(ProofError, match="impossible size"):
        verify(STRING, QUICK, f"{encode_base64(bytes(size))}${encode_base64(bytes(32))}", nonce="n")


@pytest.mark.parametrize(
    "response", ["", "$", "AAAA", "!$AAAA", "AAAA$!", f"{encode_base64(SALT)}$AAAA", "blake3$0$n", "a$b$c"]
)
def test_a_malformed_argon2_response_is_refused(response: str) -> None:
    """A response that is not ``b64(salt)$b64(hash)`` is a proof error and nothing else."""
    with pytest.raises(ProofError):
        verify(STRING, QUICK, response, nonce="n")


@pytest.mark.parametrize(
    ("string", "work"),
    [
        (STRING + b"x", QUICK),
        (STRING, Tuning("argon2i", 8, 1, 1)),
        (STRING, Tuning("argon2d", 16, 1, 1)),
        (STRING, Tuning("argon2d", 8, 2, 1)),
        (STRING, Tuning("argon2d", 16, 1, 2)),
    ],
)
def test_a_digest_of_something_else_is_refused(string: bytes, work: Tuning) -> None:
    """A response proves one string under one tuning."""
    response = prove(STRING, QUICK, nonce="n", salt=SALT)
    verify(STRING, QUICK, response, nonce="n")
    with pytest.raises(ProofError, match="not the digest of this request"):
        verify(string, work, response, nonce="n")


def test_a_salt_that_reads_as_a_search_is_drawn_again() -> None:
    """A salt whose base64 begins with ``blake3`` is not used."""
    unlucky = decode_base64("blake3" + "A" * 16, "F", "salt")
    drawn = iter([unlucky, unlucky, SALT])
    sizes: list[int] = []

    def randomness(size: int) -> bytes:
        sizes.append(size)
        return next(drawn)

    assert draw_salt(randomness) == SALT
    assert sizes == [16, 16, 16]


@pytest.mark.parametrize("bits", [1, 2, 5, 8])
def test_a_search_finds_the_smallest_number(bits: int) -> None:
    """The number found is the first whose digest starts with so many zero bits."""

    def zeros(n: int) -> int:
        return 32 - int.from_bytes(blake3(STRING + n.to_bytes(4, "little")).digest()[:4]).bit_length()

    smallest = next(n for n in range(2**16) if zeros(n) >= bits)
    assert prove(STRING, SearchCost(bits), nonce="n", salt=b"") == f"blake3${smallest}$n"


class Barren:
    """An engine that notes which numbers it is to try, and finds none that will do."""

    tries_per_piece = 2**29 + 1

    def __init__(self) -> None:
        self.tried: list[tuple[int, int]] = []

    def search(self, string: bytes, *, bits: int, first: int, end: int, job: Job) -> int | None:
        """Note a piece."""
        self.tried.append((first, end))
        return None


def test_a_search_that_finds_nothing_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """All numbers of 32 bits are tried once, piece by piece, and then the search raises."""
    barren = Barren()
    monkeypatch.setattr(search, "chosen", lambda: barren)
    with pytest.raises(ProofNotFoundError, match="no number below 4294967296 gives 32 zero bits"):
        prove(STRING, SearchCost(32), nonce="n", salt=b"")
    ends = [end for _, end in barren.tried]
    assert [first for first, _ in barren.tried] == [0, *ends[:-1]]
    assert ends[-1] == 2**32
    assert len(ends) == 8


def test_a_search_is_done_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever drives a search may leave it between two pieces, and nothing more is tried."""
    barren = Barren()
    monkeypatch.setattr(search, "chosen", lambda: barren)
    pieces = SearchCost(32).prove(STRING, nonce="n", salt=b"", job=Job())
    for count in (1, 2):
        next(pieces)
        assert len(barren.tried) == count
    pieces.close()
    assert len(barren.tried) == 2


def test_argon2_is_done_in_one_piece() -> None:
    """A digest cannot be put aside half-way."""
    pieces = QUICK.prove(STRING, nonce="n", salt=SALT, job=Job())
    with pytest.raises(StopIteration) as end:
        next(pieces)
    assert end.value.value == prove(STRING, QUICK, nonce="n", salt=SALT)


def test_the_job_given_stops_the_work() -> None:
    """What is given to `prove` reaches the search that it begins."""
    job = Job()
    job.cancel()
    with pytest.raises(ProofAbandonedError, match="nobody waits"):
        prove(STRING, SearchCost(32), nonce="n", salt=b"", job=job)


def test_the_job_given_reaches_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given to `verify` reaches the digest that it computes."""
    jobs: list[Job] = []

    def digest(string: bytes, salt: bytes, *, job: Job, **parameters: object) -> bytes:
        jobs.append(job)
        return bytes(32)

    monkeypatch.setattr(argon2, "chosen", lambda: SimpleNamespace(digest=digest))
    job = Job()
    verify(STRING, QUICK, f"{encode_base64(SALT)}${encode_base64(bytes(32))}", nonce="n", job=job)
    assert jobs == [job]


def test_any_number_that_will_do_verifies() -> None:
    """A verifier does not ask for the smallest number."""
    good = [n for n in range(100) if not blake3(STRING + n.to_bytes(4, "little")).digest()[0] & 0x80]
    for n in good:
        verify(STRING, SearchCost(1), f"blake3${n}$n", nonce="n")
    for n in set(range(100)) - set(good):
        with pytest.raises(ProofError, match="does not reach 1 zero bits"):
            verify(STRING, SearchCost(1), f"blake3${n}$n", nonce="n")


@pytest.mark.parametrize("n", [2**32 - 2, 2**32 - 1])
def test_the_largest_numbers_are_checked_and_not_refused_unseen(n: int) -> None:
    """Numbers up to 2**32 - 1 are taken for what their digest says."""
    reaches = not blake3(STRING + n.to_bytes(4, "little")).digest()[0] & 0x80
    expected = contextlib.nullcontext() if reaches else pytest.raises(ProofError, match="does not reach")
    with expected:
        verify(STRING, SearchCost(1), f"blake3${n}$n", nonce="n")


@pytest.mark.parametrize(
    "response",
    [
        "",
        "blake3$0",
        "blake3$0$",
        "blake3$0$m",
        "blake3$0$n$",
        "blake3$00$n",
        "blake3$+1$n",
        "blake3$-1$n",
        "blake3$4294967296$n",
        "blake3$99999999999$n",
        "blake3$\u0661$n",
        "blake3$0$n\n",
        "BLAKE3$0$n",
        "AAAA$AAAA",
    ],
)
def test_a_malformed_search_response_is_refused(response: str) -> None:
    """A response that is not ``blake3$n$nonce`` with this nonce is refused."""
    with pytest.raises(ProofError, match="not blake3"):
        verify(STRING, SearchCost(1), response, nonce="n")


@given(adversarial(), st.sampled_from((QUICK, SearchCost(2))))
def test_verifying_raises_nothing_foreign(response: str, work: Work) -> None:
    """No response makes verification raise anything but a proof error."""
    with pytest.raises(ProofError):
        verify(STRING, work, response, nonce="0nothing0draws0this0")


@given(st.binary(max_size=200), st.binary(min_size=8, max_size=48), st.integers(1, 8))
def test_what_is_proved_verifies(string: bytes, salt: bytes, bits: int) -> None:
    """Every response to any string verifies for it, under both kinds of work."""
    for work in (QUICK, SearchCost(bits)):
        verify(string, work, prove(string, work, nonce="A+/-_=", salt=salt), nonce="A+/-_=")
