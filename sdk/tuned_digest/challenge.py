"""What a server asks and grants: challenges in a 401, next nonces in every response (sections 1, 2, 6).

Whatever is written here is read by deployed clients with patterns of their own: `nonce;algorithm;actions`
and `nextnonce;argon|blake3;scopes` stay contiguous and in that order.
"""

from __future__ import annotations

__all__ = [
    "CHALLENGE_FIELDS",
    "NEXT_NONCE_FIELDS",
    "REASON_LIMIT",
    "Challenge",
    "Dropped",
    "NextNonce",
    "read_challenges",
    "read_next_nonces",
    "read_reason",
    "write_challenge",
    "write_next_nonce",
]

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ._grammar import (
    ACTIONS,
    CHALLENGE_LIMIT,
    NONCE_LIMIT,
    SCHEMES,
    Dialect,
    check_size,
    cut_challenges,
    cut_next_nonces,
    names_our_scheme,
    read_parameters,
    write_parameters,
)
from .errors import MalformedFieldError, UnsupportedAlgorithmError
from .tuning import Tuning, Work, parse_cost, parse_tuning, parse_work

CHALLENGE_FIELDS = ("WWW-Authenticate", "uno-www-authn")
"""Where challenges stand: the field of RFC 9110, and the one that browsers do not hide (section 1)."""

NEXT_NONCE_FIELDS = ("Authentication-Info", "uno-authn-info")
"""Where next nonces stand (section 6)."""

REASON_LIMIT = 64 * 1024  # bytes of a 401's body that are ever looked at

# Deployed bodies were invalid JSON once, so the reason is found rather than parsed (section 1).
_REASON = re.compile(rb'"reason"\s{0,8}:\s{0,8}"([a-z ]{1,64})"')

# A value without argon or blake3 is not ours, however odd the rest of it (section 6).
_OURS = re.compile(r"\b(?:argon|blake3)[ \t]*+=", re.IGNORECASE)

# The shape deployed servers write: a plain nonce first, and an ending that is worth remembering.
_PLAIN = re.compile(rf"nextnonce=([A-Za-z0-9+/_-]{{1,{NONCE_LIMIT - 2}}}=?=?);([!-~]{{1,256}})")


@dataclass(frozen=True, slots=True)
class Challenge:
    """Hold one challenge of ours.

    Args:
        scheme: The authentication scheme, lower case.
        nonce: The nonce, opaque.
        algorithm: The algorithm as the server wrote it.
        work: What it asks for, None where the algorithm is unknown.
        actions: The known actions the nonce is good for.
        dialect: The dialect it was written in, and is answered in.
    """

    scheme: str
    nonce: str = field(repr=False)
    algorithm: str
    work: Work | None
    actions: frozenset[str]
    dialect: Dialect = "deployed"


@dataclass(frozen=True, slots=True)
class NextNonce:
    """Hold one next nonce, under one scheme or both.

    Args:
        nonce: The nonce, opaque.
        works: The work by scheme.
        scopes: The actions it is good for.
        dialect: The dialect it was written in, and is answered in.
    """

    nonce: str = field(repr=False)
    works: Mapping[str, Work]
    scopes: frozenset[str]
    dialect: Dialect = "deployed"


@dataclass(frozen=True, slots=True)
class Dropped:
    """Say why a next nonce was dropped.

    Args:
        field: The field it stood in.
        problem: What was wrong with it.
    """

    field: str
    problem: str


def read_challenges(values: Iterable[str], fallback: Iterable[str] = ()) -> list[Challenge]:
    """Read the challenges of a 401.

    Args:
        values: The values of ``WWW-Authenticate``, merged or not.
        fallback: The values of ``uno-www-authn``, read when the first hold no challenge of ours or
            only such as are unsupported.

    Returns:
        The challenges of our schemes in order, unsupported ones included.

    Raises:
        MalformedFieldError: If one of ours breaks the grammar or a limit.
    """
    challenges = _challenges(values, CHALLENGE_FIELDS[0])
    if any(challenge.work for challenge in challenges):
        return challenges
    return challenges + _challenges(fallback, CHALLENGE_FIELDS[1])


def read_next_nonces(
    values: Iterable[str], repeated: Iterable[str] = ()
) -> tuple[list[NextNonce], list[Dropped]]:
    """Read the next nonces of a response; a bad one is dropped, never raised.

    Args:
        values: The values of ``Authentication-Info``, merged or not.
        repeated: The values of ``uno-authn-info``.

    Returns:
        The nonces in the order they first appear, and what was dropped.
    """
    found: dict[str, NextNonce | None] = {}  # None once its values disagree
    dropped: list[Dropped] = []
    for name, field_values in zip(NEXT_NONCE_FIELDS, (values, repeated), strict=True):
        for piece in _cut_values(field_values, name, dropped):
            try:
                _gather(found, piece, name)
            except (MalformedFieldError, UnsupportedAlgorithmError) as error:
                dropped.append(Dropped(name, str(error)))
    return [nonce for nonce in found.values() if nonce], dropped


