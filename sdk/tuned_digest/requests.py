"""Sign the requests of requests' sessions.

requests calls an auth object once per request, when it is prepared, and its response hook once per hop
and per re-send. So the hook keeps no exchange open: it begins one with each response it is given, and
answers a challenge by sending the request again itself.
"""

from __future__ import annotations

__all__ = ["TunedDigestAuth"]

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from ._auth import AuthBase
from ._drivers import run_blocking
from ._journey import Head, Journey, first_origin, merge_cookies
from ._library_errors import as_library_error
from ._steps import Step
from ._work import Resources
from .authorization import is_ours
from .bodies import Body, BytesBody, LostBody, RepeatableBody, SpooledBody, file_chunks, is_rewindable
from .errors import ArgumentError, MissingExtraError, TunedDigestError
from .events import Report
from .exchange import ResponseFields, Target
from .origins import Origin

try:
    import requests
    import urllib3
    from requests.auth import AuthBase as RequestsAuthBase
    from requests.cookies import RequestsCookieJar, extract_cookies_to_jar, get_cookie_header
    from urllib3.util import parse_url
except ImportError as error:
    raise MissingExtraError(
        "requests is not installed: pip install 'tuned-digest[requests]'", extra="requests"
    ) from error

T = TypeVar("T")

_Journey = Journey[requests.PreparedRequest, requests.Response]

_CHUNK = 64 * 1024  # bytes read from a file at a time

# Bytes of a 401's body read at a time: compressed, they may unpack to a thousand times more.
_HEAD_CHUNK = 4096


class TunedDigestAuth(AuthBase, RequestsAuthBase):  # noqa: D101
    __doc__ = AuthBase.__doc__

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        """Sign a request if there is a nonce for it, and answer its challenges.

        Args:
            r: The request, prepared.

        Returns:
            It.

        Raises:
            TunedDigestError: Also a `requests.RequestException`, if it cannot be signed.
        """
        if not isinstance(r, requests.PreparedRequest):
            raise ArgumentError(
                "this auth object is for requests: import TunedDigestAuth from tuned_digest.httpx for httpx"
            )
        hook = _Hook(self, self._resources, r)
        hook.depart(r)
        r.register_hook("response", hook)
        return r

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

        def send(method: str, url: str) -> requests.Response:
            return session.request(method, url, auth=self._for_priming(), stream=True, allow_redirects=False)

        def report(response: requests.Response) -> Report | None:
            return getattr(response, "tuned_digest", None)

        return run_blocking(self._priming(send, report, requests.Response.close, method, path), self._job)


class _Hook:
    """Read each response of one request and of its redirects."""

    def __init__(
        self, auth: TunedDigestAuth, resources: Resources, request: requests.PreparedRequest
    ) -> None:
        self._auth = auth
        self._messages = _Messages(resources, _text(request.headers.get("Authorization")))
        self._since = first_origin(self._messages, request)
        self._departed: list[_Journey] = []

    def depart(self, request: requests.PreparedRequest) -> None:
        """Sign the request for the first time."""
        journey = self._journey()
        self._run(journey.depart(request), request=request)
        self._departed.append(journey)

    def __call__(self, response: requests.Response, **sending: Any) -> requests.Response:
        try:
            journey = self._departed.pop()  # it knows what the first request took
        except IndexError:
            journey = self._journey()
        # What was sent may be sent again: by requests, which makes the next hop from it, or by its owner.
        # It does not keep our field, so that no nonce goes out twice; the response's own copy does.
        sent, response.request = response.request, response.request.copy()
        self._messages.authorize(sent, None)
        while again := self._answered(journey, response):
            previous = response
            try:
                response = previous.connection.send(again, **sending)
            except TunedDigestError as error:  # of the body, while it was sent
                raise as_library_error(error, requests.RequestException, request=again) from error
            response.history = [*previous.history, previous]
            response.request = again
        return response

    def _journey(self) -> _Journey:
        return Journey(self._auth, self._messages, self._since)

    def _answered(self, journey: _Journey, response: requests.Response) -> requests.PreparedRequest | None:
        """Read a response, and let go of its connection when that fails."""
        try:
            return self._run(journey.arrive(response), request=response.request, response=response)
        except BaseException:
            response.close()
            raise

    def _run(self, steps: Generator[Step[object], object, T], **exchanged: object) -> T:
        """Run steps, with errors that ``except requests.RequestException`` catches."""
        try:
            return run_blocking(steps, self._auth._job)
        except TunedDigestError as error:
            raise as_library_error(error, requests.RequestException, **exchanged) from error

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        # A response pickles its request, and that its hooks: what comes back signs nothing.
        return _inert_hook, ()


