"""Request bodies of the accounts application, read in one way, and the answers, written."""

from __future__ import annotations

__all__ = ["BODY_LIMIT", "Answer", "answered", "read_members", "refusal"]

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._json import read_object
from ...errors import RequestRejectedError
from ..refusals import Fields, bad_request, refused

BODY_LIMIT = 16 * 1024
"""Bytes of a body: the largest JWK that is enrolled has about 730."""

_UNCACHED = ("Cache-Control", "no-store")
_JSON_FIELD = ("Content-Type", "application/json")

_OBJECTS = frozenset({"jwk"})  # members that are objects; all others are texts


@dataclass(frozen=True, slots=True)
class Answer:
    """Hold a response.

    Args:
        status: Its status code.
        fields: Its header fields.
        body: Its content, JSON or empty; it may hold codes.
    """

    status: int
    fields: Fields = field(repr=False)
    body: bytes = field(default=b"", repr=False)


def answered(status: int, content: Mapping[str, object] | None = None, *fields: tuple[str, str]) -> Answer:
    """Make an answer.

    Args:
        status: The status code.
        content: The members of its JSON object, None for no content.
        fields: Further header fields.

    Returns:
        The answer, which no cache keeps.
    """
    if content is None:
        return Answer(status, (*fields, _UNCACHED))
    return Answer(status, (*fields, _UNCACHED, _JSON_FIELD), json.dumps(content).encode("ascii"))


def refusal(rejection: RequestRejectedError, reason: str = "") -> Answer:
    """Make the answer to a request that is not accepted.

    Args:
        rejection: Says why.
        reason: What the client is told in two or three words, where that is less than the server counts.

    Returns:
        The answer, with the rejection's fields.
    """
    content = {"message": str(rejection), "reason": reason or rejection.reason}
    return Answer(rejection.status, rejection.fields, json.dumps(content).encode("ascii"))


def read_members(
    content_types: Sequence[str], body: bytes, required: Collection[str], optional: Collection[str] = ()
) -> dict[str, Any]:
    """Read a JSON object that every parser reads in the same way.

    Args:
        content_types: The values of Content-Type.
        body: The body.
        required: Names of the members that must be there.
        optional: Names of those that may be there.

    Returns:
        The members: texts that are not empty, and ``jwk`` an object.

    Raises:
        RequestRejectedError: With status 415 if the body is something else by its Content-Type, else 400.
    """
    media_types = [value.partition(";")[0].strip(" \t").lower() for value in content_types]
    if media_types != ["application/json"]:
        raise refused(415, "the Content-Type is not application/json", "not JSON")
    members = _object(body)
    for name in required:
        if name not in members:
            raise bad_request(f"{name} is missing")
    for name, value in members.items():
        if name not in required and name not in optional:
            raise bad_request(f"there are no other members than {', '.join((*required, *optional))}")
        if name in _OBJECTS:
            if not isinstance(value, dict):
                raise bad_request(f"{name} is not an object")
        elif not isinstance(value, str) or not value:
            raise bad_request(f"{name} is not a text, or is empty")
    return members


def _object(body: bytes) -> dict[str, Any]:
    try:
        members = read_object(body)
    except ValueError as error:
        raise bad_request(f"the body: {error}") from None
    try:
        json.dumps(members, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise bad_request("the body has half of a surrogate pair, which is no character") from None
    return members
