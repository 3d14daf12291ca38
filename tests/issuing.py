"""Raw servers that do as an `Issuer` does, but for the one thing that a test is about."""

import itertools
from collections.abc import Callable, Iterator

from .raw_server import Fields, Issuer, Recorded, Respond, Wire

Answer = Callable[[Wire], None]


def accepting(issuer: Issuer, accept: Answer) -> Respond:
    """Challenge as an issuer does, and answer what it would accept in a way of one's own."""

    def respond(wire: Wire, recorded: Recorded) -> None:
        if issuer.takes(recorded):
            accept(wire)
        else:
            wire.answer(401, [issuer.challenge()])

    return respond


def challenging(issuer: Issuer, challenge: Answer, *, times: int | None = None) -> Respond:
    """Accept as an issuer does, and challenge in a way of one's own, so many times or always."""
    own = _so_many(times)

    def respond(wire: Wire, recorded: Recorded) -> None:
        if issuer.takes(recorded):
            wire.answer(200, issuer.next())
        elif next(own):
            challenge(wire)
        else:
            wire.answer(401, [issuer.challenge()])

    return respond


def refusing(issuer: Issuer, body: bytes, *fields: tuple[str, str], times: int) -> Respond:
    """Refuse so many requests, good ones too, with a challenge and this body; then do as an issuer does."""
    refused = _so_many(times)

    def respond(wire: Wire, recorded: Recorded) -> None:
        if next(refused):
            issuer.takes(recorded)
            challenge: Fields = [issuer.challenge(), *fields]
            wire.answer(401, challenge, body)
        else:
            issuer(wire, recorded)

    return respond


def at(target: str, fault: Respond, otherwise: Respond) -> Respond:
    """Answer one target in a way of its own."""

    def respond(wire: Wire, recorded: Recorded) -> None:
        (fault if recorded.target == target else otherwise)(wire, recorded)

    return respond


def _so_many(times: int | None) -> Iterator[bool]:
    return (
        itertools.repeat(True) if times is None else itertools.chain([True] * times, itertools.repeat(False))
    )
