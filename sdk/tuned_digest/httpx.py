"""Sign the requests of httpx clients, sync and async."""

from __future__ import annotations

__all__ = ["SelfSignedTokenAuth", "TunedDigestAuth"]

from collections.abc import Awaitable
from typing import overload

from ._client.families.httpx import FamilyAuth, FamilyTokenAuth, HttpxFamily
from .errors import MissingExtraError

try:
    import httpx
except ImportError as error:
    raise MissingExtraError(
        "httpx is not installed: pip install 'tuned-digest[httpx]'", extra="httpx"
    ) from error


_FAMILY = HttpxFamily(httpx)


class TunedDigestAuth(FamilyAuth, httpx.Auth):  # noqa: D101
    __doc__ = FamilyAuth.__doc__

    _family = _FAMILY

    @overload
    def prime(self, client: httpx.Client, *, method: str | None = None, path: str | None = None) -> bool: ...

    @overload
    def prime(
        self, client: httpx.AsyncClient, *, method: str | None = None, path: str | None = None
    ) -> Awaitable[bool]: ...

    def prime(
        self,
        client: httpx.Client | httpx.AsyncClient,
        *,
        method: str | None = None,
        path: str | None = None,
    ) -> bool | Awaitable[bool]:
        """Get a nonce for every scope of each served origin, with a signed request without a body.

        Args:
            client: The client to send it with; its result is awaited where it is an async one.
            method: The request's method, None for ``Resources.prime_method``; where it brings no nonce a GET
                follows, its response left unread.
            path: The path it goes to, None for ``Resources.prime_path``.

        Returns:
            True when every origin sent next nonces.

        Raises:
            ArgumentError: If no origin is named.
            TunedDigestError: Also an `httpx.RequestError`, if the request cannot be signed.
        """
        return self._prime(client, method, path)


class SelfSignedTokenAuth(FamilyTokenAuth, httpx.Auth):  # noqa: D101
    __doc__ = FamilyTokenAuth.__doc__

    _family = _FAMILY
