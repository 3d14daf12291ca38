"""The cookies that a request's own 401s and priming have set: a load balancer may know us by them."""

from __future__ import annotations

__all__ = ["FreshCookies", "merge_cookies"]

from http.cookiejar import CookieJar
from urllib.parse import urlsplit


class FreshCookies(CookieJar):
    """Keep cookies, and the names of those that a response has deleted."""

    def __init__(self) -> None:
        super().__init__()
        self._deleted: set[tuple[str, str, str]] = set()

    def clear(self, domain: str | None = None, path: str | None = None, name: str | None = None) -> None:
        """Note which cookie a response deletes; called by the jar itself (RFC 6265 section 5.3)."""
        self._deleted.add((domain or "", path or "", name or ""))
        super().clear(domain, path, name)

    def deleted_for(self, url: str) -> set[str]:
        """List the deleted cookies that a request would have had.

        Args:
            url: The request's URL.

        Returns:
            Their names.
        """
        parts = urlsplit(url)
        host, target = (parts.hostname or "").lower(), parts.path or "/"
        return {
            name
            for domain, path, name in self._deleted
            if _is_within(host, domain) and _is_below(target, path)
        }


def merge_cookies(existing: str | None, fresh: str | None, deleted: set[str]) -> str:
    """Put fresh cookies in the place of those of the same names, and leave the others as they are written.

    Args:
        existing: The Cookie field that the request had.
        fresh: The Cookie field that the fresh cookies make.
        deleted: The names of deleted cookies.

    Returns:
        The Cookie field to send, empty for none.
    """
    replaced = deleted | {pair.partition("=")[0].strip() for pair in (fresh or "").split(";")}
    pairs = [pair.strip() for pair in (existing or "").split(";")]
    kept = [pair for pair in pairs if pair and pair.partition("=")[0] not in replaced]
    return "; ".join([*kept, fresh] if fresh else kept)


def _is_below(target: str, path: str) -> bool:
    """Match a path with a cookie's (RFC 6265 section 5.1.4)."""
    return target == path or target.startswith(path if path.endswith("/") else f"{path}/")


def _is_within(host: str, domain: str) -> bool:
    """Match a host with a cookie's domain, as the jar writes it: with a dot where subdomains are meant."""
    # The jar writes a host without dots as host.local.
    names = {host, f"{host}.local"} if "." not in host else {host}
    bare = domain.lstrip(".")
    return bare in names or (domain.startswith(".") and host.endswith(domain))
