"""How the messages of the httpx family are read and written; the library is a value here as well."""

from __future__ import annotations

__all__ = ["AsyncMessages", "Resumed", "SyncMessages", "copied_request"]

import copy
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import suppress
from typing import Any, cast

from ..._wire.challenge import REASON_LIMIT
from ..._wire.origins import Origin
from ..._wire.request import FieldValues, split_target
from ...events import Report
from ..bodies import Body, BytesBody, LostBody, RepeatableBody, file_chunks, is_rewindable
from ..carriage import Carriage
from ..cookies import FreshCookies, merge_cookies
from ..exchange import Fields, Target
from .heads import Head

_OF_EVERY_REQUEST = frozenset({"host", "user-agent", "accept", "accept-encoding", "accept-language"})

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # the header says which


class Resumed:
    """A response body whose beginning was read already; a family makes a stream class of it."""

    def __init__(self, rest: Iterator[bytes] | AsyncIterator[bytes], stream: Any, head: Head) -> None:
        self.head = head
        self.is_whole = False
        self.error: Exception | None = None
        self.stream = stream
        self._rest = rest

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._rest, Iterator)
        yield bytes(self.head.content)
        if self.error is not None:
            raise self.error
        yield from self._rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._rest, AsyncIterator)
        yield bytes(self.head.content)
        if self.error is not None:
            raise self.error
        async for chunk in self._rest:
            yield chunk

    def close(self) -> None:
        self.stream.close()

    async def aclose(self) -> None:
        if isinstance(self._rest, AsyncGenerator):
            await self._rest.aclose()
        await self.stream.aclose()


class _Messages:
    """Read and write the library's messages; what is I/O differs between the two below."""

    def __init__(self, family: Any, carriage: Carriage) -> None:
        self._family = family
        self._resources = carriage.resources
        self._clock = carriage.clock
        self._is_ours = carriage.is_ours
        self._field = carriage.field
        self._cookies: FreshCookies | None = None
        self._read: tuple[Any, _FieldValues] | None = None

    def target(self, request: Any) -> Target | None:
        url = request.url
        origin = Origin.known(url.scheme, url.raw_host.decode("ascii"), url.port)
        if origin is None:
            return None
        target: bytes = request.extensions.get("target") or url.raw_path
        return Target(request.method, origin, *split_target(target.decode("latin-1")))

    def authorization(self, request: Any) -> str | None:
        values = self.request_fields(request)(self._field)
        return ", ".join(values) if values else None

    def request_fields(self, request: Any) -> _FieldValues:
        if self._read is None or self._read[0] is not request:
            self._read = request, _FieldValues(request.headers)
        return self._read[1]

    def body(self, request: Any, *, was_sent: bool) -> Body:
        stream: Any = request.stream
        if type(stream) is self._family.library.ByteStream:
            return BytesBody(request.read())  # a redirected request has its bytes but was not read
        if isinstance(stream, RepeatableBody):
            return stream
        if was_sent:
            return LostBody()
        request.stream = repeatable = self._repeatable(stream)
        return cast("Body", repeatable)

    def _repeatable(self, stream: Any) -> Any:
        # The names are the library's own; where they are others the body is spooled.
        family = self._family
        if type(stream) is family.iterated and is_rewindable(file := getattr(stream, "_stream", None)):
            return family.repeatable_stream(file_chunks(file))
        if type(stream) is family.multipart and all(
            _is_repeatable(part) for part in getattr(stream, "fields", [None])
        ):
            return family.repeatable_stream(cast("Any", stream).__iter__)
        return family.spooled_stream(
            stream, memory_kib=self._resources.spool_kib, directory=self._resources.spool_dir
        )

    def authorize(self, request: Any, fields: Fields | None) -> Any:
        # A copy: the caller may be sending the same request in another task.
        authorized = copied_request(self._family.library, request)
        headers = authorized.headers
        present = self.request_fields(request)
        if fields is not None:
            for name, value in fields:
                headers[name] = value
        elif self._is_ours(self.authorization(request) or ""):
            del headers[self._field]
        if self._cookies is not None:
            self._merge_cookies(self._cookies, headers, request.url)
        if present("Content-Length"):
            if isinstance(request.stream, RepeatableBody):
                # The library counts a file from its start, wherever it is read from.
                headers["Content-Length"] = str(request.stream.size)
            if present("Transfer-Encoding"):
                del headers["Transfer-Encoding"]  # never both (RFC 9112 section 6.2)
        return authorized

    def request(self, response: Any) -> Any:
        return response.request

    def status(self, response: Any) -> int:
        status: int = response.status_code
        return status

    def fields(self, response: Any) -> FieldValues:
        return _FieldValues(response.headers)

    def priming(self, request: Any, method: str, path: str) -> Any:
        # What may hold a secret, or is about the upload, stays behind: this may be redirected elsewhere.
        kept = {name: value for name, value in request.headers.items() if name in _OF_EVERY_REQUEST}
        extensions = {name: value for name, value in request.extensions.items() if name != "target"}
        url = request.url.copy_with(raw_path=path.encode("ascii"))
        return self._family.library.Request(method, url, headers=kept, extensions=extensions)

    def note_redirect(self, hop: Any) -> None:
        """Let the cookies of a redirect win over those of the 401s before it."""
        if self._cookies is not None:
            self._keep_cookies(hop)

    def attach(self, response: Any, report: Report) -> None:
        response.extensions["tuned_digest"] = report

    def _released(self, response: Any) -> Any:
        """Leave of the response what was read of it, and carry its cookies to the request."""
        if isinstance(response.stream, Resumed):
            resumed = response.stream
            is_plain = "Content-Encoding" not in response.headers
            self._replace_body(
                response, bytes(resumed.head.content) if resumed.is_whole and is_plain else b""
            )
        self._keep_cookies(response)
        return response.request

    def _replace_body(self, response: Any, content: bytes) -> None:
        """Leave a closed response to be read: the library reads all those it does not hand to the caller."""
        response.stream = self._family.library.ByteStream(content)
        if not content:  # not what an encoding would make of nothing
            response.headers.pop("Content-Encoding", None)

    def _content_in_memory(self, response: Any) -> bytes:
        try:
            content: bytes = response.content
        except self._family.library.ResponseNotRead:  # a hook has closed it
            return b""
        return content

    def _keep_cookies(self, response: Any) -> None:
        # Not by way of response.cookies: once that was made, the response does not pickle.
        if "Set-Cookie" in response.headers:
            if self._cookies is None:  # an empty jar is false, and may know of deletions
                self._cookies = FreshCookies()
            self._family.library.Cookies(self._cookies).extract_cookies(response)

    def _merge_cookies(self, cookies: FreshCookies, headers: Any, url: Any) -> None:
        bare = self._family.library.Request("GET", url)
        with suppress(UnicodeError):  # a cookie that the library cannot write either
            self._family.library.Cookies(cookies).set_cookie_header(bare)
        deleted = cookies.deleted_for(str(url))
        merged = merge_cookies(headers.get("Cookie"), bare.headers.get("Cookie"), deleted)
        headers.pop("Cookie", None)
        if merged:
            headers["Cookie"] = merged


