"""The httpx family: httpx and the libraries that share its `Auth` interface.

These libraries keep auth outside and redirects inside: a flow is entered once per request and sees the last
response of each chain of redirects, whose request is not the one it yielded.
"""

# The library is a value here, so its types cannot be named: what comes from it is Any.

from __future__ import annotations

__all__ = ["FamilyAuth", "FamilyTokenAuth", "HttpxFamily"]

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, NoReturn

from ..._runtime.drivers import run_anyio, run_blocking, take_turn
from ..._wire.origins import Origin
from ..._wire.request import is_signable
from ...errors import ArgumentError, BodyError, TunedDigestError
from ...events import Report
from ..auth import AuthBase
from ..bodies import RepeatableBody, SpooledBody
from ..carriage import Carriage
from ..flow import prime
from ..library_errors import as_library_error
from ..token_auth import TokenAuthBase
from .httpx_messages import AsyncMessages, Resumed, SyncMessages, copied_request


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
        self.resumed_stream: Any = type("ResumedStream", (Resumed, *stream_classes), {})
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


class _Flows:
    """Drive the flow of an auth object through a client, blocking or async."""

    _family: ClassVar[HttpxFamily]
    _carriage: Callable[[], Carriage]
    _flow: Callable[..., Any]  # the flow of either scheme: both have the same moves

    def _kept(self, request: Any) -> Any:
        """Give a request to send with credentials that are kept; None where there are none."""
        return None

    def _is_answered(self, response: Any) -> bool:
        """Tell whether the answer to such a request goes to the caller."""
        raise AssertionError

    @contextmanager
    def _as_its_own(self, request: Any, response: Any = None) -> Iterator[None]:
        """Raise errors that ``except`` clauses for the library catch as well."""
        try:
            yield
        except TunedDigestError as error:
            raise self._family.as_its_own(error, request, response) from error
        except self._family.library.RequestError as error:  # of reading a 401, where it names no request
            error.request = request
            raise

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """Send a request, signed, through a blocking client.

        Args:
            request: The request.

        Yields:
            It, and whatever has to be sent to have it answered.

        Raises:
            TunedDigestError: Also the library's own request error, if it cannot be signed.
        """
        kept, response = self._kept(request), None
        if kept is not None:
            response = yield kept
            if self._is_answered(response):
                return
        carriage = self._carriage()
        messages = SyncMessages(self._family, carriage)
        flow = self._flow(carriage, messages, messages)
        sent = 0
        try:
            if kept is None:
                with self._as_its_own(request):
                    following = run_blocking(flow.start(request))
            else:
                flow.note_sent(kept)
                following = kept
            while following is not None:
                if response is None:
                    response = yield following
                with self._as_its_own(response.request, response):
                    for hop in response.history[sent:]:
                        messages.note_redirect(hop)
                        run_blocking(flow.on_redirect(hop))
                    following = run_blocking(flow.on_response(response))
                sent, response = sent + 1, None
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
        kept, response = self._kept(request), None
        if kept is not None:
            response = yield kept
            if self._is_answered(response):
                return
        else:
            await take_turn()
        carriage = self._carriage()
        messages = AsyncMessages(self._family, carriage)
        flow = self._flow(carriage, messages, messages)
        sent = 0
        try:
            if kept is None:
                with self._as_its_own(request):
                    following = await run_anyio(flow.start(request))
            else:
                flow.note_sent(kept)
                following = kept
            while following is not None:
                if response is None:
                    response = yield following
                with self._as_its_own(response.request, response):
                    for hop in response.history[sent:]:
                        messages.note_redirect(hop)
                        await run_anyio(flow.on_redirect(hop))
                    following = await run_anyio(flow.on_response(response))
                sent, response = sent + 1, None
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
            "drive sync_auth_flow or async_auth_flow: auth_flow cannot know whether it may block"
        )


class FamilyAuth(_Flows, AuthBase):
    __doc__ = AuthBase.__doc__

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


class FamilyTokenAuth(_Flows, TokenAuthBase):
    __doc__ = TokenAuthBase.__doc__

    def _kept(self, request: Any) -> Any:
        settings = self._settings
        if not settings.reuse or settings.also or not is_signable(request.method, ""):
            return None
        url, field = request.url, settings.field
        origin = Origin.known(url.scheme, url.raw_host.decode("ascii"), url.port)
        if origin is None or field in request.headers:
            return None
        credentials = settings.kept(origin)
        if credentials is None:
            return None
        sent = copied_request(self._family.library, request)
        sent.headers[field] = credentials
        for name, value in settings.fields:
            sent.headers[name] = value
        settings.note_signed(origin, request.method)
        return sent

    def _is_answered(self, response: Any) -> bool:
        if response.status_code == 401 or response.history:
            return False
        response.extensions["tuned_digest"] = Report(1, self._settings.scheme)
        return True


def _report(response: Any) -> Report | None:
    report: Report | None = response.extensions.get("tuned_digest")
    return report
