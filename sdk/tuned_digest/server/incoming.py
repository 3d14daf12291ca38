"""A request as a server knows it before its body, and who is found to have sent it: of both schemes."""

from __future__ import annotations

__all__ = ["Caller", "IncomingRequest", "check_target"]

from collections.abc import Sequence
from dataclasses import dataclass, field

from .._wire.request import has_dot_segments, is_method, is_signable
from .refusals import bad_request


@dataclass(frozen=True, slots=True)
class Caller:
    """Say who called, as proved by a verified request: the only trusted view of it.

    Args:
        identity: The public key, base64 without padding; for keys other than Ed25519 the thumbprint.
        account: What the identity is registered as, None where identities are not registered.
        action: The action the request was accepted for.
        scheme: The authentication scheme of its credentials: ``Bearer`` for a self-signed token, else
            ``tuned-digest-signature`` or ``asym-tuned-digest-signature``.
    """

    identity: str
    account: object
    action: str
    scheme: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class IncomingRequest:
    """Hold what a server knows of a request before its body.

    Args:
        method: The method on the request line.
        path: The path on the wire, percent-encoded, without the query.
        query: The query on the wire, without its question mark.
        fields: Names and values of the header fields, a line each, in order.
        peer: The address that the request came from; empty where the server does not tell.
    """

    method: str
    path: str
    query: str = ""
    fields: Sequence[tuple[str, str]] = field(default=(), repr=False)
    peer: str = ""

    def values(self, name: str, /) -> Sequence[str]:
        """Look a header field up.

        Args:
            name: Its name, in any letter case.

        Returns:
            Its values, one for each line.
        """
        wanted = name.lower()
        return [value for key, value in self.fields if key.lower() == wanted]

    @property
    def schemes(self) -> frozenset[str]:
        """Name the authentication schemes of the Authorization fields, in lower case."""
        return frozenset(
            value.strip(" \t").partition(" ")[0].lower() for value in self.values("Authorization")
        )

    @property
    def authority(self) -> str:
        """Give the Host field, or HTTP/2's ``:authority``; empty where there is not exactly one."""
        hosts = self.values("Host")
        return hosts[0] if len(hosts) == 1 else ""


def check_target(request: IncomingRequest) -> None:
    """Refuse a request that neither scheme signs, or that servers read in different ways.

    Args:
        request: The request.

    Raises:
        RequestRejectedError: With status 400.
    """
    if not is_method(request.method):
        raise bad_request("the method is not an upper-case token")
    if not is_signable(request.method, request.path):
        raise bad_request("requests of this method are never signed, and so not served")
    if not request.path.startswith("/") or not request.path.isascii():
        raise bad_request("the request target is not a path")
    if has_dot_segments(request.path):
        raise bad_request("the path has dot segments, which servers read in different ways: send it without")
