"""Sign the requests of requests' sessions."""

from __future__ import annotations

__all__ = ["SelfSignedTokenAuth", "TunedDigestAuth"]

from ._client.families.requests import FamilyAuth, FamilyTokenAuth, RequestsFamily
from .errors import MissingExtraError

try:
    import requests
    import urllib3
    from requests.auth import AuthBase as RequestsAuthBase
except ImportError as error:
    raise MissingExtraError(
        "requests is not installed: pip install 'tuned-digest[requests]'", extra="requests"
    ) from error


_FAMILY = RequestsFamily(requests, urllib3)


class TunedDigestAuth(FamilyAuth, RequestsAuthBase):  # noqa: D101
    __doc__ = FamilyAuth.__doc__

    _family = _FAMILY

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request if there is a nonce for it, and answer its challenges.

        Args:
            r: The request, prepared.

        Returns:
            It.

        Raises:
            TunedDigestError: Also a `requests.RequestException`, if it cannot be signed.
        """
        signed: requests.PreparedRequest = self._sign(r)
        return signed

    def prime(self, session: requests.Session, *, method: str | None = None, path: str | None = None) -> bool:
        """Get a nonce for every scope of each served origin, with a signed request without a body.

        Before a large upload that saves sending it just to be challenged: auth objects of requests see no
        session, and cannot do it themselves.

        Args:
            session: The session to send it with.
            method: The request's method, None for ``Resources.prime_method``; where it brings no nonce a GET
                follows, its response left unread.
            path: The path it goes to, None for ``Resources.prime_path``.

        Returns:
            True when every origin sent next nonces.

        Raises:
            ArgumentError: If no origin is named.
            TunedDigestError: Also a `requests.RequestException`, if the request cannot be signed.
        """
        return self._prime(session, method, path)


class SelfSignedTokenAuth(FamilyTokenAuth, RequestsAuthBase):  # noqa: D101
    __doc__ = FamilyTokenAuth.__doc__

    _family = _FAMILY

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request.

        Args:
            r: The request, prepared.

        Returns:
            It.

        Raises:
            TunedDigestError: Also a `requests.RequestException`, if it cannot be signed.
        """
        signed: requests.PreparedRequest = self._sign(r)
        return signed
