"""Profiles: what is worked over, what is signed, and which fields carry it (sections 3, 5 and 9).

Both ends use a profile through the four answers below, and know nothing else of it. A further profile is
one more file here, and one more name in `PROFILES`.
"""

from __future__ import annotations

__all__ = ["PROFILES", "Profile"]

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..credentials import Credentials
from ..request import FieldValues, SignedRequest
from .deployed import Deployed


class Profile(Protocol):
    """Say how a request is worked over, signed, written and read."""

    @property
    def schemes(self) -> tuple[str, ...]:
        """List the schemes that a client answers by itself, in order of preference."""
        ...

    def asked_by(self, parameters: Mapping[str, str]) -> Profile | None:
        """Tell whether a challenge or a next nonce asks for this profile.

        Args:
            parameters: Its parameters, names in lower case.

        Returns:
            The profile as asked for, None where these parameters ask for another.
        """
        ...

    def asking(self) -> Mapping[str, str]:
        """Give the parameters that ask for it, written behind all others.

        Returns:
            The parameters, none for the deployed profile.
        """
        ...

    def work_string(self, request: SignedRequest, credentials: Credentials) -> bytes:
        """Build the string that the work is done over.

        Args:
            request: The request, its body digested.
            credentials: The nonce and the identity.

        Returns:
            The string.

        Raises:
            ArgumentError: If the request cannot be signed.
        """
        ...

    def signed_bytes(self, request: SignedRequest, credentials: Credentials) -> bytes:
        """Build the bytes that are signed.

        Args:
            request: The request; on a server its body has not been read.
            credentials: With the response.

        Returns:
            The bytes.
        """
        ...

    def write(self, request: SignedRequest, credentials: Credentials) -> Sequence[tuple[str, str]]:
        """Write the fields that carry the credentials.

        Args:
            request: The request.
            credentials: With response and signature.

        Returns:
            Names and values, each to replace what the request has under that name.
        """
        ...

    def read(self, values: FieldValues) -> Credentials | None:
        """Read the credentials of a request.

        Args:
            values: The request's header fields.

        Returns:
            The credentials, None where there are none of this profile.

        Raises:
            MalformedFieldError: If there are, and they break the grammar.
        """
        ...


PROFILES: tuple[Profile, ...] = (Deployed(),)
"""Each is asked in turn; the deployed profile, which nothing asks for, comes last."""
