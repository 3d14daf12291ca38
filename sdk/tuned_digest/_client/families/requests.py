"""The requests family: requests and the libraries that share its hooks.

These libraries call an auth object once per request, when it is prepared, and its response hook once per hop
and per re-send. So the hook keeps no generator suspended: it drives the flow of its call with each response
it is given, and answers a challenge by sending the request again itself.
"""

# The library is a value here, so its types cannot be named: what comes from it is Any.

from __future__ import annotations

__all__ = ["FamilyAuth", "FamilyTokenAuth", "RequestsFamily"]

import functools
import threading
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, TypeVar

from ..._runtime.drivers import run_blocking
from ..._runtime.steps import Steps
from ...errors import ArgumentError, TunedDigestError
from ...events import Report
from ..auth import AuthBase
from ..flow import prime
from ..library_errors import as_library_error
from ..token_auth import TokenAuthBase
from .requests_messages import Messages, bare, copied_request, text

T = TypeVar("T")


class RequestsFamily:
    """Hold one library of the family.

    Args:
        library: The module.
        urllib3: The urllib3 that it sends with.
    """

    def __init__(self, library: ModuleType, urllib3: ModuleType) -> None:
        self.library: Any = library
        self.urllib3: Any = urllib3

    @functools.cached_property
    def joins_slashes(self) -> bool:
        """Tell whether slashes at the beginning of a path are sent as one, as older versions do."""
        prepared = self.library.Request("GET", "http://localhost//a").prepare()
        sent: str = self.library.adapters.HTTPAdapter().request_url(prepared, {})
        return sent == "/a"


class _Signing:
    """Sign prepared requests, and read what comes back."""

    _family: ClassVar[RequestsFamily]

    def _sign(self, request: Any) -> Any:
        """Sign a prepared request, and answer its challenges; see the leaf's `__call__`."""
        library = self._family.library
        if not isinstance(request, library.PreparedRequest):
            other = type(request).__module__.partition(".")[0]
            raise ArgumentError(
                f"this auth object is for {library.__name__}, and the request is of {other}: import "
                f"{type(self).__name__} from tuned_digest.{other}"
            )
        hook = _Hook(self._family, self, request)
        hook.start(request)
        request.register_hook("response", hook)
        return request


class FamilyAuth(_Signing, AuthBase):
    __doc__ = AuthBase.__doc__

    def _prime(self, session: Any, method: str | None, path: str | None) -> bool:
        """Prime through a session; see the leaf's `prime`."""
        auth = self._for_priming()

        def send(method: str, url: str) -> Any:
            return session.request(method, url, auth=auth, stream=True, allow_redirects=False)

        def report(response: Any) -> Report | None:
            return getattr(response, "tuned_digest", None)

        return run_blocking(
            prime(self._settings, send, report, self._family.library.Response.close, method, path)
        )


class FamilyTokenAuth(_Signing, TokenAuthBase):
    __doc__ = TokenAuthBase.__doc__


class _Hook:
    """Read each response of one request and of its redirects."""

    def __init__(self, family: RequestsFamily, auth: Any, request: Any) -> None:
        self._family = family
        carriage = auth._carriage()
        self._messages = Messages(family, carriage, text(request.headers.get(carriage.field)))
        self._flow_of = functools.partial(auth._flow, carriage, self._messages)
        self._first = weakref.ref(request)
        self._started: list[Any] = []
        # A call and its redirects stay in one thread; two threads that send one request are two calls.
        self._call = threading.local()

    def start(self, request: Any) -> None:
        """Sign the request for the first time."""
        flow = self._flow_of()
        self._run(flow.start(request), request=request)
        self._started.append(flow)

    def __call__(self, response: Any, **sending: Any) -> Any:
        flow = self._flow(response.request)
        sent, first = response.request, self._first()
        response.request = copied_request(sent)
        self._messages.forget_ours(sent)
        if first is not None and first is not sent:
            self._messages.forget_ours(first)
        while again := self._stepped(flow.on_response(response), response):
            previous = response
            try:
                response = previous.connection.send(again, **sending)
            except TunedDigestError as error:  # of the body, while it was sent
                raise as_library_error(error, self._family.library.RequestException, request=again) from error
            response.history = [*previous.history, previous]
            response.request = again
        url = self._messages.next_url(response)
        if url is not None and hasattr(flow, "forward"):
            following = self._messages.following(response, sent, url)
            self._stepped(flow.forward(following), response)
        self._call.redirected = flow, url
        return response

    def _flow(self, request: Any) -> Any:
        """Find the flow of a call: a redirect goes on with it, and nothing else that is sent anew does."""
        try:
            return self._started.pop()
        except IndexError:
            flow, url = getattr(self._call, "redirected", (None, None))
        if flow is None or url is None or request is self._first() or bare(request.url) != url:
            flow = self._flow_of()
            flow.resume(self._first() or request)
        return flow

    def _stepped(self, steps: Steps[T], response: Any) -> T:
        """Run steps on a response, and let go of its connection when they fail."""
        try:
            return self._run(steps, request=response.request, response=response)
        except BaseException:
            response.close()
            raise

    def _run(self, steps: Steps[T], **exchanged: object) -> T:
        """Run steps, with errors that ``except RequestException`` catches."""
        try:
            return run_blocking(steps)
        except TunedDigestError as error:
            raise as_library_error(error, self._family.library.RequestException, **exchanged) from error

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        # A response pickles its request, and that its hooks: what comes back signs nothing.
        return _inert_hook, ()


def _inert_hook() -> Callable[..., None]:
    return _pass


def _pass(response: Any, **sending: Any) -> None:
    return None
