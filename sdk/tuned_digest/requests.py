"""Sign the requests of requests' sessions.

requests calls an auth object once per request, when it is prepared, and its response hook once per hop
and per re-send. So the hook keeps no exchange open: it begins one with each response it is given, and
answers a challenge by sending the request again itself.
"""

from __future__ import annotations

__all__ = ["TunedDigestAuth"]

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

from ._auth import AuthBase
from ._drivers import run_blocking
from ._journey import Journey, first_origin, merge_cookies
from ._library_errors import as_library_error
from ._steps import Step
from ._work import Resources
from .authorization import is_ours
from .bodies import Body, BytesBody, LostBody, SpooledBody
from .challenge import REASON_LIMIT
from .errors import ArgumentError, MissingExtraError, TunedDigestError
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

_CHUNK = 64 * 1024  # bytes read from a file at a time


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
        hook.run(Journey(self, hook.messages, hook.since).depart(r), request=r)
        r.register_hook("response", hook)
        return r


class _Hook:
    """Read each response of one request and of its redirects."""

    def __init__(
        self, auth: TunedDigestAuth, resources: Resources, request: requests.PreparedRequest
    ) -> None:
        self._auth = auth
        self.messages = _Messages(resources)
        self.since = first_origin(self.messages, request)

    def __call__(self, response: requests.Response, **sending: Any) -> requests.Response:
        journey = Journey(self._auth, self.messages, self.since)
        # What was sent may be sent again: by requests, which makes the next hop from it, or by its owner.
        # It does not keep our field, so that no nonce goes out twice; the response's own copy does.
        sent, response.request = response.request, response.request.copy()
        self.messages.authorize(sent, None)
        while again := self._answered(journey, response):
            previous = response
            response = previous.connection.send(again, **sending)
            response.history = [*previous.history, previous]
            response.request = again
        return response

    def _answered(
        self, journey: Journey[requests.PreparedRequest, requests.Response], response: requests.Response
    ) -> requests.PreparedRequest | None:
        """Read a response, and let go of its connection when that fails."""
        try:
            return self.run(journey.arrive(response), request=response.request, response=response)
        except BaseException:
            response.close()
            raise

    def run(self, steps: Generator[Step[object], object, T], **exchanged: object) -> T:
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

    def __init__(self, resources: Resources) -> None:
        self._resources = resources

    def target(self, request: requests.PreparedRequest) -> Target:
        url = request.url or ""
        origin = Origin.parse(url)
        try:
            path = parse_url(url).request_uri  # as urllib3 will write it, after a redirect too
        except urllib3.exceptions.LocationParseError as error:
            raise ArgumentError(f"not a URL: {error}") from None
        return Target(request.method or "", origin, path)

    def authorization(self, request: requests.PreparedRequest) -> str | None:
        return _text(request.headers.get("Authorization"))

    def body(self, request: requests.PreparedRequest, *, was_sent: bool) -> Body:
        body = request.body
        if isinstance(body, SpooledBody):
            return body
        if isinstance(body, str):
            body = request.body = body.encode()  # as urllib3 would send it
        if not body:
            return BytesBody(b"")
        if isinstance(body, bytes | bytearray | memoryview):
            return BytesBody(bytes(body))
        if was_sent:
            return LostBody()
        spooled = SpooledBody(
            _chunks(body), memory_kib=self._resources.spool_kib, directory=self._resources.spool_dir
        )
        request.body = spooled
        # The name is requests' own.
        request._body_position = 0  # a redirect may send it again, if this is a number and there is a seek
        return spooled

    def authorize(self, request: requests.PreparedRequest, value: str | None) -> requests.PreparedRequest:
        if value is not None:
            request.headers["Authorization"] = value
        elif is_ours(self.authorization(request) or ""):
            del request.headers["Authorization"]
        if isinstance(request.body, SpooledBody) and "Content-Length" in request.headers:
            # requests counts the characters of a text file, not the bytes they are sent as.
            request.headers["Content-Length"] = str(request.body.size)
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


class _ResumedRaw:
    """A urllib3 response whose beginning was read already, decoded; everything else is as it was."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self.head: bytes = raw.read(REASON_LIMIT, decode_content=True)
        self._unread: bytes = self.head
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
