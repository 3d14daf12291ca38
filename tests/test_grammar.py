"""Section 2: fields are cut into challenges, and challenges into parameters."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuned_digest import MalformedFieldError, TunedDigestError
from tuned_digest._wire.grammar import (
    Dialect,
    check_size,
    cut_challenges,
    cut_next_nonces,
    read_parameters,
    write_parameters,
)
from tuned_digest._wire.work import names_our_scheme

from .strategies import adversarial, dialects

OURS = "tuned-digest-signature"


@pytest.mark.parametrize(
    ("value", "challenges"),
    [
        ("Basic", ["basic"]),
        ("Basic, Negotiate", ["basic", "negotiate"]),
        ('Basic realm="a", tuned-digest-signature nonce=x', ["basic", OURS]),
        ('tuned-digest-signature nonce=x, Basic realm="a"', [OURS, "basic"]),
        ('Basic realm="a",\ttuned-digest-signature nonce=x,Digest realm = "b"', ["basic", OURS, "digest"]),
        ("Negotiate a2V5==, tuned-digest-signature nonce=x", ["negotiate", OURS]),
        ("tuned-digest-signature nonce=x, Negotiate a2V5==", [OURS, "negotiate"]),
        ("tuned-digest-signature nonce=x, Negotiate a2V5== , Basic", [OURS, "negotiate", "basic"]),
        ("Negotiate, tuned-digest-signature nonce=x", ["negotiate", OURS]),
        ("tuned-digest-signature nonce=x, NTLM", [OURS, "ntlm"]),
        ("tuned-digest-signature nonce=x,NTLM ,Basic realm=y", [OURS, "ntlm", "basic"]),
        ("tuned-digest-signature nonce=x;actions=read,update, Basic realm=y", [OURS, "basic"]),
        ("tuned-digest-signature nonce=x, actions=read, update, Debug", [OURS]),
        ("tuned-digest-signature actions=read, create x=1, proxy", [OURS]),
        ("tuned-digest-signature algorithm=$argon2d$v=19$m=8,t=1,p=1;nonce=x", [OURS]),
        ("tuned-digest-signature algorithm=a, t = 3 , p =8", [OURS]),
        ('Basic realm="a, tuned-digest-signature nonce=x"', ["basic"]),
        ('Basic realm = "a, tuned-digest-signature nonce=x"', ["basic"]),
        ('Basic realm="a\\", tuned-digest-signature nonce=x"', ["basic"]),
        ('Basic realm="never closed, tuned-digest-signature nonce=x', ["basic"]),
        ('Basic a"b, tuned-digest-signature nonce="x"', ["basic", OURS]),
        (" ,\t, Basic realm=x, ,, Digest realm=y,", ["basic", "digest"]),
        ("TUNED-Digest-Signature nonce=x", [OURS]),
        ('="x", tuned-digest-signature nonce=x', ["", OURS]),
        ("", [""]),
    ],
)
def test_challenges_are_cut_where_a_scheme_follows_a_comma(value: str, challenges: list[str]) -> None:
    """A comma outside quotes ends a challenge exactly when a scheme follows it."""
    assert [scheme for scheme, _ in cut_challenges(value)] == challenges


def test_a_cut_challenge_keeps_its_own_parameters() -> None:
    """Cutting hands each challenge the text between its scheme and the comma that ends it."""
    value = 'Digest realm="a, b", qop=auth, tuned-digest-signature nonce=x;actions=read,update, NTLM'
    assert [(scheme, text.strip()) for scheme, text in cut_challenges(value)] == [
        ("digest", 'realm="a, b", qop=auth'),
        (OURS, "nonce=x;actions=read,update"),
        ("ntlm", ""),
    ]


@pytest.mark.parametrize(
    ("value", "pieces"),
    [
        ("nextnonce=a;argon=b", ["nextnonce=a;argon=b"]),
        ("nextnonce=a;argon=b,nextnonce=c", ["nextnonce=a;argon=b", "nextnonce=c"]),
        ("nextnonce=a;argon=b , \tNextNonce =c", ["nextnonce=a;argon=b ", " \tNextNonce =c"]),
        ("nextnonce=a;scopes=read,update", ["nextnonce=a;scopes=read,update"]),
        ('qop="x, nextnonce=a", nextnonce=b', ['qop="x, nextnonce=a"', " nextnonce=b"]),
        ("nextnonce=a, xnextnonce=b, nextnoncex=c", ["nextnonce=a, xnextnonce=b, nextnoncex=c"]),
    ],
)
def test_next_nonces_are_cut_before_each_name(value: str, pieces: list[str]) -> None:
    """A merged field is cut where ``nextnonce=`` follows an unquoted comma."""
    assert list(cut_next_nonces(value)) == pieces


@pytest.mark.parametrize(
    ("text", "dialect", "values"),
    [
        ("a=1;b=2", "deployed", {"a": "1", "b": "2"}),
        ("a=1, b=2", "list", {"a": "1", "b": "2"}),
        ("a=1", "list", {"a": "1"}),
        ("a=1;", "deployed", {"a": "1"}),
        ("", "list", {}),
        ("algorithm=m=8,t=1,p=1;actions=read,update", "deployed", {"algorithm": "m=8,t=1,p=1"}),
        ("B=2;A=1", "deployed", {"a": "1", "b": "2"}),
        (" ;\ta = 1 ;; ; b\t=\t2 ;", "deployed", {"a": "1", "b": "2"}),
        (",, a = 1 , ,b=2,", "list", {"a": "1", "b": "2"}),
        ('a="1;2", b=3', "list", {"a": "1;2", "b": "3"}),
        ('a="1,2";b= "3"', "deployed", {"a": "1,2", "b": "3"}),
        (r'a="\"\\\x", b="y"', "list", {"a": '"\\x', "b": "y"}),
        ("a=b=c==", "list", {"a": "b=c=="}),
        ("actions=read, update,\tCREATE", "list", {"actions": "read,update,CREATE"}),
        ('actions="read", update', "list", {"actions": "read,update"}),
        ("scopes=read, update, a=1", "list", {"scopes": "read,update", "a": "1"}),
    ],
)
def test_parameters_are_read(text: str, dialect: Dialect, values: dict[str, str]) -> None:
    """Order, case, spaces, empty pieces and quotes do not change what parameters say."""
    parameters = read_parameters(text, "F")
    assert parameters.dialect == dialect
    assert {name: parameters.values[name] for name in values} == values


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a", "without ="),
        ("a=1;read", "without ="),
        ("actions=read;update", "without ="),
        ("a=1, read", "without ="),
        ("actions=read, other", "without ="),
        ("actions=read, a=1, update", "without ="),
        ("=1", "not a token"),
        ("a b=1", "not a token"),
        ('"a"=1', "not a token"),
        ("a=1;A=2", "a is repeated"),
        ("a=1, a=1", "a is repeated"),
        ("a=", "a is empty"),
        ('a="";b=1', "a is empty"),
        ("a= ,b=1", "a is empty"),
        ('a="1', "broken quoted string"),
        ('a="1\\"', "broken quoted string"),
        ('a="1"2', "broken quoted string"),
        ('a="1" 2, b=1', "broken quoted string"),
        ('a=1"2"', "quote inside"),
        ('a=1", b=2', "quote inside"),
    ],
)
def test_malformed_parameters_are_refused(text: str, problem: str) -> None:
    """What breaks the grammar is an error that names the field and what is wrong."""
    with pytest.raises(MalformedFieldError, match=f"^F: .*{problem}") as caught:
        read_parameters(text, "F")
    assert caught.value.field == "F"


@pytest.mark.parametrize("separator", [";", ", "])
def test_parameters_are_counted(separator: str) -> None:
    """Where so many parameters are allowed one more is malformed, and empty pieces do not count."""
    text = separator.join(["a=1", "", "b=2", ""])
    assert read_parameters(text, "F", most=2).values == {"a": "1", "b": "2"}
    with pytest.raises(MalformedFieldError, match=r"^F: more than 2 parameters$"):
        read_parameters(f"{text}{separator}c=3", "F", most=2)


def test_a_missing_parameter_is_malformed() -> None:
    """A parameter that must be there and is not is an error that names both."""
    with pytest.raises(MalformedFieldError, match=r"^F: nonce is missing$"):
        read_parameters("a=1", "F").require("nonce")


@pytest.mark.parametrize("nonce", ["A", "a" * 512, "Az09+/-_", "AA==", "AAA="])
def test_opaque_nonces_are_read(nonce: str) -> None:
    """A nonce is 1 to 512 characters of the two base64 alphabets, padding allowed."""
    assert read_parameters(f"nonce={nonce}", "F").nonce("nonce") == nonce


@pytest.mark.parametrize("nonce", ["a" * 513, "===", "=", "a=b", "a b", "a.b", "é", "a===", '"\\""'])
def test_impossible_nonces_are_refused(nonce: str) -> None:
    """A nonce over 512 characters or with another character is malformed."""
    parameters = read_parameters(f"nonce={nonce}", "F")
    with pytest.raises(MalformedFieldError, match="nonce is not 1 to 512 base64 characters"):
        parameters.nonce("nonce")


@pytest.mark.parametrize(
    ("text", "actions"),
    [
        ("read", {"read"}),
        ("read,update", {"read", "update"}),
        ("read:update delete,\tdebug", {"read", "update", "delete", "debug"}),
        ("READ, Create", {"read", "create"}),
        ("read,levitate", {"read"}),
        ("levitate", set()),
        (":,read,:", {"read"}),
    ],
)
def test_actions_are_read(text: str, actions: set[str]) -> None:
    """Actions are separated by commas, colons or spaces, and unknown ones are ignored."""
    assert read_parameters(f'actions="{text}"', "F").actions("actions") == actions


def test_octets_have_an_exact_size() -> None:
    """A parameter of another size than asked for is malformed."""
    parameters = read_parameters("a=AAAA", "F")
    assert parameters.octets("a", 3) == bytes(3)
    with pytest.raises(MalformedFieldError, match=r"^F: a has 3 bytes, not 4$"):
        parameters.octets("a", 4)


def test_a_field_has_16_kib_at_most() -> None:
    """A field of 16 KiB is read, and one of a character more is malformed."""
    check_size("x" * 16384, "F")
    with pytest.raises(MalformedFieldError, match=r"^F: over 16384 characters$"):
        check_size("x" * 16385, "F")


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        ("Tuned-Digest-Signature", True),
        ("x, ASYM-TUNED-DIGEST-SIGNATURE nonce=", True),
        ('Digest realm="a"', False),
        ("", False),
    ],
)
def test_a_field_that_names_no_scheme_of_ours_is_told_apart(value: str, ours: bool) -> None:
    """Our schemes are found in any letter case, anywhere in a field."""
    assert names_our_scheme(value) is ours


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9-]{0,8}", fullmatch=True),
        st.text("ABCabc019+/=$._-: ,", min_size=1).filter(lambda text: text == text.strip()),
        min_size=2,
    ),
    dialects(),
)
def test_written_parameters_read_back(parameters: dict[str, str], dialect: Dialect) -> None:
    """Reading what was written gives the same parameters, in the dialect they were written in."""
    read = read_parameters(write_parameters(parameters, dialect), "F")
    assert (read.values, read.dialect) == (parameters, dialect)


@given(adversarial())
def test_reading_parameters_raises_nothing_foreign(text: str) -> None:
    """No text makes the reader of parameters raise anything but the package's own error."""
    try:
        parameters = read_parameters(text, "F")
    except TunedDigestError:
        return
    assert all(value and name == name.lower() for name, value in parameters.values.items())


@given(adversarial())
def test_cutting_loses_nothing(value: str) -> None:
    """Pieces cut at ``nextnonce=`` joined with commas are the value again."""
    assert ",".join(cut_next_nonces(value)) == value


@given(adversarial())
def test_cut_challenges_are_parts_of_the_value(value: str) -> None:
    """Cutting any text gives at least one challenge: its scheme and its text are parts of it, in order."""
    challenges = list(cut_challenges(value))
    assert challenges
    rest = value
    for scheme, text in challenges:
        named = re.search(re.escape(scheme), rest, re.ASCII | re.IGNORECASE)
        assert named is not None
        rest = rest[named.end() :]
        rest = rest[rest.index(text) + len(text) :]
