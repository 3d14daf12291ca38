"""How the messages of the requests family are read and written; the library is a value here as well."""

from __future__ import annotations

__all__ = ["Messages", "bare", "copied_request", "text"]

import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urljoin, urlsplit

from ..._wire.origins import Origin
from ..._wire.request import FieldValues, split_target
from ...errors import ArgumentError
from ...events import Report
from ..bodies import Body, BytesBody, LostBody, RepeatableBody, SpooledBody, file_chunks, is_rewindable
from ..carriage import Carriage
from ..cookies import FreshCookies, merge_cookies
from ..exchange import Fields, Target
from .heads import Head

_KEEPING_BODIES = frozenset({307, 308})  # of the redirects that requests follows

_CHUNK = 64 * 1024  # bytes read from a file at a time

# Bytes of a 401's body read at a time: compressed, they may unpack to a thousand times more.
_HEAD_CHUNK = 4096

# A URL without user and encodings, whose target urllib3 sends as it stands: it has no dot segment.
_PLAIN_URL = re.compile(
    r"(https?://[A-Za-z0-9.:\[\]-]++)"
    r"((?:/(?!\.)[A-Za-z0-9._~!$&'()*+,;=:@-]*+)++(?:\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]*+)?)"
)


class Messages:
    """Read and write the library's messages."""

    def __init__(self, family: Any, carriage: Carriage, own: str | None) -> None:
        self._family = family
        self._resources = carriage.resources
        self._clock = carriage.clock
        self._is_ours = carriage.is_ours
        self._field = carriage.field
        self._further = carriage.further
        self._own = own

    def target(self, request: Any) -> Target | None:
        url: str = request.url or ""
        plain = _PLAIN_URL.fullmatch(url)
        if plain:
            origin, target = _origin_of(plain[1]), plain[2]
        else:
            origin = _origin_of(url)
            try:
                target = self._family.urllib3.util.parse_url(url).request_uri  # as urllib3 will write it
            except self._family.urllib3.exceptions.LocationParseError:
                return None
        if target.startswith("//") and self._family.joins_slashes:
            target = "/" + target.lstrip("/")
        return Target(request.method or "", origin, *split_target(target)) if origin else None

    def authorization(self, request: Any) -> str | None:
        value = text(request.headers.get(self._field))
        # requests puts a password from .netrc in the place of what a redirected request had.
        return value if value == self._own or self._is_ours(value or "") else None

    def body(self, request: Any, *, was_sent: bool) -> Body:
        body = request.body
        if isinstance(body, RepeatableBody):
            return body
        if isinstance(body, str):
            body = request.body = body.encode()  # as urllib3 would send it
        if not body:
            return BytesBody(b"")
        if isinstance(body, bytes | bytearray | memoryview):
            return BytesBody(bytes(body))
        if was_sent:
            return LostBody()
        request.body = repeatable = self._repeatable(body)
        # The name is requests' own.
        request._body_position = 0  # a redirect may send it again, if this is a number and there is a seek
        return repeatable

    def _repeatable(self, body: Any) -> RepeatableBody:
        if is_rewindable(body):
            return RepeatableBody(file_chunks(body))
        return SpooledBody(
            _chunks(body), memory_kib=self._resources.spool_kib, directory=self._resources.spool_dir
        )

    def request_fields(self, request: Any) -> FieldValues:
        def values(name: str, /) -> Sequence[str]:
            value = text(request.headers.get(name))
            return () if value is None else (value,)

        return values

    def authorize(self, request: Any, fields: Fields | None) -> Any:
        headers, body = request.headers, request.body
        if fields is not None:
            for name, value in fields:
                headers[name] = value
        elif self._is_ours(self.authorization(request) or ""):
            del headers[self._field]
        if body is not None and "Content-Length" in headers:
            if isinstance(body, RepeatableBody):
                # The library counts the characters of a text file, not the bytes they are sent as.
                headers["Content-Length"] = str(body.size)
            headers.pop("Transfer-Encoding", None)  # never both (RFC 9112 section 6.2)
        return request

    def request(self, response: Any) -> Any:
        return response.request

    def status(self, response: Any) -> int:
        status: int = response.status_code
        return status

    def fields(self, response: Any) -> FieldValues:
        def values(name: str, /) -> Sequence[str]:
            if isinstance(response.raw, _ResumedRaw | self._family.urllib3.BaseHTTPResponse):
                return list(response.raw.headers.getlist(name))  # response.headers has them merged
            return [response.headers[name]] if name in response.headers else []

        return values

    def head(self, response: Any) -> bytes:
        try:
            response.raw = _ResumedRaw(response.raw, self._family.urllib3, Head(self._clock))
        except self._family.urllib3.exceptions.HTTPError as error:
            raise self._family.library.ConnectionError(
                error, request=response.request, response=response
            ) from error
        head: bytes = response.raw.head
        return head

    def again(self, response: Any) -> Any:
        if not isinstance(response.raw, _ResumedRaw):
            self.head(response)
        cast("_ResumedRaw", response.raw).forget_rest()
        response.close()
        request = response.request.copy()
        request.prepare_url(request.url or "", {})  # after a redirect it is not yet as it will be sent
        cookie_functions, fresh = self._family.library.cookies, FreshCookies()
        cookie_functions.extract_cookies_to_jar(fresh, response.request, response.raw)
        cookies = merge_cookies(
            text(request.headers.pop("Cookie", None)),
            cookie_functions.get_cookie_header(fresh, request),
            fresh.deleted_for(request.url or ""),
        )
        if cookies:
            request.headers["Cookie"] = cookies
        return request

    def attach(self, response: Any, report: Report) -> None:
        response.tuned_digest = report

    def forget_ours(self, sent: Any) -> None:
        """Take our field off a request that was sent: no nonce goes out twice.

        The library makes the next hop from it, and its owner may send it again. The response's own copy keeps
        the field.
        """
        sent.headers = _copied(sent.headers)  # another thread may be writing the old ones to its socket
        if self._is_ours(self.authorization(sent) or ""):
            del sent.headers[self._field]
            for name in self._further:
                if self._is_ours(text(sent.headers.get(name)) or ""):
                    del sent.headers[name]

    def next_url(self, response: Any) -> str | None:
        """Find where the library sends the next request of a call; None where the call ends."""
        if not response.is_redirect:
            return None
        library = self._family.library
        location = library.sessions.SessionRedirectMixin().get_redirect_target(response)
        with suppress(ValueError):  # a location that is no URL is the library's own matter
            return bare(urljoin(response.url, library.utils.requote_uri(location)))
        return None

    def following(self, response: Any, sent: Any, url: str) -> Any:
        """Give the request that the library makes of a redirect; it shares its header fields with `sent`."""
        following = copied_request(sent)
        following.url = url
        self._family.library.sessions.SessionRedirectMixin().rebuild_method(following, response)
        if response.status_code not in _KEEPING_BODIES:
            following.body = None
        return following


