"""Header-field reading: challenges, parameters, size limits (section 2).

The rules, in the order they are applied to one field value:

* a quote opens only after ``=``; nothing inside quotes separates anything;
* an unquoted comma ends a challenge when a scheme follows it;
* inside a challenge ``;`` separates parameters if one stands there unquoted, otherwise ``,`` does.

Reading takes time linear in the value's length (every pattern below is free of backtracking) and
raises `MalformedFieldError` alone.
"""

from __future__ import annotations

__all__ = [
    "ACTIONS",
    "CHALLENGE_LIMIT",
    "FIELD_LIMIT",
    "NONCE_LIMIT",
    "Dialect",
    "Parameters",
    "check_size",
    "cut_challenges",
    "cut_next_nonces",
    "read_parameters",
    "write_parameters",
]

import re
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Literal

from .._base64 import decode_base64
from ..errors import MalformedFieldError

Dialect = Literal["deployed", "list"]

ACTIONS = ("read", "update", "delete", "debug", "proxy", "create")
"""The actions of the protocol, in the order in which scopes are written (section 6)."""

# Section 2, "Limits".
FIELD_LIMIT = 16 * 1024  # characters
CHALLENGE_LIMIT = 32
NONCE_LIMIT = 512  # characters

_SHOWN = 40  # characters of a name that an error repeats

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"  # RFC 9110 section 5.6.2
_TOKEN68 = r"[A-Za-z0-9._~+/-]++=*+"  # RFC 9110 section 11.2

