"""Sign the requests of httpx clients, sync and async.

httpx keeps auth outside and redirects inside: a flow is entered once per request and sees the last
response of each chain of redirects, whose request is not the one it yielded.
"""

from __future__ import annotations

__all__ = ["TunedDigestAuth"]

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from ._auth import AuthBase
from ._drivers import run_anyio, run_blocking
from ._journey import Journey, first_origin, merge_cookies
from ._library_errors import as_library_error
from ._work import Resources
from .authorization import is_ours
from .bodies import Body, BytesBody, LostBody, SpooledBody
from .challenge import REASON_LIMIT
from .errors import ArgumentError, MissingExtraError, TunedDigestError
from .exchange import ResponseFields, Target
from .origins import Origin

try:
    import httpx
except ImportError as error:
    raise MissingExtraError(
        "httpx is not installed: pip install 'tuned-digest[httpx]'", extra="httpx"
    ) from error


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
        while following is not None:
            response = yield following
            with _library_errors(response.request, response):
                for hop in response.history[sent:]:
                    run_blocking(journey.harvest(hop), self._job)
                following = run_blocking(journey.arrive(response), self._job)
            sent += 1

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
        while following is not None:
            response = yield following
            with _library_errors(response.request, response):
                for hop in response.history[sent:]:
                    await run_anyio(journey.harvest(hop), self._async_job)
                following = await run_anyio(journey.arrive(response), self._async_job)
            sent += 1

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


class _SpooledStream(SpooledBody, httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that can be sent any number of times, as httpx wants it."""


class _ResumedStream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A response body whose beginning was read already."""

    def __init__(
        self,
        rest: Iterator[bytes] | AsyncIterator[bytes],
        stream: httpx.SyncByteStream | httpx.AsyncByteStream,
    ) -> None:
        self.head = bytearray()
        self.is_whole = True
        self.stream = stream
        self._rest = rest

    def is_full(self, chunk: bytes) -> bool:
        """Add a chunk to the beginning, and tell whether that is as much as is ever read."""
        self.head += chunk
        self.is_whole = len(self.head) < REASON_LIMIT
        return not self.is_whole

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._rest, Iterator)
        yield bytes(self.head)
        yield from self._rest

    async def __aiter__(self) -> AsyncIterator[bytes]:
        assert isinstance(self._rest, AsyncIterator)
        yield bytes(self.head)
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

    def target(self, request: httpx.Request) -> Target:
        url = request.url
        origin = Origin.of(url.scheme, url.raw_host.decode("ascii"), url.port)
        target: bytes = request.extensions.get("target", url.raw_path)
        return Target(request.method, origin, target.decode("latin-1"))

    def authorization(self, request: httpx.Request) -> str | None:
        value: str | None = request.headers.get("Authorization")
        return value

    def body(self, request: httpx.Request, *, was_sent: bool) -> Body:
        if isinstance(request.stream, _SpooledStream):
            return request.stream
        if isinstance(request.stream, httpx.ByteStream):
            return BytesBody(request.read())  # a redirected request has its bytes but was not read
        if was_sent:
            return LostBody()
        request.stream = _SpooledStream(
            request.stream,
            memory_kib=self._resources.spool_kib,
            directory=self._resources.spool_dir,
        )
        return request.stream

    def authorize(self, request: httpx.Request, value: str | None) -> httpx.Request:
        # A copy: the caller may be sending the same request in another task.
        headers = request.headers.copy()
        if value is not None:
            headers["Authorization"] = value
        elif is_ours(headers.get("Authorization", "")):
            del headers["Authorization"]
        if isinstance(request.stream, _SpooledStream) and "Content-Length" in headers:
            # httpx counts a file from its start, wherever it is read from.
            headers["Content-Length"] = str(request.stream.size)
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

    def _released(self, response: httpx.Response) -> httpx.Request:
        """Leave of the response what was read of it, and carry its cookies to the request."""
        if isinstance(response.stream, _ResumedStream):
            resumed = response.stream
            is_plain = "Content-Encoding" not in response.headers
            response.stream = httpx.ByteStream(bytes(resumed.head) if resumed.is_whole and is_plain else b"")
            if not is_plain:  # what is compressed small may be large, and httpx reads it all
                del response.headers["Content-Encoding"]
        if response.cookies:
            bare = httpx.Request(response.request.method, response.request.url)
            with suppress(UnicodeError):  # a cookie that httpx cannot write either
                httpx.Cookies(response.cookies).set_cookie_header(bare)
            cookies = merge_cookies(response.request.headers.get("Cookie"), bare.headers.get("Cookie"))
            if cookies:
                response.request.headers["Cookie"] = cookies
        return response.request


class _SyncMessages(_Messages):
    def head(self, response: httpx.Response) -> bytes:
        if response.is_stream_consumed or response.is_closed:
            return _content_in_memory(response)
        assert isinstance(response.stream, httpx.SyncByteStream)
        rest = iter(response.stream)
        response.stream = resumed = _ResumedStream(rest, response.stream)
        for chunk in rest:
            if resumed.is_full(chunk):
                break
        return bytes(resumed.head)

    def again(self, response: httpx.Response) -> httpx.Request:
        if not isinstance(response.stream, _ResumedStream):
            self.head(response)
        if isinstance(response.stream, _ResumedStream):
            response.stream.close()
        return self._released(response)


class _AsyncMessages(_Messages):
    async def head(self, response: httpx.Response) -> bytes:
        if response.is_stream_consumed or response.is_closed:
            return _content_in_memory(response)
        assert isinstance(response.stream, httpx.AsyncByteStream)
        rest = aiter(response.stream)
        response.stream = resumed = _ResumedStream(rest, response.stream)
        async for chunk in rest:
            if resumed.is_full(chunk):
                break
        return bytes(resumed.head)

    async def again(self, response: httpx.Response) -> httpx.Request:
        if not isinstance(response.stream, _ResumedStream):
            await self.head(response)
        if isinstance(response.stream, _ResumedStream):
            await response.stream.aclose()
        return self._released(response)


def _content_in_memory(response: httpx.Response) -> bytes:
    try:
        return response.content
    except httpx.ResponseNotRead:  # a hook has closed it
        return b""


@contextmanager
def _library_errors(request: httpx.Request, response: httpx.Response | None = None) -> Iterator[None]:
    try:
        yield
    except httpx.RequestError as error:  # of reading a 401, where httpx does not name the request
        error.request = request
        raise
    except TunedDigestError as error:
        raise as_library_error(error, httpx.RequestError, request=request, response=response) from error
