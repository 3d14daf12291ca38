"""A URL's origin, and which origins an auth object serves (section 7).

A nonce is good only at the origin that issued it, and no other origin is ever signed for: two
spellings of one origin must compare equal, and two origins never.
"""

from __future__ import annotations

__all__ = ["Origin", "ServedOrigins"]

import functools
import ipaddress
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from ..errors import ArgumentError

_DEFAULT_PORTS = {"http": 80, "https": 443}

# The characters IDNA 2003 (the standard library's) and IDNA 2008 encode differently: RFC 5894 section 7.2.
_AMBIGUOUS_IN_IDNA = frozenset("\u00df\u03c2\u200c\u200d")


class Origin(NamedTuple):
    """Name a scheme, host and port, each in one spelling (RFC 6454)."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, scheme: str, host: str, port: int | None) -> Origin:
        """Reduce the parts of a URL to an origin.

        Args:
            scheme: ``http`` or ``https``, any letter case.
            host: A name, or an address; an IPv6 literal with or without its brackets.
            port: The port, or None for the scheme's own.

        Returns:
            The origin: lower case, A-labels, the address in its shortest form, the port filled in.

        Raises:
            ArgumentError: If the scheme is another or the host is not one.
        """
        scheme = scheme.lower()
        if scheme not in _DEFAULT_PORTS:
            raise ArgumentError(f"an origin begins with https:// or http://, not with {scheme!r}")
        return cls(scheme, _reduced_host(host), port if port is not None else _DEFAULT_PORTS[scheme])

    @staticmethod
    @functools.lru_cache(maxsize=256)
    def known(scheme: str, host: str, port: int | None) -> Origin | None:
        """Reduce the parts of a URL to an origin, and remember it: clients ask with every request.

        Args:
            scheme: The scheme.
            host: The host.
            port: The port, or None for the scheme's own.

        Returns:
            The origin, None where `of` says that they make none.
        """
        try:
            return Origin.of(scheme, host, port)
        except ArgumentError:
            return None

    @classmethod
    def parse(cls, url: str) -> Origin:
        """Reduce a URL to its origin, whatever its path.

        Args:
            url: An absolute URL.

        Returns:
            The origin.

        Raises:
            ArgumentError: If the URL has no http or https scheme, no host or an impossible port.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ArgumentError(f"not a URL: {error}") from None
        return cls.of(parts.scheme, host or "", port)

    @property
    def authority(self) -> str:
        """Give host and port as a Host field has them: without the scheme's own port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Tell whether requests to this origin stay on this machine (RFC 6761 section 6.3)."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


class ServedOrigins:
    """Decide which origins an auth object signs for.

    Args:
        origins: One origin or several, each a scheme and host; ``"*"`` for any.
        allow_http: Also serve plain http beyond loopback.

    Raises:
        ArgumentError: If an origin has a path, a query or userinfo, or is plain http beyond loopback.
    """

    def __init__(self, origins: str | Iterable[str], *, allow_http: bool = False) -> None:
        if isinstance(origins, str):
            origins = (origins,)
        written = tuple(origins) if isinstance(origins, Iterable) else ()
        if not written or not all(isinstance(origin, str) for origin in written):
            raise ArgumentError('origin is text, one or several: "https://api.example.com", or "*" for any')
        self._any = "*" in written
        self._allow_http = allow_http
        self._listed = frozenset(self._checked(text) for text in written if text != "*")

    def serves(self, origin: Origin, *, since: Origin | None) -> bool:
        """Tell whether requests to an origin are signed.

        Args:
            origin: Where the request goes.
            since: Where the first request of a chain of redirects went, None where that was no origin:
                ``"*"`` does not follow a redirect to another origin, only origins named one by one do.

        Returns:
            True when they are.
        """
        if origin in self._listed:
            return True
        return self._any and origin == since and self._is_safe(origin)

    @property
    def listed(self) -> list[Origin]:
        """List the origins that are named one by one."""
        return sorted(self._listed, key=str)

    def __str__(self) -> str:
        names = [str(origin) for origin in self.listed]
        return ", ".join(["any origin that a call begins at", *names] if self._any else names)

    def _checked(self, text: str) -> Origin:
        origin = Origin.parse(text)
        parts = urlsplit(text)
        if parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
            raise ArgumentError(f"an origin is a scheme and a host alone: pass {str(origin)!r}")
        if not self._is_safe(origin):
            raise ArgumentError(
                f"{origin} is plain http: anyone on the way could change requests; "
                "use https, or pass allow_http=True"
            )
        return origin

    def _is_safe(self, origin: Origin) -> bool:
        return self._allow_http or origin.scheme == "https" or origin.is_loopback


def _reduced_host(host: str) -> str:
    host = host.strip("[]")
    if "%" in host:  # an IPv6 zone, which means something on one machine alone (RFC 9844), or an encoded name
        raise ArgumentError(f"{host!r} is not a host that an origin can have")
    try:
        return ipaddress.ip_address(host).compressed
    except ValueError:
        pass
    if not host.isascii():
        if _AMBIGUOUS_IN_IDNA & set(host):
            raise ArgumentError(f"{host!r} has two encodings in use: write its A-label (xn--...)")
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise ArgumentError(f"{host!r} is not a host name: {error}") from None
    if not host or any(character in "/?#@\\:*" or character <= " " for character in host):
        raise ArgumentError(f"{host!r} is not a host")
    return host.lower()
