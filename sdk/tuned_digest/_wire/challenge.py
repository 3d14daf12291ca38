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
    "NextNonceReader",
    "Terms",
    "read_challenges",
    "read_reason",
    "write_challenge",
    "write_next_nonce",
]

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import MalformedFieldError, UnsupportedAlgorithmError
from ..proof import Work
from .grammar import (
    ACTIONS,
    CHALLENGE_LIMIT,
    NONCE_LIMIT,
    Dialect,
    Parameters,
    check_size,
    cut_challenges,
    cut_next_nonces,
    read_parameters,
    write_parameters,
)
from .profiles import PROFILES, Profile
from .work import SCHEMES, names_our_scheme, parse_work, works_of

CHALLENGE_FIELDS = ("WWW-Authenticate", "uno-www-authn")
"""Where challenges stand: the field of RFC 9110, and the one that browsers do not hide (section 1)."""

NEXT_NONCE_FIELDS = ("Authentication-Info", "uno-authn-info")
"""Where next nonces stand (section 6)."""

REASON_LIMIT = 64 * 1024  # bytes of a 401's body that are ever looked at

# Deployed bodies were invalid JSON once, so the reason is found rather than parsed (section 1).
_REASON = re.compile(rb'"reason"\s{0,8}:\s{0,8}"([a-z ]{1,64})"')

# A value without argon or blake3 is not ours, however odd the rest of it (section 6).
_OURS = re.compile(r"\b(?:argon|blake3)[ \t]*+=", re.IGNORECASE)

