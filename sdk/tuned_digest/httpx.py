"""Sign the requests of httpx clients, sync and async.

httpx keeps auth outside and redirects inside: a flow is entered once per request and sees the last
response of each chain of redirects, whose request is not the one it yielded.
"""

from __future__ import annotations

__all__ = ["TunedDigestAuth"]

import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn, cast, overload

from ._auth import AuthBase
from ._drivers import run_anyio, run_blocking
from ._journey import Head, Journey, first_origin, merge_cookies
from ._library_errors import as_library_error
from ._work import Resources
from .authorization import is_ours
from .bodies import Body, BytesBody, LostBody, RepeatableBody, SpooledBody, file_chunks, is_rewindable
from .challenge import REASON_LIMIT
from .errors import ArgumentError, BodyError, MissingExtraError, TunedDigestError
from .events import Report
from .exchange import ResponseFields, Target
from .origins import Origin

try:
    import httpx
except ImportError as error:
    raise MissingExtraError(
        "httpx is not installed: pip install 'tuned-digest[httpx]'", extra="httpx"
    ) from error


_OF_EVERY_REQUEST = frozenset({"host", "user-agent", "accept", "accept-encoding", "accept-language"})

_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32  # the header says which


class TunedDigestAuth(AuthBase, httpx.Auth):  # noqa: D101
    __doc__ = AuthBase.__doc__

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send a request, signed, through an `httpx.Client`.

        Args:
            request: The request.

        Yields:
            It, and whatever has to be sent to have it answered.

        Raises:
            TunedDigestError: Also an `httpx.RequestError`, if it cannot be signed.
        """
        messages = _SyncMessages(self._resources)
        with _library_errors(request):
            journey = Journey(self, messages, first_origin(messages, request))
            following: httpx.Request | None = run_blocking(journey.depart(request), self._job)
        sent = 0
        try:
            while following is not None:
                response = yield following
                with _library_errors(response.request, response):
                    for hop in response.history[sent:]:
                        run_blocking(journey.harvest(hop), self._job)
                    following = run_blocking(journey.arrive(response), self._job)
                sent += 1
        finally:
            journey.close()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send a request, signed, through an `httpx.AsyncClient`, the slow work in worker threads.

        Args:
            request: The request.

        Yields:
            It, and whatever has to be sent to have it answered.

        Raises:
            TunedDigestError: Also an `httpx.RequestError`, if it cannot be signed.
        """
        messages = _AsyncMessages(self._resources)
        with _library_errors(request):
            journey = Journey(self, messages, first_origin(messages, request))
            following: httpx.Request | None = await run_anyio(journey.depart(request), self._async_job)
        sent = 0
        try:
            while following is not None:
                response = yield following
                with _library_errors(response.request, response):
                    for hop in response.history[sent:]:
                        await run_anyio(journey.harvest(hop), self._async_job)
                    following = await run_anyio(journey.arrive(response), self._async_job)
                sent += 1
        finally:
            journey.close()

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

        def send(method: str, url: str) -> httpx.Response | Awaitable[httpx.Response]:
            request = client.build_request(method, url)
            return client.send(request, auth=self._for_priming(), stream=True, follow_redirects=False)

        if isinstance(client, httpx.AsyncClient):
            return run_anyio(
                self._priming(send, _report, httpx.Response.aclose, method, path), self._async_job
            )
        return run_blocking(self._priming(send, _report, httpx.Response.close, method, path), self._job)

    def auth_flow(self, request: httpx.Request) -> NoReturn:
        """Refuse to be driven without saying whether that may block.

        Args:
            request: The request.

        Raises:
            ArgumentError: Always; wrap `sync_auth_flow` or `async_auth_flow` instead.
        """
        raise ArgumentError(
            "drive sync_auth_flow or async_auth_flow: a flow that serves both would block one"
        )


# The classes that httpx makes of an iterable and of files, which it does not name; a caller's own are others.
_ITERATED = type(httpx.Request("POST", "http://localhost", content=iter(())).stream)
_MULTIPART = type(httpx.Request("POST", "http://localhost", files={"part": b""}).stream)


def _report(response: httpx.Response) -> Report | None:
    report: Report | None = response.extensions.get("tuned_digest")
    return report


