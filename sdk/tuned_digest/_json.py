"""JSON objects that every parser reads in the same way (RFC 8725 section 2.4, RFC 7493)."""

from __future__ import annotations

__all__ = ["read_object"]

import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

_DEPTH_LIMIT = 8  # tokens.md section 2, step 1
_STRINGS_OR_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def read_object(octets: bytes) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        octets: The text, in UTF-8.

    Returns:
        Its members.

    Raises:
        ValueError: If it is none, repeats a name, has a number that is none of JSON's, or is nested more than
            8 deep; its message says which. Callers make it an error of this package.
    """
    _check_depth(octets)
    try:
        members = _JSON.decode(octets.decode("utf-8"))
    except (ValueError, RecursionError):  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise ValueError("not JSON in UTF-8, or repeats a name") from None
    if not isinstance(members, dict):
        raise ValueError("no JSON object")
    return members


def _check_depth(octets: bytes) -> None:
    """Look for deep nesting before a parser does: one that recurses would not come back from it."""
    if octets.count(b"[") + octets.count(b"{") <= _DEPTH_LIMIT:  # what clients send, in 1 of 18 us
        return
    depth = 0
    for match in _STRINGS_OR_BRACKETS.finditer(octets):
        first = match[0][:1]
        depth += (first in b"[{") - (first in b"]}")
        if depth > _DEPTH_LIMIT:
            raise ValueError(f"nested more than {_DEPTH_LIMIT} deep")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError
    return members


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


_JSON = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_number)