# A quoted string after "=", closed or running to the end, or a run of one unquoted separator.
_STRUCTURE = {
    separator: re.compile(rf'=[ \t]*+"(?:[^"\\]|\\.)*+"?+|{separator}(?:[ \t]*+{separator})*+', re.DOTALL)
    for separator in ",;"
}
_BLANK = {separator: f" \t{separator}" for separator in ",;"}
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_SCHEME_AHEAD = re.compile(
    rf"[ \t]*+({_TOKEN})"
    rf"(?:[ \t]++(?:{_TOKEN}[ \t]*+=|{_TOKEN68}(?=[ \t]*+(?:,|\Z)))|(?=[ \t]*+(?:,|\Z)))"
)
_FIRST_SCHEME = re.compile(rf"[ \t,]*+({_TOKEN})(?=[ \t,]|\Z)")
_NEXT_NONCE_AHEAD = re.compile(r"[ \t]*+nextnonce[ \t]*+=", re.IGNORECASE)
_NAME = re.compile(_TOKEN)
_NONCE = re.compile(r"[A-Za-z0-9+/_-]++={0,2}+")
_ACTION_SEPARATOR = re.compile(r"[,: \t]++")


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hold the parameters of one challenge, credential or next nonce, names in lower case."""

    field: str
    dialect: Dialect
    values: dict[str, str] = dataclass_field(repr=False)

    def require(self, name: str) -> str:
        """Return a parameter that must be there."""
        try:
            return self.values[name]
        except KeyError:
            raise MalformedFieldError(f"{self.field}: {name} is missing", field=self.field) from None

    def nonce(self, name: str) -> str:
        """Return a parameter that is a nonce: base64 characters, 1 to 512 of them."""
        value = self.require(name)
        if len(value) > NONCE_LIMIT or not _NONCE.fullmatch(value):
            raise MalformedFieldError(
                f"{self.field}: {name} is not 1 to {NONCE_LIMIT} base64 characters", field=self.field
            )
        return value

    def actions(self, name: str) -> frozenset[str]:
        """Return a parameter that lists actions; unknown ones are left out."""
        return frozenset(_ACTION_SEPARATOR.split(self.require(name).lower())) & frozenset(ACTIONS)

    def octets(self, name: str, size: int) -> bytes:
        """Return a parameter that is the base64 of exactly `size` bytes."""
        value = decode_base64(self.require(name), self.field, name)
        if len(value) != size:
            raise MalformedFieldError(
                f"{self.field}: {name} has {len(value)} bytes, not {size}", field=self.field
            )
        return value


def check_size(value: str, field: str) -> None:
    """Refuse a field value over 16 KiB."""
    if len(value) > FIELD_LIMIT:
        raise MalformedFieldError(f"{field}: over {FIELD_LIMIT} characters", field=field)


def cut_challenges(value: str) -> Iterator[tuple[str, str]]:
    """Cut a field value into challenges or credentials: scheme in lower case, and the rest."""
    first = _FIRST_SCHEME.match(value)
    scheme, start = (first[1], first.end()) if first else ("", 0)
    for position in _unquoted(value, ","):
        ahead = _SCHEME_AHEAD.match(value, position + 1)
        if position < start or ahead is None or ahead[1].lower() in ACTIONS:
            continue
        yield scheme.lower(), value[start:position]
        scheme, start = ahead[1], ahead.end(1)
    yield scheme.lower(), value[start:]


def cut_next_nonces(value: str) -> Iterator[str]:
    """Cut a merged field value before each ``nextnonce=`` that follows a comma (section 6)."""
    start = 0
    for position in _unquoted(value, ","):
        if _NEXT_NONCE_AHEAD.match(value, position + 1):
            yield value[start:position]
            start = position + 1
    yield value[start:]


def read_parameters(text: str, field: str, *, most: int = FIELD_LIMIT) -> Parameters:
    """Read the parameters of one challenge, credential or next nonce.

    Args:
        text: What follows the scheme.
        field: The field's name, for errors.
        most: How many there may be.

    Returns:
        The parameters, unquoted, in the dialect they were written in.

    Raises:
        MalformedFieldError: If the text breaks the grammar.
    """
    separator = ";" if ";" in text and ('"' not in text or any(True for _ in _unquoted(text, ";"))) else ","
    values: dict[str, str] = {}
    last = ""
    for count, piece in enumerate(_pieces(text, separator)):
        if count == most:
            raise MalformedFieldError(f"{field}: more than {most} parameters", field=field)
        name, equals, value = (part.strip(" \t") for part in piece.partition("="))
        if not equals:
            if separator == "," and last in ("actions", "scopes") and name.lower() in ACTIONS:
                values[last] += "," + name
                continue
            raise MalformedFieldError(f"{field}: a parameter without =", field=field)
        if not _NAME.fullmatch(name):
            raise MalformedFieldError(f"{field}: a parameter's name is not a token", field=field)
        last = name.lower()
        if last in values:
            raise MalformedFieldError(f"{field}: {last[:_SHOWN]} is repeated", field=field)
        values[last] = _value(value, field, last[:_SHOWN])
    return Parameters(field, "list" if separator == "," else "deployed", values)


def write_parameters(parameters: dict[str, str], dialect: Dialect) -> str:
    """Write parameters in order, in either dialect; values hold nothing that needs escaping."""
    if dialect == "list":
        return ", ".join([f'{name}="{value}"' for name, value in parameters.items()])
    return ";".join([f"{name}={value}" for name, value in parameters.items()])


def _value(text: str, field: str, name: str) -> str:
    if text.startswith('"'):
        quoted = _QUOTED.fullmatch(text)
        if quoted is None:
            raise MalformedFieldError(f"{field}: {name} has a broken quoted string", field=field)
        text = re.sub(r"\\(.)", r"\1", quoted[1], flags=re.DOTALL)
    elif '"' in text:
        raise MalformedFieldError(f"{field}: {name} has a quote inside its value", field=field)
    if not text:
        raise MalformedFieldError(f"{field}: {name} is empty", field=field)
    return text


def _pieces(text: str, separator: str) -> Iterator[str]:
    pieces = _cut(text, separator) if '"' in text else text.split(separator)
    return filter(None, (piece.strip(_BLANK[separator]) for piece in pieces))


def _cut(text: str, separator: str) -> Iterator[str]:
    start = 0
    for position in _unquoted(text, separator):
        yield text[start:position]
        start = position + 1
    yield text[start:]


def _unquoted(text: str, separator: str) -> Iterator[int]:
    """Find where unquoted separators end: a run of them, with blanks between, counts as one."""
    return (match.end() - 1 for match in _STRUCTURE[separator].finditer(text) if match[0][0] == separator)
