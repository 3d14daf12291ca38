"""What a request is told that is not accepted (section 10)."""

from __future__ import annotations

__all__ = ["Fields", "bad_request", "bearer_field", "challenged", "merged", "refused", "unavailable"]

import json
import math
from collections.abc import Mapping, Sequence

from ..errors import RequestRejectedError

Fields = tuple[tuple[str, str], ...]

_JSON_FIELDS: Fields = (("Cache-Control", "no-store"), ("Content-Type", "application/json"))


def bad_request(message: str) -> RequestRejectedError:
    """Make the refusal of a request that cannot be understood.

    Args:
        message: What is wrong with it.

    Returns:
        The error to raise, with a response of status 400.
    """
    return refused(400, message, "bad request")


def unavailable(reason: str, retry_after: float) -> RequestRejectedError:
    """Make the refusal of a request that the server has no room for now.

    Args:
        reason: What is short, in words that say nothing of the machine.
        retry_after: Seconds after which the client may try again.

    Returns:
        The error to raise, with a response of status 503 and Retry-After (RFC 9110 section 10.2.3).
    """
    seconds = str(max(1, math.ceil(retry_after)))
    return refused(503, f"{reason}: try again in {seconds} s", reason, ("Retry-After", seconds))


def refused(status: int, message: str, reason: str, *fields: tuple[str, str]) -> RequestRejectedError:
    """Make a refusal that brings no nonce.

    Args:
        status: The response's status code.
        message: What the client is told.
        reason: What it is counted as: one of few.
        fields: Further header fields of the response.

    Returns:
        The error to raise.
    """
    return RequestRejectedError(
        message,
        status=status,
        fields=(*fields, *_JSON_FIELDS),
        body=_json({"message": message}),
        reason=reason,
    )


def challenged(reason: str, action: str, fields: Fields, *, counted_as: str = "") -> RequestRejectedError:
    """Make a refusal that brings challenges.

    Args:
        reason: Why the request is refused (section 1).
        action: The action that the request is.
        fields: The challenges.
        counted_as: What it is counted as, where that is more than clients are told.

    Returns:
        The error to raise, with a response of status 401.
    """
    body = _json({"reason": reason, "action": action})
    return RequestRejectedError(
        reason, status=401, fields=(*fields, *_JSON_FIELDS), body=body, reason=counted_as or reason
    )


def merged(refusals: Sequence[RequestRejectedError]) -> RequestRejectedError:
    """Make one refusal of several that say the same, with the challenges of all.

    Args:
        refusals: The refusals, at least one.

    Returns:
        The error to raise.
    """
    first = refusals[0]
    challenges = [field for one in refusals for field in one.fields if field not in _JSON_FIELDS]
    return RequestRejectedError(
        str(first),
        status=first.status,
        fields=(*challenges, *_JSON_FIELDS),
        body=first.body,
        reason=first.reason,
    )


def bearer_field(realm: str, error: str = "", description: str = "") -> tuple[str, str]:
    """Write the challenge of self-signed tokens (RFC 6750 section 3).

    Args:
        realm: What is protected, ASCII.
        error: Why a token is refused, a code of section 3.1; empty where there was none.
        description: The same for people, ASCII without quotes.

    Returns:
        The header field.
    """
    quoted = realm.replace("\\", "\\\\").replace('"', '\\"')
    problem = f', error="{error}", error_description="{description}"' if error else ""
    return "WWW-Authenticate", f'Bearer realm="{quoted}"{problem}'


def _json(content: Mapping[str, str]) -> bytes:
    return json.dumps(content).encode("ascii")