# The shape deployed servers write, a line each: a plain nonce first, and an ending worth remembering.
_PLAIN = re.compile(
    rf"^nextnonce=([A-Za-z0-9+/_-]{{1,{NONCE_LIMIT - 2}}}=?=?);([!-~]{{1,256}})$", re.MULTILINE
)
_REMEMBERED = 64  # sets of endings: each server writes one or two


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
        profile: The profile it asks for.
    """

    scheme: str
    nonce: str = field(repr=False)
    algorithm: str
    work: Work | None
    actions: frozenset[str]
    dialect: Dialect = "deployed"
    profile: Profile = PROFILES[-1]


@dataclass(frozen=True, slots=True, eq=False)
class Terms:
    """Say what a next nonce asks for and is good for; the nonces of one origin share a few of these.

    Args:
        works: The work by scheme.
        scopes: The actions.
        dialect: The dialect it was written in, and is answered in.
        profile: The profile it asks for.
    """

    works: Mapping[str, Work]
    scopes: frozenset[str]
    dialect: Dialect = "deployed"
    profile: Profile = field(default=PROFILES[-1], repr=False)


class NextNonce(NamedTuple):
    """Hold one next nonce, under one scheme or both.

    Args:
        nonce: The nonce, opaque.
        terms: What it asks for and is good for.
    """

    nonce: str
    terms: Terms

    def __repr__(self) -> str:
        return f"NextNonce(terms={self.terms!r})"


@dataclass(frozen=True, slots=True)
class Dropped:
    """Say why a next nonce was dropped.

    Args:
        field: The field it stood in.
        problem: What was wrong with it.
    """

    field: str
    problem: str


def read_challenges(
    values: Iterable[str], fallback: Iterable[str] = (), profiles: Sequence[Profile] = PROFILES
) -> list[Challenge]:
    """Read the challenges of a 401.

    Args:
        values: The values of ``WWW-Authenticate``, merged or not.
        fallback: The values of ``uno-www-authn``, read when the first hold no challenge of ours or
            only such as are unsupported.
        profiles: The profiles that may be asked for.

    Returns:
        The challenges of our schemes in order, unsupported ones included.

    Raises:
        MalformedFieldError: If one of ours breaks the grammar or a limit.
    """
    challenges = _challenges(values, CHALLENGE_FIELDS[0], profiles)
    if any(challenge.work for challenge in challenges):
        return challenges
    return challenges + _challenges(fallback, CHALLENGE_FIELDS[1], profiles)


_UNKNOWN: tuple[list[int], list[Terms]] = ([], [])


class NextNonceReader:
    """Read the next nonces of responses; a server writes the same endings with each, and they are remembered.

    Args:
        profiles: The profiles that may be asked for.
    """

    def __init__(self, profiles: Sequence[Profile] = PROFILES) -> None:
        self._profiles = profiles
        # By the endings of all values: which of the nonces each value has, and the terms of each nonce.
        self._known: dict[tuple[str, ...], tuple[list[int], list[Terms]]] = {}

    def read(
        self, values: Sequence[str], repeated: Sequence[str] = ()
    ) -> tuple[list[NextNonce], list[Dropped]]:
        """Read the next nonces of a response; a bad one is dropped, never raised.

        Args:
            values: The values of ``Authentication-Info``, merged or not.
            repeated: The values of ``uno-authn-info``.

        Returns:
            The nonces in the order they first appear, and what was dropped.
        """
        lines = [*values, *repeated]
        plain = _PLAIN.findall("\n".join(lines))
        if not plain or len(plain) != len(lines):
            return self._read(values, repeated)
        written, endings = zip(*plain, strict=True)
        nonces = list(dict.fromkeys(written))
        positions, terms = self._known.get(endings, _UNKNOWN)
        if len(nonces) == len(terms) and [nonces[position] for position in positions] == list(written):
            return list(map(NextNonce, nonces, terms)), []
        found, dropped = self._read(values, repeated)
        if [nonce for nonce, _ in found] == nonces and not dropped:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            positions = [nonces.index(nonce) for nonce in written]
            self._known[endings] = positions, [terms for _, terms in found]
        return found, dropped

    def _read(self, values: Sequence[str], repeated: Sequence[str]) -> tuple[list[NextNonce], list[Dropped]]:
        found: dict[str, Terms | None] = {}  # None once its values disagree
        dropped: list[Dropped] = []
        for name, field_values in zip(NEXT_NONCE_FIELDS, (values, repeated), strict=True):
            for count, piece in enumerate(_cut_values(field_values, name, dropped)):
                if count == CHALLENGE_LIMIT:
                    dropped.append(Dropped(name, f"{name}: more than {CHALLENGE_LIMIT} next nonces"))
                    break
                try:
                    self._gather(found, read_parameters(piece, name))
                except (MalformedFieldError, UnsupportedAlgorithmError) as error:
                    dropped.append(Dropped(name, str(error)))
        return [NextNonce(nonce, terms) for nonce, terms in found.items() if terms], dropped

    def _gather(self, found: dict[str, Terms | None], parameters: Parameters) -> None:
        """Add one value to the nonces found so far; values of one nonce become one."""
        works, field_name = works_of(parameters.values), parameters.field
        if not works:
            return
        nonce, scopes = parameters.nonce("nextnonce"), parameters.actions("scopes")
        profile = _asked(parameters, self._profiles)
        held = found.setdefault(nonce, Terms(works, scopes, parameters.dialect, profile))
        if held is None:
            return
        if held.scopes != scopes:
            found[nonce] = None
            raise MalformedFieldError(
                f"{field_name}: two values of one nonce differ in scopes", field=field_name
            )
        found[nonce] = Terms({**works, **held.works}, held.scopes, held.dialect, held.profile)


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
        **challenge.profile.asking(),
    }
    return f"{challenge.scheme} {write_parameters(parameters, challenge.dialect)}"


def write_next_nonce(next_nonce: NextNonce) -> list[tuple[str, str]]:
    """Write one next nonce, under each of its schemes.

    Args:
        next_nonce: The nonce.

    Returns:
        Each scheme with a value of ``Authentication-Info``.
    """
    terms = next_nonce.terms
    written = []
    for scheme in SCHEMES:
        if (work := terms.works.get(scheme)) is not None:
            parameters = {
                "nextnonce": next_nonce.nonce,
                work.parameter: work.parameter_value,
                "scopes": _written(terms.scopes),
                **terms.profile.asking(),
            }
            written.append((scheme, write_parameters(parameters, terms.dialect)))
    return written


def _challenges(values: Iterable[str], name: str, profiles: Sequence[Profile]) -> list[Challenge]:
    challenges: list[Challenge] = []
    seen = 0
    for value in filter(names_our_scheme, values):  # what names none of our schemes is no business of ours
        check_size(value, name)
        for scheme, rest in cut_challenges(value):
            seen += 1
            if seen > CHALLENGE_LIMIT:
                raise MalformedFieldError(f"{name}: more than {CHALLENGE_LIMIT} challenges", field=name)
            if scheme in SCHEMES:
                challenges.append(_challenge(scheme, rest, name, profiles))
    return challenges


def _challenge(scheme: str, text: str, name: str, profiles: Sequence[Profile]) -> Challenge:
    parameters = read_parameters(text, name)
    nonce, algorithm = parameters.nonce("nonce"), parameters.require("algorithm")
    actions = parameters.actions("actions")
    work: Work | None
    try:
        work = parse_work(scheme, algorithm)
    except UnsupportedAlgorithmError:
        work = None
    profile = _asked(parameters, profiles)
    return Challenge(scheme, nonce, algorithm, work, actions, parameters.dialect, profile)


def _asked(parameters: Parameters, profiles: Sequence[Profile]) -> Profile:
    asked = (profile.asked_by(parameters.values) for profile in profiles)
    return next(filter(None, asked), PROFILES[-1])


def _cut_values(values: Iterable[str], name: str, dropped: list[Dropped]) -> Iterator[str]:
    """Cut field values into those next nonces that are ours."""
    for value in values:
        try:
            check_size(value, name)
        except MalformedFieldError as error:
            dropped.append(Dropped(name, str(error)))
        else:
            yield from filter(_OURS.search, cut_next_nonces(value))


def _written(actions: frozenset[str]) -> str:
    return ",".join(action for action in ACTIONS if action in actions)