def read_reason(body: bytes) -> str:
    """Find the reason in the body of a 401; clients use it as a hint alone.

    Args:
        body: The body's first 64 KiB.

    Returns:
        The reason, empty when there is none.
    """
    match = _REASON.search(body[:REASON_LIMIT])
    return match[1].decode("ascii") if match else ""


def write_challenge(challenge: Challenge) -> str:
    """Write one challenge.

    Args:
        challenge: The challenge.

    Returns:
        A value of ``WWW-Authenticate``.
    """
    parameters = {
        "nonce": challenge.nonce,
        "algorithm": challenge.algorithm,
        "actions": _written(challenge.actions),
    }
    return f"{challenge.scheme} {write_parameters(parameters, challenge.dialect)}"


def write_next_nonce(nonce: str, work: Work, scopes: frozenset[str], dialect: Dialect = "deployed") -> str:
    """Write one next nonce under one scheme.

    Args:
        nonce: The nonce.
        work: What a request under it costs.
        scopes: The actions it is good for.
        dialect: The dialect to write.

    Returns:
        A value of ``Authentication-Info``.
    """
    name, value = ("argon", str(work)) if isinstance(work, Tuning) else ("blake3", str(work.bits))
    return write_parameters({"nextnonce": nonce, name: value, "scopes": _written(scopes)}, dialect)


def _challenges(values: Iterable[str], name: str) -> list[Challenge]:
    challenges: list[Challenge] = []
    seen = 0
    for value in filter(names_our_scheme, values):  # what names none of our schemes is no business of ours
        check_size(value, name)
        cut = list(cut_challenges(value))
        seen += len(cut)
        if seen > CHALLENGE_LIMIT:
            raise MalformedFieldError(f"{name}: more than {CHALLENGE_LIMIT} challenges", field=name)
        challenges += [_challenge(scheme, rest, name) for scheme, rest in cut if scheme in SCHEMES]
    return challenges


def _challenge(scheme: str, text: str, name: str) -> Challenge:
    parameters = read_parameters(text, name)
    nonce, algorithm = parameters.nonce("nonce"), parameters.require("algorithm")
    actions = parameters.actions("actions")
    work: Work | None
    try:
        work = parse_work(scheme, algorithm)
    except UnsupportedAlgorithmError:
        work = None
    return Challenge(scheme, nonce, algorithm, work, actions, parameters.dialect)


def _cut_values(values: Iterable[str], name: str, dropped: list[Dropped]) -> Iterator[str]:
    count = 0
    for value in values:
        try:
            check_size(value, name)
        except MalformedFieldError as error:
            dropped.append(Dropped(name, str(error)))
            continue
        for piece in filter(_OURS.search, cut_next_nonces(value)):
            count += 1
            if count > CHALLENGE_LIMIT:
                dropped.append(Dropped(name, f"{name}: more than {CHALLENGE_LIMIT} next nonces"))
                return
            yield piece


def _gather(found: dict[str, NextNonce | None], text: str, name: str) -> None:
    """Add one value to the nonces found so far; values of one nonce become one."""
    plain = _PLAIN.fullmatch(text)
    value = _read_ended(plain[2], name) if plain else _read_next_nonce(text, name)
    if value is None:
        return
    nonce = plain[1] if plain else value.nonce
    held = found.setdefault(nonce, NextNonce(nonce, value.works, value.scopes, value.dialect))
    if held is None:
        return
    if held.scopes != value.scopes:
        found[nonce] = None
        raise MalformedFieldError(f"{name}: two values of one nonce differ in scopes", field=name)
    found[nonce] = NextNonce(nonce, {**value.works, **held.works}, held.scopes, held.dialect)


@functools.lru_cache(maxsize=64)
def _read_ended(ending: str, name: str) -> NextNonce | None:
    """Read what follows the nonce: a server writes the same with every response."""
    return _read_next_nonce(f"nextnonce=A;{ending}", name)


def _read_next_nonce(text: str, name: str) -> NextNonce | None:
    parameters = read_parameters(text, name)
    works: dict[str, Work] = {}
    if "argon" in parameters.values:
        works[SCHEMES[0]] = parse_tuning(parameters.values["argon"])
    if "blake3" in parameters.values:
        works[SCHEMES[1]] = parse_cost(parameters.values["blake3"])
    if not works:
        return None
    nonce, scopes = parameters.nonce("nextnonce"), parameters.actions("scopes")
    return NextNonce(nonce, works, scopes, parameters.dialect)


def _written(actions: frozenset[str]) -> str:
    return ",".join(action for action in ACTIONS if action in actions)
