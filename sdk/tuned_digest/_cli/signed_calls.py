"""Signed requests of a device to an accounts application, and answers that are read with care.

Whatever a server answers, each request ends after 30 s and keeps 1 MiB at most, and what is wrong is said in
one line.
"""

from __future__ import annotations

__all__ = ["Reply", "SignedCalls", "UnansweredError", "checked_url"]

import functools
import json
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio.from_thread import start_blocking_portal

from .._wire.origins import Origin
from ..errors import ArgumentError, EnrolmentError, MissingExtraError, TunedDigestError
from ..keys import Ed25519Signer, PrivateKeySigner
from .showing import shown

try:
    import httpx
except ImportError as error:
    raise MissingExtraError(
        "httpx is not installed: pip install 'tuned-digest[httpx,tokens]'", extra="httpx"
    ) from error

from ..httpx import SelfSignedTokenAuth

_TIMEOUT = 30.0  # seconds for a request and its answer, whole
_ANSWER_LIMIT = 1024 * 1024  # bytes; 256 keys have about 100 KiB
_LATER = (429, 502, 503, 504)  # status codes that say nothing about the request

_HINTS = {
    "token refused": "is the key enrolled and not revoked, and is this the address that the server printed?",
    "no such path": "is it mounted elsewhere? tuned-digest serve has it at /account",
}
"""What to do about a refusal, by its reason."""


class UnansweredError(TunedDigestError):
    """Report a request that had no answer now, and may have one later."""


@dataclass(frozen=True)
class Reply:
    """Hold what a server answered.

    Args:
        status: The status code, of those that were expected.
        members: The members of its JSON object; none where there is no content.
    """

    status: int
    members: dict[str, Any] = field(repr=False)


class SignedCalls:
    """Send requests of one key of an account.

    Args:
        url: Where the accounts application is mounted, as `checked_url` gives it.
        account: The account.
        signer: The key.

    Raises:
        IdentityError: If the key cannot be enrolled.
        MissingExtraError: If joserfc is not installed.
    """

    def __init__(self, url: str, account: str, signer: Ed25519Signer | PrivateKeySigner) -> None:
        self.url = url
        origin = Origin.parse(url)
        self._may_use_proxy = not origin.is_loopback  # which plain http is, and a proxy could read it
        self._auth = SelfSignedTokenAuth(str(origin), signer, account=account)

    def send(
        self, method: str, path: str, content: dict[str, object] | None = None, *, wanted: tuple[int, ...]
    ) -> Reply:
        """Send a request, once.

        Args:
            method: The method.
            path: The path below the place where the application is mounted.
            content: The members of the JSON object to send; None for no content.
            wanted: The status codes that are expected.

        Returns:
            The answer, with one of these.

        Raises:
            EnrolmentError: If the server refuses, with its reason.
            UnansweredError: If there is no answer now.
            TunedDigestError: If the answer is not one of the accounts application.
        """
        status, body = self._exchanged(method, path, content)
        if 300 <= status < 400:
            raise TunedDigestError(
                f"{self.url} redirects to another address, which is not followed: give the address itself"
            )
        members = _members(body)
        if status in wanted and members is not None:
            return Reply(status, members)
        raise self._refused(status, members or {})

    def unexpected(self) -> TunedDigestError:
        """Make the error of an answer that the accounts application does not give.

        Returns:
            The error, to be raised.
        """
        return TunedDigestError(
            f"{self.url} does not answer as the accounts application does: is it the right address?"
        )

    def _exchanged(self, method: str, path: str, content: dict[str, object] | None) -> tuple[int, bytes]:
        try:
            with start_blocking_portal() as portal:  # an event loop, also where this thread runs one
                return portal.call(self._exchange, method, path, content)
        except TimeoutError:
            raise UnansweredError(f"{self.url} did not answer in {_TIMEOUT:.0f} s") from None
        except TunedDigestError:  # also those that are httpx's as well
            raise
        except UnicodeError:  # an argument that was no text, which Python holds as lone surrogates
            raise ArgumentError("what was given cannot be written in UTF-8: look at its letters") from None
        except httpx.TransportError as error:
            raise UnansweredError(f"{self.url} cannot be reached: {shown(error)}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TunedDigestError(f"{self.url} cannot be used: {shown(error)}") from None

    async def _exchange(self, method: str, path: str, content: dict[str, object] | None) -> tuple[int, bytes]:
        body = bytearray()
        with anyio.fail_after(_TIMEOUT):
            # What is not compressed cannot grow.
            fields = {"Accept": "application/json", "Accept-Encoding": "identity"}
            async with (
                httpx.AsyncClient(
                    auth=self._auth,
                    timeout=_TIMEOUT,
                    headers=fields,
                    trust_env=self._may_use_proxy,
                    verify=_tls(),
                ) as client,
                client.stream(method, self.url + path, json=content) as response,
            ):
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _ANSWER_LIMIT:
                        raise self.unexpected()
                return response.status_code, bytes(body)

    def _refused(self, status: int, members: dict[str, Any]) -> TunedDigestError:
        message, reason = members.get("message"), members.get("reason")
        if not isinstance(message, str) or not isinstance(reason, str):
            if status in _LATER:
                return UnansweredError(f"{self.url} has no answer now, status {status}: try again later")
            return self.unexpected()
        text = f"{self.url} refuses: {shown(message)}"
        if status in _LATER:
            return UnansweredError(text)
        hint = _HINTS.get(reason)
        return EnrolmentError(f"{text} ({hint})" if hint else text, reason=shown(reason))


def checked_url(url: str) -> str:
    """Read the address of an accounts application.

    Args:
        url: What was typed.

    Returns:
        The address, without a slash at its end.

    Raises:
        ArgumentError: If codes are not sent there.
    """
    origin = Origin.parse(url)
    parts = urlsplit(url)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ArgumentError("the URL has no query, fragment or user: it says where accounts are mounted")
    if origin.scheme != "https" and not origin.is_loopback:
        raise ArgumentError(f"{origin} is plain http, where others could read a code: use https")
    return f"{origin}{parts.path.rstrip('/')}"


@functools.cache
def _tls() -> ssl.SSLContext:
    """Read the certificates that are trusted, once: a device that waits asks hundreds of times."""
    return httpx.create_ssl_context()


def _members(body: bytes) -> dict[str, Any] | None:
    """Read an answer: None where it is no JSON object."""
    if not body:
        return {}
    try:
        members = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return members if isinstance(members, dict) else None
