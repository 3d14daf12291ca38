"""The httpx family: httpx and the libraries that share its `Auth` interface.

These libraries keep auth outside and redirects inside: a flow is entered once per request and sees the last
response of each chain of redirects, whose request is not the one it yielded.
"""

# The library is a value here, so its types cannot be named: what comes from it is Any.

from __future__ import annotations

__all__ = ["FamilyAuth", "HttpxFamily"]

import copy
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any, ClassVar, NoReturn, cast

from ..._runtime.drivers import run_anyio, run_blocking, take_turn
from ..._wire.challenge import REASON_LIMIT
from ..._wire.credentials import is_ours
from ..._wire.origins import Origin
from ..._wire.request import FieldValues, split_target
from ...errors import ArgumentError, BodyError, TunedDigestError
from ...events import Report
from ..auth import AuthBase
from ..bodies import Body, BytesBody, LostBody, RepeatableBody, SpooledBody, file_chunks, is_rewindable
from ..cookies import FreshCookies, merge_cookies
from ..exchange import Fields, Target
from ..flow import Flow, prime
from ..library_errors import as_library_error
from ..settings import Settings
from .heads import Head

_OF_EVERY_REQUEST = frozenset({"host", "user-agent", "accept", "accept-encoding", "accept-language"})

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # the header says which


class HttpxFamily:
    """Hold one library of the family, and the classes that are made of its own.

    Args:
        library: The module.
    """

    def __init__(self, library: ModuleType) -> None:
        self.library: Any = library
        stream_classes = (self.library.SyncByteStream, self.library.AsyncByteStream)

        def error(body: object, message: str) -> Exception:
            return as_library_error(BodyError(message), self.library.RequestError)

        self.repeatable_stream: Any = type(
            "RepeatableStream", (RepeatableBody, *stream_classes), {"_error": error}
        )
        self.spooled_stream: Any = type("SpooledStream", (SpooledBody, self.repeatable_stream), {})
        self.resumed_stream: Any = type("ResumedStream", (_Resumed, *stream_classes), {})
        # The classes that the library makes of an iterable and of files, which it does not name.
        request = self.library.Request
        self.iterated: type = type(request("POST", "http://localhost", content=iter(())).stream)
        self.multipart: type = type(request("POST", "http://localhost", files={"part": b""}).stream)

    def as_its_own(self, error: TunedDigestError, request: Any, response: Any = None) -> Exception:
        """Make an error one of the library's own as well.

        Args:
            error: The error.
            request: The request that failed.
            response: The response it failed on, None where there is none.

        Returns:
            The error to raise.
        """
        return as_library_error(error, self.library.RequestError, request=request, response=response)


