"""The deployed profile: what existing servers and clients of the scheme speak (sections 3 and 5).

Nothing is decoded, encoded or normalised on the way from the wire into the request string.
"""

from __future__ import annotations

__all__ = ["Deployed"]

from collections.abc import Mapping

from ..._base64 import encode_base64
from ...errors import ArgumentError
from ..credentials import FIELD, Credentials, read_credentials, write_credentials
from ..request import FieldValues, SignedRequest
from ..work import SCHEMES


class Deployed:
    """Sign nonce, method, path and body digest; see `Profile`."""

    # Argon2 alone: the signature of a search covers its number and nothing of the request (section 9).
    schemes = SCHEMES[:1]

    def asked_by(self, parameters: Mapping[str, str]) -> Deployed:
        """Take every challenge that asks for nothing else."""
        return self

    def asking(self) -> Mapping[str, str]:
        """Give no parameter: a challenge without one asks for this profile."""
        return {}

    def work_string(self, request: SignedRequest, credentials: Credentials) -> bytes:
        """Build the request string: ``nonce:METHOD:path:b64(digest)``."""
        path = request.signed_path
        if not path.startswith("/") or not path.isascii():
            raise ArgumentError(f"a signed path starts with / and is percent-encoded, unlike {path!r}")
        if not request.method.isascii():
            raise ArgumentError(f"a method is a token of ASCII characters, unlike {request.method!r}")
        return f"{credentials.nonce}:{request.method}:{path}:{encode_base64(request.digest)}".encode("ascii")

    def signed_bytes(self, request: SignedRequest, credentials: Credentials) -> bytes:
        """Give the response alone."""
        return credentials.response.encode("ascii")

    def write(self, request: SignedRequest, credentials: Credentials) -> tuple[tuple[str, str]]:
        """Write the Authorization field."""
        return ((FIELD, write_credentials(credentials)),)

    def read(self, values: FieldValues) -> Credentials | None:
        """Read the Authorization field."""
        return read_credentials(values(FIELD))