class _RepeatableStream(RepeatableBody, httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that can be sent any number of times, as httpx wants it."""

    def _error(self, message: str) -> Exception:
        return as_library_error(BodyError(message), httpx.RequestError)


class _SpooledStream(SpooledBody, _RepeatableStream):
    """A body that is read once, as httpx wants it."""


class _ResumedStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A response body whose beginning was read already."""

    def __init__(
        self,
        rest: Iterator[bytes] | AsyncIterator[bytes],
        stream: httpx.SyncByteStream | httpx.AsyncByteStream,
    ) -> None:
        self.head = Head()
        self.is_whole = False
        self.error: httpx.TimeoutException | None = None
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
        assert isinstance(self.stream, httpx.SyncByteStream)
        self.stream.close()

    async def aclose(self) -> None:
        assert isinstance(self.stream, httpx.AsyncByteStream)
        if isinstance(self._rest, AsyncGenerator):
            await self._rest.aclose()
        await self.stream.aclose()


class _Messages:
    """Read and write httpx's messages; what is I/O differs between the two below."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._cookies = httpx.Cookies()  # not the responses' own, which do not pickle once they were made

    def target(self, request: httpx.Request) -> Target:
        url = request.url
        origin = Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port)
        target: bytes = request.extensions.get("target", url.raw_path)
        return Target(request.method, origin, target.decode("latin-1"))

    def authorization(self, request: httpx.Request) -> str | None:
        value: str | None = request.headers.get("Authorization")
        return value

    def body(self, request: httpx.Request, *, was_sent: bool) -> Body:
        if isinstance(request.stream, _RepeatableStream):
            return request.stream
        if isinstance(request.stream, httpx.ByteStream):
            return BytesBody(request.read())  # a redirected request has its bytes but was not read
        if was_sent:
            return LostBody()
        stream = self._repeatable(request.stream)
        request.stream = stream
        return stream

    def _repeatable(self, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> _RepeatableStream:
        # The names are httpx's own; where they are others the body is spooled.
        if type(stream) is _ITERATED and is_rewindable(file := getattr(stream, "_stream", None)):
            return _RepeatableStream(file_chunks(file))
        if type(stream) is _MULTIPART and all(
            _is_repeatable(part) for part in getattr(stream, "fields", [None])
        ):
            return _RepeatableStream(cast("httpx.SyncByteStream", stream).__iter__)
        return _SpooledStream(
            stream, memory_kib=self._resources.spool_kib, directory=self._resources.spool_dir
        )

    def authorize(self, request: httpx.Request, value: str | None) -> httpx.Request:
        # A copy: the caller may be sending the same request in another task.
        headers = request.headers.copy()
        if value is not None:
            headers["Authorization"] = value
        elif is_ours(headers.get("Authorization", "")):
            del headers["Authorization"]
        if self._cookies:
            self._add_cookies(headers, request.url)
        if "Content-Length" in headers:
            if isinstance(request.stream, _RepeatableStream):
                # httpx counts a file from its start, wherever it is read from.
                headers["Content-Length"] = str(request.stream.size)
            headers.pop("Transfer-Encoding", None)  # never both (RFC 9112 section 6.2)
        authorized = httpx.Request(
            request.method, request.url, headers=headers, stream=request.stream, extensions=request.extensions
        )
        if isinstance(request.stream, httpx.ByteStream):
            authorized.read()
        return authorized

    def request(self, response: httpx.Response) -> httpx.Request:
        return response.request

    def status(self, response: httpx.Response) -> int:
        return response.status_code

    def fields(self, response: httpx.Response) -> ResponseFields:
        def values(name: str, /) -> Sequence[str]:
            return response.headers.get_list(name)

        return values

    def priming(self, request: httpx.Request, method: str, path: str) -> httpx.Request:
        # What may hold a secret, or is about the upload, stays behind: this may be redirected elsewhere.
        kept = {name: value for name, value in request.headers.items() if name in _OF_EVERY_REQUEST}
        extensions = {name: value for name, value in request.extensions.items() if name != "target"}
        url = request.url.copy_with(raw_path=path.encode("ascii"))
        return httpx.Request(method, url, headers=kept, extensions=extensions)

    def attach(self, response: httpx.Response, report: Report) -> None:
        response.extensions["tuned_digest"] = report

    def _released(self, response: httpx.Response) -> httpx.Request:
        """Leave of the response what was read of it, and carry its cookies to the request."""
        if isinstance(response.stream, _ResumedStream):
            resumed = response.stream
            is_plain = "Content-Encoding" not in response.headers
            _replace_body(response, bytes(resumed.head.content) if resumed.is_whole and is_plain else b"")
        self._cookies.extract_cookies(response)
        return response.request

    def _add_cookies(self, headers: httpx.Headers, url: httpx.URL) -> None:
        """Add the cookies that this request's own 401s and priming have set: a balancer knows us by them."""
        bare = httpx.Request("GET", url)
        with suppress(UnicodeError):  # a cookie that httpx cannot write either
            self._cookies.set_cookie_header(bare)
        if "Cookie" in bare.headers:
            headers["Cookie"] = merge_cookies(headers.get("Cookie"), bare.headers["Cookie"])


class _SyncMessages(_Messages):
    def head(self, response: httpx.Response) -> bytes:
        if response.is_stream_consumed or response.is_closed:
            return _content_in_memory(response)
        assert isinstance(response.stream, httpx.SyncByteStream)
        rest = iter(response.stream)
        response.stream = resumed = _ResumedStream(rest, response.stream)
        try:
            for chunk in rest:
                if resumed.head.is_full(chunk):
                    break
            else:
                resumed.is_whole = True
        except httpx.TimeoutException as error:  # what does not come is not needed here
            resumed.error = error
        return _decoded(response, resumed)

    def again(self, response: httpx.Response) -> httpx.Request:
        if not isinstance(response.stream, _ResumedStream):
            self.head(response)
        if isinstance(response.stream, _ResumedStream):
            response.stream.close()
        return self._released(response)

    def release(self, response: httpx.Response, *, keep_cookies: bool) -> None:
        if keep_cookies:
            self._cookies.extract_cookies(response)
        if not response.is_closed:
            assert isinstance(response.stream, httpx.SyncByteStream)
            response.stream.close()
            _replace_body(response, b"")


class _AsyncMessages(_Messages):
    async def head(self, response: httpx.Response) -> bytes:
        if response.is_stream_consumed or response.is_closed:
            return _content_in_memory(response)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        rest = aiter(response.stream)
        response.stream = resumed = _ResumedStream(rest, response.stream)
        try:
            async for chunk in rest:
                if resumed.head.is_full(chunk):
                    break
            else:
                resumed.is_whole = True
        except httpx.TimeoutException as error:
            resumed.error = error
        return _decoded(response, resumed)

    async def again(self, response: httpx.Response) -> httpx.Request:
        if not isinstance(response.stream, _ResumedStream):
            await self.head(response)
        if isinstance(response.stream, _ResumedStream):
            await response.stream.aclose()
        return self._released(response)

    async def release(self, response: httpx.Response, *, keep_cookies: bool) -> None:
        if keep_cookies:
            self._cookies.extract_cookies(response)
        if not response.is_closed:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            await response.stream.aclose()
            _replace_body(response, b"")


def _decoded(response: httpx.Response, resumed: _ResumedStream) -> bytes:
    """Undo the commonest codings of a head, as far as 64 KiB."""
    head = bytes(resumed.head.content)
    if response.headers.get("Content-Encoding", "identity").lower() not in ("gzip", "deflate"):
        return head
    try:
        return zlib.decompressobj(_GZIP_OR_ZLIB).decompress(head, REASON_LIMIT)
    except zlib.error:
        return b""


def _content_in_memory(response: httpx.Response) -> bytes:
    try:
        return response.content
    except httpx.ResponseNotRead:  # a hook has closed it
        return b""


def _replace_body(response: httpx.Response, content: bytes) -> None:
    """Leave a response to be read that was closed: httpx reads all those it does not hand to the caller."""
    response.stream = httpx.ByteStream(content)
    if not content:  # not what an encoding would make of nothing
        response.headers.pop("Content-Encoding", None)


def _is_repeatable(part: object) -> bool:
    """Tell whether a part of a multipart body can be read again; httpx does so from a file's beginning."""
    file = getattr(part, "file", b"" if hasattr(part, "value") else None)
    return isinstance(file, str | bytes) or is_rewindable(file)


@contextmanager
def _library_errors(request: httpx.Request, response: httpx.Response | None = None) -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:  # of reading a 401, where httpx does not name the request
        error.request = request
        raise
    except TunedDigestError as error:
        raise as_library_error(error, httpx.RequestError, request=request, response=response) from error
