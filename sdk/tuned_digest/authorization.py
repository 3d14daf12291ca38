"""The Authorization field: build it, read it (section 5; section 10, step 1)."""

from __future__ import annotations

__all__ = ["Authorization", "is_ours", "nonce_of", "read_authorization"]

from collections.abc import Iterable
from dataclasses import dataclass, field

from ._grammar import (
    SCHEMES,
    Dialect,
    check_size,
    cut_challenges,
    encode_base64,
    names_our_scheme,
    read_parameters,
    write_parameters,
)
from .errors import MalformedFieldError

_FIELD = "Authorization"
_SIGNATURE_SIZE = 64  # bytes, RFC 8032 section 5.1.6
_PUBLIC_KEY_SIZE = 32  # bytes

# In list dialect the schemes are written capitalised (section 5).
_CAPITALISED = {scheme: "-".join(word.capitalize() for word in scheme.split("-")) for scheme in SCHEMES}


@dataclass(frozen=True, slots=True)
class Authorization:
    """Hold one credential.

    Args:
        scheme: The authentication scheme, lower case.
        identity: The raw public key, 32 bytes.
        nonce: The nonce exactly as received.
        response: The proof of work.
        signature: Over the ASCII bytes of `response`, 64 bytes.
        dialect: The dialect to write, or the one read.
    """

    scheme: str
    identity: bytes
    nonce: str = field(repr=False)
    response: str = field(repr=False)
    signature: bytes = field(repr=False)
    dialect: Dialect = "deployed"

    def __str__(self) -> str:
        """Write the field's value."""
        parameters = {
            "identity": encode_base64(self.identity),
            "nonce": self.nonce,
            "response": self.response,
            "signature": encode_base64(self.signature),
        }
        scheme = self.scheme if self.dialect == "deployed" else _CAPITALISED[self.scheme]
        return f"{scheme} {write_parameters(parameters, self.dialect)}"


def is_ours(value: str) -> bool:
    """Tell whether a field value is a credential of ours rather than of another scheme.

    Args:
        value: A value of ``Authorization``.

    Returns:
        True when its scheme is one of ours.
    """
    return value.strip(" \t").partition(" ")[0].lower() in SCHEMES


def read_authorization(values: Iterable[str]) -> Authorization | None:
    """Read the credential of a request.

    Args:
        values: The values of ``Authorization``, one for each field line.

    Returns:
        The credential, None when there is no field or only other schemes'.

    Raises:
        MalformedFieldError: If one of ours is malformed, or is not the only credential.
    """
    lines = list(values)
    if not any(names_our_scheme(value) for value in lines):
        return None
    for value in lines:
        check_size(value, _FIELD)
    credentials = [credential for value in lines for credential in cut_challenges(value)]
    if not any(scheme in SCHEMES for scheme, _ in credentials):
        return None
    if len(credentials) > 1:
        raise MalformedFieldError(f"{_FIELD}: more than one credential", field=_FIELD)
    scheme, text = credentials[0]
    parameters = read_parameters(text, _FIELD)
    response = parameters.require("response")
    if not response.isascii():
        raise MalformedFieldError(f"{_FIELD}: response is not ASCII", field=_FIELD)
    return Authorization(
        scheme,
        parameters.octets("identity", _PUBLIC_KEY_SIZE),
        parameters.nonce("nonce"),
        response,
        parameters.octets("signature", _SIGNATURE_SIZE),
        parameters.dialect,
    )


def nonce_of(authorization: str | None) -> str:
    """Give the nonce of a credential of ours.

    Args:
        authorization: A value of ``Authorization``, None where there is no field.

    Returns:
        The nonce, empty where there is none.
    """
    try:
        credential = read_authorization([authorization] if authorization else [])
    except MalformedFieldError:
        return ""
    return credential.nonce if credential else ""