class _ResumedRaw:
    """A urllib3 response whose beginning was read already, decoded; everything else is as it was."""

    def __init__(self, raw: Any, urllib3: Any, head: Head) -> None:
        self._raw = raw
        read = raw.read1 if isinstance(raw, urllib3.BaseHTTPResponse) else raw.read  # what has come so far
        # What does not come, or is not what its coding says, is not needed.
        with suppress(urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.DecodeError):
            while chunk := read(_HEAD_CHUNK, decode_content=True):
                if head.is_full(chunk):
                    break
        self.head = bytes(head.content)
        self._unread = self.head
        self._rest_wanted = True

    def forget_rest(self) -> None:
        """Let what was read be all there is."""
        self._rest_wanted = False

    def read(self, amount: int | None = None, decode_content: bool | None = None) -> bytes:
        """Give the beginning again, then the rest, decoded throughout."""
        if self._unread and amount is not None:
            given = self._unread[:amount]
            self._unread = self._unread[amount:]
            return given
        given = self._unread
        self._unread = b""
        rest: bytes = self._raw.read(amount, decode_content=True) if self._rest_wanted else b""
        return given + rest

    def stream(self, amount: int = _CHUNK, decode_content: bool | None = None) -> Iterator[bytes]:
        """Give the beginning again, then the rest, chunk by chunk."""
        # Not urllib3's stream(): that would look for a chunk's size where the reading has stopped.
        yield from iter(lambda: self.read(amount), b"")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


@functools.lru_cache(maxsize=256)
def _origin_of(url: str) -> Origin | None:
    try:
        return Origin.parse(url)
    except ArgumentError:
        return None


def _copied(headers: Any) -> Any:
    """Copy header fields; by way of what holds them, since their own copy goes through Python for each."""
    store = getattr(headers, "_store", None)
    if store is None:  # the name is requests' own
        return headers.copy()
    copied = type(headers)()
    copied._store = store.copy()
    return copied


def copied_request(request: Any) -> Any:
    """Copy a request that was sent, and nothing that takes longer."""
    copied = object.__new__(type(request))
    vars(copied).update(vars(request))
    return copied


def bare(url: str) -> str:
    """Take the fragment off a URL."""
    return urlsplit(url)._replace(fragment="").geturl()


def text(value: str | bytes | None) -> str | None:
    """Decode a header field's value, which may be bytes."""
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _chunks(body: Any) -> Iterable[bytes | str]:
    if not hasattr(body, "read"):
        return cast("Iterable[bytes | str]", body)
    return iter(lambda: body.read(_CHUNK), type(body.read(0))())
