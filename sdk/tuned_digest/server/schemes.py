"""One verifier or several in front of an application, each for schemes of its own; moves as a verifier's."""

from __future__ import annotations

__all__ = ["AnyVerifier", "DigestBody", "NewDigest", "Schemes"]

import functools
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Any

from .._runtime.steps import Steps
from .._wire.request import FieldValues
from ..errors import ArgumentError, RequestRejectedError
from .counters import Counters
from .effects import Gone
from .incoming import Caller, IncomingRequest
from .refusals import Fields, merged
from .tokens import TokenVerifier
from .verifier import Verifier

AnyVerifier = Verifier | TokenVerifier

NewDigest = Callable[[], Any]
"""Begins a digest that has `update` and `digest`, as those of hashlib and blake3 have."""

DigestBody = Callable[[NewDigest], bytes | Awaitable[bytes]]
"""Reads a request's body, and gives one digest of it."""


class Schemes:
    """Let the scheme of the Authorization field decide who verifies a request.

    A request without credentials, or with those of another scheme, is challenged by all.

    Args:
        verifiers: One verifier, or one of each kind: their challenges come in this order.

    Raises:
        ArgumentError: If it is something else.
    """

    def __init__(self, verifiers: AnyVerifier | Sequence[AnyVerifier]) -> None:
        several = [verifiers] if isinstance(verifiers, AnyVerifier) else verifiers
        if not isinstance(several, Sequence) or not all(isinstance(one, AnyVerifier) for one in several):
            raise ArgumentError(
                "verifier is a Verifier, a TokenVerifier or a list of both: "
                "TunedDigestMiddleware(app, Verifier(...))"
            )
        if not several or len({type(one) for one in several}) < len(several):
            raise ArgumentError(
                "a list of verifiers has one Verifier and one TokenVerifier at most, and one at least"
            )
        self._verifiers = tuple(several)

    def start(self) -> Steps[None]:
        """Check, when the application starts, that all can serve.

        Raises:
            TunedDigestError: If one of them will not without somebody's help.
        """
        for verifier in self._verifiers:
            yield from verifier.start()

    def counters(self) -> tuple[Counters, ...]:
        """Count what was done since these objects were made, in this process.

        Returns:
            The counters of each; a request without credentials is counted by all.
        """
        return tuple(verifier.counters() for verifier in self._verifiers)

    def verify(
        self, request: IncomingRequest, digest_body: DigestBody, gone: Gone | None = None
    ) -> Steps[Caller]:
        """Verify one request.

        Args:
            request: The request.
            digest_body: Reads and digests its body, called when all else holds.
            gone: Ends when the client has closed its connection.

        Returns:
            Who called.

        Raises:
            RequestRejectedError: If it is not accepted; it carries the response.
            ProofAbandonedError: If the client has gone.
        """
        refusals: list[RequestRejectedError] = []
        for verifier in self._asked(request.schemes):
            read_body = functools.partial(digest_body, verifier.new_digest)
            try:
                return (yield from verifier.verify(request, read_body, gone))
            except RequestRejectedError as rejection:
                if rejection.status != 401:
                    raise
                refusals.append(rejection)
        raise merged(refusals) from refusals[0]

    def grant_next(self, caller: Caller, status: int, fields: FieldValues) -> Steps[Fields]:
        """Grant next nonces with the response to a request that was verified by a nonce.

        Args:
            caller: Who called.
            status: The response's status code.
            fields: Its header fields.

        Returns:
            The header fields to add.
        """
        (verifier, *_) = self._asked({caller.scheme.lower()})
        return (yield from verifier.grant_next(caller, status, fields))

    def _asked(self, schemes: Set[str]) -> Sequence[AnyVerifier]:
        """Give the verifier of a scheme, or all where none has it."""
        for verifier in self._verifiers:
            if not schemes.isdisjoint(verifier.schemes):
                return (verifier,)
        return self._verifiers