class _Messages:
    """Read and write requests' messages."""

    def __init__(self, resources: Resources, own: str | None) -> None:
        self._resources = resources
        self._own = own

    def target(self, request: requests.PreparedRequest) -> Target:
        url = request.url or ""
        origin = Origin.parse(url)
        try:
            path = parse_url(url).request_uri  # as urllib3 will write it, after a redirect too
        except urllib3.exceptions.LocationParseError as error:
            raise ArgumentError(f"not a URL: {error}") from None
        return Target(request.method or "", origin, path)

    def authorization(self, request: requests.PreparedRequest) -> str | None:
        value = _text(request.headers.get("Authorization"))
        # requests puts a password from .netrc in the place of what a redirected request had.
        return value if value == self._own or is_ours(value or "") else None

    def body(self, request: requests.PreparedRequest, *, was_sent: bool) -> Body:
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

    def authorize(self, request: requests.PreparedRequest, value: str | None) -> requests.PreparedRequest:
        if value is not None:
            request.headers["Authorization"] = value
        elif is_ours(self.authorization(request) or ""):
            del request.headers["Authorization"]
        if "Content-Length" in request.headers:
            if isinstance(request.body, RepeatableBody):
                # requests counts the characters of a text file, not the bytes they are sent as.
                request.headers["Content-Length"] = str(request.body.size)
            request.headers.pop("Transfer-Encoding", None)  # never both (RFC 9112 section 6.2)
        return request

    def request(self, response: requests.Response) -> requests.PreparedRequest:
        return response.request

    def status(self, response: requests.Response) -> int:
        return response.status_code

    def fields(self, response: requests.Response) -> ResponseFields:
        def values(name: str, /) -> Sequence[str]:
            if isinstance(response.raw, urllib3.BaseHTTPResponse | _ResumedRaw):
                return list(response.raw.headers.getlist(name))  # response.headers has them merged
            return [response.headers[name]] if name in response.headers else []

        return values

    def head(self, response: requests.Response) -> bytes:
        try:
            response.raw = _ResumedRaw(response.raw)
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error, request=response.request, response=response) from error
        head: bytes = response.raw.head
        return head

    def again(self, response: requests.Response) -> requests.PreparedRequest:
        if not isinstance(response.raw, _ResumedRaw):
            self.head(response)
        cast("_ResumedRaw", response.raw).forget_rest()
        response.close()
        request = response.request.copy()
        request.prepare_url(request.url or "", {})  # after a redirect it is not yet as it will be sent
        fresh = RequestsCookieJar()
        extract_cookies_to_jar(fresh, response.request, response.raw)
        existing = _text(request.headers.pop("Cookie", None))
        cookies = merge_cookies(existing, get_cookie_header(fresh, request))
        if cookies:
            request.headers["Cookie"] = cookies
        return request

    def priming(self, request: requests.PreparedRequest, method: str, path: str) -> None:
        return None  # nothing that this library tells an auth object can send one

    def release(self, response: requests.Response, *, keep_cookies: bool) -> None:
        raise AssertionError  # nothing was primed

    def attach(self, response: requests.Response, report: Report) -> None:
        response.tuned_digest = report  # type: ignore[attr-defined]


class _ResumedRaw:
    """A urllib3 response whose beginning was read already, decoded; everything else is as it was."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        head = Head()
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


def _text(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _chunks(body: Any) -> Iterable[bytes | str]:
    if not hasattr(body, "read"):
        return cast("Iterable[bytes | str]", body)
    return iter(lambda: body.read(_CHUNK), type(body.read(0))())


def _inert_hook() -> Callable[..., None]:
    return _pass


def _pass(response: requests.Response, **sending: Any) -> None:
    return None
