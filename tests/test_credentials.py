"""Section 5: the Authorization field, written and read."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import MalformedFieldError
from tuned_digest._base64 import encode_base64
from tuned_digest._wire.credentials import (
    Credentials,
    is_ours,
    nonce_of,
    read_credentials,
    write_credentials,
)
from tuned_digest._wire.grammar import Dialect
from tuned_digest._wire.work import SCHEMES

from .strategies import adversarial, dialects, nonces

ARGON, SEARCH = SCHEMES
IDENTITY, SIGNATURE = bytes(range(32)), bytes(range(64))


def made(
    scheme: str = ARGON, nonce: str = "n", response: str = "salt$hash", dialect: Dialect = "deployed"
) -> Credentials:
    """Make a credential."""
    return Credentials(scheme, IDENTITY, nonce, dialect, response, SIGNATURE)


OURS = write_credentials(made())


def test_the_deployed_dialect_is_written_as_the_protocol_shows_it() -> None:
    """Lower-case scheme, one space, semicolons without spaces, no quotes, this order."""
    expected = (
        f"tuned-digest-signature identity={encode_base64(IDENTITY)};nonce=n;response=salt$hash;"
        f"signature={encode_base64(SIGNATURE)}"
    )
    assert write_credentials(made()) == expected


@pytest.mark.parametrize(
    ("scheme", "written"),
    [(ARGON, "Tuned-Digest-Signature"), (SEARCH, "Asym-Tuned-Digest-Signature")],
)
def test_the_list_dialect_is_written_as_the_protocol_shows_it(scheme: str, written: str) -> None:
    """Capitalised scheme, quoted values, commas."""
    assert write_credentials(made(scheme, response="r", dialect="list")) == (
        f'{written} identity="{encode_base64(IDENTITY)}", nonce="n", response="r", '
        f'signature="{encode_base64(SIGNATURE)}"'
    )


@given(
    st.builds(
        Credentials,
        st.sampled_from(SCHEMES),
        st.binary(min_size=32, max_size=32),
        nonces(),
        dialects(),
        st.text("ABCabc019+/$_-", min_size=1),
        st.binary(min_size=64, max_size=64),
    )
)
def test_a_written_credential_reads_back(credentials: Credentials) -> None:
    """Writing a credential and reading it is the identity, in both dialects, and so is its nonce."""
    written = write_credentials(credentials)
    assert read_credentials([written]) == credentials
    assert nonce_of(written) == credentials.nonce


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
    assert read_credentials(values) is None


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
        read_credentials(values)


@pytest.mark.parametrize("name", ["identity", "nonce", "response", "signature"])
def test_every_parameter_is_needed(name: str) -> None:
    """A credential without one of its four parameters is malformed, and the error says which."""
    with pytest.raises(MalformedFieldError, match=f"{name} is missing") as caught:
        read_credentials([OURS.replace(f"{name}=", f"x{name}=")])
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
        ("nonce=n", "nonce=n;x=" + "x" * 8192, "over 8192"),
    ],
)
def test_a_malformed_credential_is_refused(old: str, new: str, problem: str) -> None:
    """Every parameter is held to its form."""
    with pytest.raises(MalformedFieldError, match=problem):
        read_credentials([OURS.replace(old, new)])


def test_credentials_have_8_kib_at_most() -> None:
    """A field of 8 KiB is read, and one of a character more is malformed."""
    padded = f"{OURS};x="
    padded += "x" * (8192 - len(padded))
    assert read_credentials([padded]) == made()
    with pytest.raises(MalformedFieldError, match=r"^Authorization: over 8192 characters$"):
        read_credentials([f"{padded}x"])


def test_the_lines_of_a_field_are_measured_together() -> None:
    """With a credential of ours in any line, all lines together have 8 KiB at most."""
    with pytest.raises(MalformedFieldError, match="over 8192"):
        read_credentials([OURS, "Basic " + "x" * (8192 - len(OURS))])


@pytest.mark.parametrize(("others", "is_read"), [(28, True), (29, False)])
@pytest.mark.parametrize("dialect", ["deployed", "list"])
def test_32_parameters_are_read(others: int, is_read: bool, dialect: Dialect) -> None:
    """Parameters that are not known are ignored, and more than 32 in all are malformed."""
    separator = ";" if dialect == "deployed" else ","
    value = write_credentials(made(dialect=dialect)) + separator
    value += separator.join(f"x{n}=1" for n in range(others))
    if is_read:
        assert read_credentials([value]) == made(dialect=dialect)
    else:
        with pytest.raises(MalformedFieldError, match="more than 32 parameters"):
            read_credentials([value])


@pytest.mark.parametrize("piece", [",", "a=,", '"', ";", '="', "\\", "a=1;", "a=1,", "a ", "=", " ", "x"])
def test_8_kib_of_one_piece_is_malformed(piece: str) -> None:
    """The longest credential there can be, made of one piece again and again, raises nothing foreign.

    How long reading them takes is measured by the benchmarks.
    """
    opening = f"{ARGON} "
    value = opening + piece * ((8192 - len(opening)) // len(piece))
    with pytest.raises(MalformedFieldError, match=r"^Authorization: "):
        read_credentials([value])
    assert read_credentials([f"Basic {value[len(opening) :]}"]) is None


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


def damaged() -> st.SearchStrategy[str]:
    """Draw a credential of ours with something put in the place of some of it."""
    places = st.integers(0, len(OURS))
    return st.builds(
        lambda start, size, text: OURS[:start] + text + OURS[start + size :],
        places,
        st.just(0) | places,
        adversarial(),
    )


@given(st.lists(adversarial() | damaged(), max_size=3))
def test_reading_credentials_raises_nothing_foreign(values: list[str]) -> None:
    """No text makes the reader of credentials raise anything but a malformed field."""
    with contextlib.suppress(MalformedFieldError):
        credentials = read_credentials(values)
        assert credentials is None or (len(credentials.identity), len(credentials.signature)) == (32, 64)


@pytest.mark.parametrize("value", [None, "", "Basic YTpi", f"{ARGON} nonce", f"{OURS}, {OURS}"])
def test_what_is_no_credential_has_no_nonce(value: str | None) -> None:
    """Where there is no credential of ours, or none that can be read, the nonce is empty."""
    assert nonce_of(value) == ""


@given(adversarial() | damaged())
def test_looking_for_a_nonce_never_raises(value: str) -> None:
    """The nonce of any text is that of the credential it holds, and empty where reading that is an error."""
    try:
        credentials = read_credentials([value])
    except MalformedFieldError:
        credentials = None
    assert nonce_of(value) == (credentials.nonce if credentials else "")


def test_a_credential_shows_no_nonce_response_or_signature() -> None:
    """The repr of a credential holds none of what must not be logged."""
    shown = repr(Credentials(ARGON, IDENTITY, "secret0", "deployed", "secret1", b"secret2"))
    assert "secret" not in shown
