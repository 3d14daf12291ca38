"""The Authorization field: build it, read it (section 5; section 10, step 1)."""

from __future__ import annotations

__all__ = ["FIELD", "Credentials", "is_ours", "nonce_of", "read_credentials", "write_credentials"]

from collections.abc import Sequence
from dataclasses import dataclass, field

from .._base64 import encode_base64
from ..errors import MalformedFieldError
from .grammar import Dialect, cut_challenges, read_parameters, write_parameters
from .work import SCHEMES, names_our_scheme

FIELD = "Authorization"
"""Where credentials stand (RFC 9110 section 11.6.2)."""

_SIZE_LIMIT = 8 * 1024  # characters, section 10, step 1
_PARAMETER_LIMIT = 32  # four have a meaning
_SIGNATURE_SIZE = 64  # bytes, RFC 8032 section 5.1.6
_PUBLIC_KEY_SIZE = 32  # bytes

# In list dialect the schemes are written capitalised (section 5).
_CAPITALISED = {scheme: "-".join(word.capitalize() for word in scheme.split("-")) for scheme in SCHEMES}

_NAMES = ("identity", "nonce", "response", "signature")
_DIALECTS: tuple[Dialect, ...] = ("deployed", "list")
_TEMPLATES = {
    dialect: write_parameters({name: f"{{{name}}}" for name in _NAMES}, dialect) for dialect in _DIALECTS
}


@dataclass(slots=True)
class Credentials:
    """Hold one credential, as far as it is made.

    Args:
        scheme: The authentication scheme, lower case.
        identity: The raw public key, 32 bytes.
        nonce: The nonce exactly as received.
        dialect: The dialect to write, or the one read.
        response: The proof of work.
        signature: 64 bytes.
    """

    scheme: str
    identity: bytes
    nonce: str = field(repr=False)
    dialect: Dialect = "deployed"
    response: str = field(repr=False, default="")
    signature: bytes = field(repr=False, default=b"")


def write_credentials(credentials: Credentials) -> str:
    """Write the field's value.

    Args:
        credentials: With response and signature.

    Returns:
        The value, in the credentials' dialect.
    """
    written = _TEMPLATES[credentials.dialect].format(
        identity=encode_base64(credentials.identity),
        nonce=credentials.nonce,
        response=credentials.response,
        signature=encode_base64(credentials.signature),
    )
    scheme = credentials.scheme if credentials.dialect == "deployed" else _CAPITALISED[credentials.scheme]
    return f"{scheme} {written}"


def is_ours(value: str) -> bool:
    """Tell whether a field value is a credential of ours rather than of another scheme.

    Args:
        value: A value of ``Authorization``.

    Returns:
        True when its scheme is one of ours.
    """
    return value.strip(" \t").partition(" ")[0].lower() in SCHEMES


def read_credentials(lines: Sequence[str]) -> Credentials | None:
    """Read the credentials of a request.

    Args:
        lines: The values of ``Authorization``, one for each field line.

    Returns:
        The credentials, None when there is no field or only other schemes'.

    Raises:
        MalformedFieldError: If one of ours is malformed, or is not the only credential.
    """
    if not any(names_our_scheme(line) for line in lines):
        return None
    if sum(map(len, lines)) > _SIZE_LIMIT:
        raise MalformedFieldError(f"{FIELD}: over {_SIZE_LIMIT} characters", field=FIELD)
    credentials = [credential for line in lines for credential in cut_challenges(line)]
    if not any(scheme in SCHEMES for scheme, _ in credentials):
        return None
    if len(credentials) > 1:
        raise MalformedFieldError(f"{FIELD}: more than one credential", field=FIELD)
    scheme, text = credentials[0]
    parameters = read_parameters(text, FIELD, most=_PARAMETER_LIMIT)
    response = parameters.require("response")
    if not response.isascii():
        raise MalformedFieldError(f"{FIELD}: response is not ASCII", field=FIELD)
    return Credentials(
        scheme,
        parameters.octets("identity", _PUBLIC_KEY_SIZE),
        parameters.nonce("nonce"),
        parameters.dialect,
        response,
        parameters.octets("signature", _SIGNATURE_SIZE),
    )


def nonce_of(authorization: str | None) -> str:
    """Give the nonce of a credential of ours.

    Args:
        authorization: A value of ``Authorization``, None where there is no field.

    Returns:
        The nonce, empty where there is none.
    """
    try:
        credentials = read_credentials([authorization] if authorization else [])
    except MalformedFieldError:
        return ""
    return credentials.nonce if credentials else ""