class SyncMessages(_Messages):
    def head(self, response: Any) -> bytes:
        if response.is_stream_consumed or response.is_closed:
            return self._content_in_memory(response)
        rest = iter(response.stream)
        response.stream = resumed = self._family.resumed_stream(rest, response.stream, Head(self._clock))
        try:
            for chunk in rest:
                if resumed.head.is_full(chunk):
                    break
            else:
                resumed.is_whole = True
        except self._family.library.TimeoutException as error:  # what does not come is not needed here
            resumed.error = error
        return _decoded(response, resumed)

    def again(self, response: Any) -> Any:
        if not isinstance(response.stream, Resumed):
            self.head(response)
        if isinstance(response.stream, Resumed):
            response.stream.close()
        return self._released(response)

    def release(self, response: Any, *, keep_cookies: bool) -> None:
        if keep_cookies:
            self._keep_cookies(response)
        if not response.is_closed:
            response.stream.close()
            self._replace_body(response, b"")


class AsyncMessages(_Messages):
    async def head(self, response: Any) -> bytes:
        if response.is_stream_consumed or response.is_closed:
            return self._content_in_memory(response)
        rest = aiter(response.stream)
        response.stream = resumed = self._family.resumed_stream(rest, response.stream, Head(self._clock))
        try:
            async for chunk in rest:
                if resumed.head.is_full(chunk):
                    break
            else:
                resumed.is_whole = True
        except self._family.library.TimeoutException as error:
            resumed.error = error
        return _decoded(response, resumed)

    async def again(self, response: Any) -> Any:
        if not isinstance(response.stream, Resumed):
            await self.head(response)
        if isinstance(response.stream, Resumed):
            await response.stream.aclose()
        return self._released(response)

    async def release(self, response: Any, *, keep_cookies: bool) -> None:
        if keep_cookies:
            self._keep_cookies(response)
        if not response.is_closed:
            await response.stream.aclose()
            self._replace_body(response, b"")


class _FieldValues:
    """Look header fields up in bytes: the library's own look-ups guess an encoding each time."""

    __slots__ = ("_values",)

    def __init__(self, headers: Any) -> None:
        self._values: dict[bytes, list[bytes]] = {}
        for key, value in headers.raw:
            self._values.setdefault(key.lower(), []).append(value)

    def __call__(self, name: str, /) -> Sequence[str]:
        values = self._values.get(name.lower().encode("ascii"))
        return [value.decode("latin-1") for value in values] if values else ()


def _decoded(response: Any, resumed: Resumed) -> bytes:
    """Undo the commonest codings of a head, as far as 64 KiB."""
    head = bytes(resumed.head.content)
    if response.headers.get("Content-Encoding", "identity").lower() not in ("gzip", "deflate"):
        return head
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(head, REASON_LIMIT)
    except zlib.error:
        return b""


def copied_request(library: Any, request: Any) -> Any:
    """Copy a request, so that another task can send it too."""
    if type(request) is not library.Request:  # whatever a caller's own class has beside what it inherits
        copied = copy.copy(request)
        copied.stream, copied.extensions = request.stream, dict(request.extensions)
        copied.headers = library.Headers(request.headers)
        return copied
    copied = library.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=request.stream,
        extensions=request.extensions,
    )
    if type(request.stream) is library.ByteStream:
        copied.read()
    return copied


def _is_repeatable(part: object) -> bool:
    """Tell whether a part of a multipart body can be read again; the library does so from a file's start."""
    file = getattr(part, "file", b"" if hasattr(part, "value") else None)
    return isinstance(file, str | bytes) or is_rewindable(file)