class FamilyAuth(AuthBase):
    __doc__ = AuthBase.__doc__

    _family: ClassVar[HttpxFamily]

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send a request, signed, through a blocking client.

        Args:
            request: The request.

        Yields:
            It, and whatever has to be sent to have it answered.

        Raises:
            TunedDigestError: Also the library's own request error, if it cannot be signed.
        """
        family, messages = self._family, _SyncMessages(self._family, self._settings)
        flow = Flow(self._settings, messages, messages)
        try:
            following = run_blocking(flow.start(request))
        except TunedDigestError as error:
            raise family.as_its_own(error, request) from error
        sent = 0
        try:
            while following is not None:
                response = yield following
                try:
                    for hop in response.history[sent:]:
                        messages.note_redirect(hop)
                        run_blocking(flow.on_redirect(hop))
                    following = run_blocking(flow.on_response(response))
                except TunedDigestError as error:
                    raise family.as_its_own(error, response.request, response) from error
                except family.library.RequestError as error:  # of reading a 401, where it names no request
                    error.request = response.request
                    raise
                sent += 1
        finally:
            flow.close()

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """Send a request, signed, through an async client, the slow work in worker threads.

        Args:
            request: The request.

        Yields:
            It, and whatever has to be sent to have it answered.

        Raises:
            TunedDigestError: Also the library's own request error, if it cannot be signed.
        """
        family, messages = self._family, _AsyncMessages(self._family, self._settings)
        flow = Flow(self._settings, messages, messages)
        await take_turn()
        try:
            following = await run_anyio(flow.start(request))
        except TunedDigestError as error:
            raise family.as_its_own(error, request) from error
        sent = 0
        try:
            while following is not None:
                response = yield following
                try:
                    for hop in response.history[sent:]:
                        messages.note_redirect(hop)
                        await run_anyio(flow.on_redirect(hop))
                    following = await run_anyio(flow.on_response(response))
                except TunedDigestError as error:
                    raise family.as_its_own(error, response.request, response) from error
                except family.library.RequestError as error:  # of reading a 401, where it names no request
                    error.request = response.request
                    raise
                sent += 1
        finally:
            flow.close()

    def auth_flow(self, request: Any) -> NoReturn:
        """Refuse to be driven without saying whether that may block.

        Args:
            request: The request.

        Raises:
            ArgumentError: Always; wrap `sync_auth_flow` or `async_auth_flow` instead.
        """
        raise ArgumentError(
            "drive sync_auth_flow or async_auth_flow: a flow that serves both would block one"
        )

    def _prime(self, client: Any, method: str | None, path: str | None) -> bool | Awaitable[bool]:
        """Prime through a client, sync or async; see the leaf's `prime`."""
        library, auth = self._family.library, self._for_priming()

        def send(method: str, url: str) -> Any:
            request = client.build_request(method, url)
            return client.send(request, auth=auth, stream=True, follow_redirects=False)

        is_async = isinstance(client, library.AsyncClient)
        close = library.Response.aclose if is_async else library.Response.close
        steps = prime(self._settings, send, _report, close, method, path)
        return run_anyio(steps) if is_async else run_blocking(steps)


def _report(response: Any) -> Report | None:
    report: Report | None = response.extensions.get("tuned_digest")
    return report


class _Resumed:
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

    def __init__(self, family: HttpxFamily, settings: Settings) -> None:
        self._family = family
        self._resources = settings.resources
        self._clock = settings.clock
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
        values = self.request_fields(request)("Authorization")
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
        authorized = self._copy(request)
        headers = authorized.headers
        present = self.request_fields(request)
        if fields is not None:
            for name, value in fields:
                headers[name] = value
        elif is_ours(self.authorization(request) or ""):
            del headers["Authorization"]
        if self._cookies is not None:
            self._merge_cookies(self._cookies, headers, request.url)
        if present("Content-Length"):
            if isinstance(request.stream, RepeatableBody):
                # The library counts a file from its start, wherever it is read from.
                headers["Content-Length"] = str(request.stream.size)
            if present("Transfer-Encoding"):
                del headers["Transfer-Encoding"]  # never both (RFC 9112 section 6.2)
        return authorized

    def _copy(self, request: Any) -> Any:
        library = self._family.library
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
        if isinstance(response.stream, _Resumed):
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


class _SyncMessages(_Messages):
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
        if not isinstance(response.stream, _Resumed):
            self.head(response)
        if isinstance(response.stream, _Resumed):
            response.stream.close()
        return self._released(response)

    def release(self, response: Any, *, keep_cookies: bool) -> None:
        if keep_cookies:
            self._keep_cookies(response)
        if not response.is_closed:
            response.stream.close()
            self._replace_body(response, b"")


class _AsyncMessages(_Messages):
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
        if not isinstance(response.stream, _Resumed):
            await self.head(response)
        if isinstance(response.stream, _Resumed):
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


def _decoded(response: Any, resumed: _Resumed) -> bytes:
    """Undo the commonest codings of a head, as far as 64 KiB."""
    head = bytes(resumed.head.content)
    if response.headers.get("Content-Encoding", "identity").lower() not in ("gzip", "deflate"):
        return head
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(head, REASON_LIMIT)
    except zlib.error:
        return b""


def _is_repeatable(part: object) -> bool:
    """Tell whether a part of a multipart body can be read again; the library does so from a file's start."""
    file = getattr(part, "file", b"" if hasattr(part, "value") else None)
    return isinstance(file, str | bytes) or is_rewindable(file)
