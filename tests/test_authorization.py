"""Section 5: the Authorization field, written and read."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import MalformedFieldError
from tuned_digest._grammar import SCHEMES, encode_base64
from tuned_digest.authorization import Authorization, is_ours, read_authorization

from .strategies import adversarial, dialects, nonces

IDENTITY, SIGNATURE = bytes(range(32)), bytes(range(64))
OURS = str(Authorization(SCHEMES[0], IDENTITY, "n", "salt$hash", SIGNATURE))


def test_the_deployed_dialect_is_written_as_the_protocol_shows_it() -> None:
    """Lower-case scheme, one space, semicolons without spaces, no quotes, this order."""
    expected = (
        f"tuned-digest-signature identity={encode_base64(IDENTITY)};nonce=n;response=salt$hash;"
        f"signature={encode_base64(SIGNATURE)}"
    )
    assert str(Authorization(SCHEMES[0], IDENTITY, "n", "salt$hash", SIGNATURE)) == expected


@pytest.mark.parametrize(
    ("scheme", "written"),
    [(SCHEMES[0], "Tuned-Digest-Signature"), (SCHEMES[1], "Asym-Tuned-Digest-Signature")],
)
def test_the_list_dialect_is_written_as_the_protocol_shows_it(scheme: str, written: str) -> None:
    """Capitalised scheme, quoted values, commas."""
    assert str(Authorization(scheme, IDENTITY, "n", "r", SIGNATURE, "list")) == (
        f'{written} identity="{encode_base64(IDENTITY)}", nonce="n", response="r", '
        f'signature="{encode_base64(SIGNATURE)}"'
    )


@given(
    st.builds(
        Authorization,
        st.sampled_from(SCHEMES),
        st.binary(min_size=32, max_size=32),
        nonces(),
        st.text("ABCabc019+/$_-", min_size=1),
        st.binary(min_size=64, max_size=64),
        dialects(),
    )
)
def test_a_written_credential_reads_back(credential: Authorization) -> None:
    """Writing a credential and reading it is the identity, in both dialects."""
    assert read_authorization([str(credential)]) == credential


@pytest.mark.parametrize(
    "values",
    [
        [],
        ["Basic YTpi"],
        ["Basic YTpi", "Bearer x"],
        ['Digest username="tuned-digest-signature", nonce="x"'],
        ['Digest username="a, tuned-digest-signature nonce=x"'],
        ["Basic " + "x" * 20000],
        [""],
        ["not-tuned-digest-signature nonce=x"],
    ],
)
def test_no_credential_of_ours_is_none(values: list[str]) -> None:
    """No field, or another scheme's, is no credential and no error."""
    assert read_authorization(values) is None


@pytest.mark.parametrize(
    "values",
    [
        [OURS, OURS],
        [f"{OURS}, {OURS}"],
        [OURS, "Basic YTpi"],
        ["Basic YTpi", OURS],
        [f"Basic YTpi, {OURS}"],
        [f"{OURS}, Negotiate"],
        [OURS, ""],
    ],
)
def test_a_second_credential_is_refused(values: list[str]) -> None:
    """A credential of ours beside another, in one field or two, is malformed."""
    with pytest.raises(MalformedFieldError, match="more than one credential"):
        read_authorization(values)


@pytest.mark.parametrize("name", ["identity", "nonce", "response", "signature"])
def test_every_parameter_is_needed(name: str) -> None:
    """A credential without one of its four parameters is malformed, and the error says which."""
    with pytest.raises(MalformedFieldError, match=f"{name} is missing") as caught:
        read_authorization([OURS.replace(f"{name}=", f"x{name}=")])
    assert caught.value.field == "Authorization"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("identity=", "identity=AAAA", "identity has 35 bytes, not 32"),
        ("signature=", "signature=AAAA", "signature has 67 bytes, not 64"),
        ("signature=", "signature=!", "signature is not base64"),
        ("nonce=n", "nonce=n.n", "base64 characters"),
        ("salt$hash", "salt$h\u00e4sh", "not ASCII"),
        ("salt$hash", "", "response is empty"),
        ("nonce=n", "nonce=n;nonce=n", "nonce is repeated"),
        ("nonce=n", "nonce", "without ="),
        ("nonce=n", "nonce=n;x=" + "x" * 16384, "over 16384"),
    ],
)
def test_a_malformed_credential_is_refused(old: str, new: str, problem: str) -> None:
    """Every parameter is held to its form."""
    with pytest.raises(MalformedFieldError, match=problem):
        read_authorization([OURS.replace(old, new)])


def test_a_field_over_the_limit_beside_ours_is_refused() -> None:
    """With a credential of ours in any line, every line is held to 16 KiB."""
    with pytest.raises(MalformedFieldError, match="over 16384"):
        read_authorization([OURS, "Basic " + "x" * 16384])


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        (OURS, True),
        (f" {OURS.upper()}", True),
        ("ASYM-Tuned-Digest-Signature", True),
        ("Basic tuned-digest-signature", False),
        ("tuned-digest-signatures nonce=x", False),
        ("", False),
    ],
)
def test_a_credential_of_ours_is_told_from_others(value: str, ours: bool) -> None:
    """A field value is ours by its scheme, in any letter case."""
    assert is_ours(value) is ours


@given(st.lists(adversarial(), max_size=3))
def test_reading_credentials_raises_nothing_foreign(values: list[str]) -> None:
    """No text makes the reader of credentials raise anything but a malformed field."""
    with contextlib.suppress(MalformedFieldError):
        credential = read_authorization(values)
        assert credential is None or len(credential.identity) == 32


def test_a_credential_shows_no_nonce_response_or_signature() -> None:
    """The repr of a credential holds none of what must not be logged."""
    shown = repr(Authorization(SCHEMES[0], IDENTITY, "secret0", "secret1", b"secret2"))
    assert "secret" not in shown
