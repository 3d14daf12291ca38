"""The clients under test behind one face, so that each case is written once and holds for all.

A new adapter is one more entry in `CLIENTS`.
"""

import functools
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
import requests
from anyio.from_thread import BlockingPortal, start_blocking_portal

import tuned_digest.httpx
import tuned_digest.requests
from tuned_digest import AsyncSigner, Signer
from tuned_digest.events import Report

Auth = tuned_digest.httpx.TunedDigestAuth | tuned_digest.requests.TunedDigestAuth


@dataclass(frozen=True)
class Result:
    """A response, in one shape for all clients."""

    status: int
    content: bytes
    history: list[int]
    headers: dict[str, str]
    sent: dict[str, str]
    """The header fields of the last request."""
    report: Report | None
    raw: Any


@dataclass(frozen=True)
class Transport:
    """How a client reaches its servers."""

    proxy: str | None = None
    certificate: str | None = None
    """The one certificate it trusts, in place of the usual ones."""
    read_timeout: float = 30


class Client(Protocol):
    """Send requests through one library."""

    auth: Any
    library_error: type[Exception]
    forwards_on_redirect: bool
    """Whether the library sends the field again on a redirect, before any code of ours runs."""
    keeps_body_on_301: bool
    """Whether the library sends a body again where a 301 keeps the method."""
    is_async: bool

    def send(self, method: str, url: str, **options: Any) -> Result:
        """Send one request. Options: body, json, form, files, headers, follow, auth, cookies."""
        ...

    def prime(self, **options: Any) -> bool:
        """Ask each origin for nonces."""
        ...

    def report(self, response: Any) -> Report | None:
        """Find the report on a response of the library's own."""
        ...


Connect = Callable[..., AbstractContextManager[Client]]


class _Httpx:
    library_error: type[Exception] = httpx.RequestError
    forwards_on_redirect = True
    keeps_body_on_301 = True
    is_async = False

    def __init__(self, client: httpx.Client, auth: tuned_digest.httpx.TunedDigestAuth) -> None:
        self.client = client
        self.auth = auth

    def send(self, method: str, url: str, **options: Any) -> Result:
        return _from_httpx(self.client.request(method, url, **_httpx_options(options)))

    def prime(self, **options: Any) -> bool:
        return self.auth.prime(self.client, **options)

    def report(self, response: httpx.Response) -> Report | None:
        return _httpx_report(response)


class _HttpxAsync:
    library_error: type[Exception] = httpx.RequestError
    forwards_on_redirect = True
    keeps_body_on_301 = True
    is_async = True

    def __init__(
        self, client: httpx.AsyncClient, auth: tuned_digest.httpx.TunedDigestAuth, portal: BlockingPortal
    ) -> None:
        self.client = client
        self.auth = auth
        self.portal = portal

    def send(self, method: str, url: str, **options: Any) -> Result:
        async def request() -> httpx.Response:
            return await self.client.request(method, url, **_httpx_options(options))

        return _from_httpx(self.portal.call(request))

    def prime(self, **options: Any) -> bool:
        async def prime() -> bool:
            return await self.auth.prime(self.client, **options)

        return self.portal.call(prime)

    def report(self, response: httpx.Response) -> Report | None:
        return _httpx_report(response)


class _Requests:
    library_error: type[Exception] = requests.RequestException
    forwards_on_redirect = False
    keeps_body_on_301 = False
    is_async = False

    def __init__(
        self, session: requests.Session, auth: tuned_digest.requests.TunedDigestAuth, transport: Transport
    ) -> None:
        self.session = session
        self.auth = auth
        self.transport = transport

    def send(self, method: str, url: str, **options: Any) -> Result:
        response = self.session.request(
            method,
            url,
            data=options.get("body", options.get("form")),
            json=options.get("json"),
            files=options.get("files"),
            headers=options.get("headers"),
            allow_redirects=options.get("follow", True),
            auth=options.get("auth", self.auth),
            timeout=(30, self.transport.read_timeout),
            verify=self.transport.certificate,
            proxies=dict.fromkeys(("http", "https"), self.transport.proxy) if self.transport.proxy else None,
        )
        return Result(
            response.status_code,
            response.content,
            [earlier.status_code for earlier in response.history],
            {name.lower(): value for name, value in response.headers.items()},
            {name.lower(): str(value) for name, value in response.request.headers.items()},
            self.report(response),
            response,
        )

    def prime(self, **options: Any) -> bool:
        return self.auth.prime(self.session, **options)

    def report(self, response: requests.Response) -> Report | None:
        return getattr(response, "tuned_digest", None)


def _httpx_options(options: dict[str, Any]) -> dict[str, Any]:
    renamed = {"body": "content", "form": "data", "follow": "follow_redirects"}
    return {"follow_redirects": True, **{renamed.get(name, name): value for name, value in options.items()}}


def _from_httpx(response: httpx.Response) -> Result:
    return Result(
        response.status_code,
        response.content,
        [earlier.status_code for earlier in response.history],
        dict(response.headers),
        dict(response.request.headers),
        _httpx_report(response),
        response,
    )


def _httpx_transport(transport: Transport) -> dict[str, Any]:
    timeout = httpx.Timeout(30, read=transport.read_timeout)
    return {"proxy": transport.proxy, "verify": _trusting(transport.certificate), "timeout": timeout}


@functools.cache  # reading all the usual certificates takes longer than most tests
def _trusting(certificate: str | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=certificate)


def _httpx_report(response: httpx.Response) -> Report | None:
    report: Report | None = response.extensions.get("tuned_digest")
    return report


@contextmanager
def connect_httpx(
    origin: Any, signer: Signer | AsyncSigner, *, transport: Transport = Transport(), **options: Any
) -> Iterator[Client]:
    """Connect an `httpx.Client`."""
    auth = tuned_digest.httpx.TunedDigestAuth(origin, signer, **options)
    with httpx.Client(auth=auth, **_httpx_transport(transport)) as client:
        yield _Httpx(client, auth)


@contextmanager
def _connect_httpx_async(
    backend: str,
    origin: Any,
    signer: Signer | AsyncSigner,
    *,
    transport: Transport = Transport(),
    **options: Any,
) -> Iterator[Client]:
    auth = tuned_digest.httpx.TunedDigestAuth(origin, signer, **options)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal(backend))
        client = httpx.AsyncClient(auth=auth, **_httpx_transport(transport))
        stack.enter_context(portal.wrap_async_context_manager(client))
        yield _HttpxAsync(client, auth, portal)


def connect_asyncio(
    origin: Any, signer: Signer | AsyncSigner, **options: Any
) -> AbstractContextManager[Client]:
    """Connect an `httpx.AsyncClient` under asyncio."""
    return _connect_httpx_async("asyncio", origin, signer, **options)


def connect_trio(origin: Any, signer: Signer | AsyncSigner, **options: Any) -> AbstractContextManager[Client]:
    """Connect an `httpx.AsyncClient` under trio."""
    return _connect_httpx_async("trio", origin, signer, **options)


@contextmanager
def connect_requests(
    origin: Any, signer: Signer | AsyncSigner, *, transport: Transport = Transport(), **options: Any
) -> Iterator[Client]:
    """Connect a `requests.Session`."""
    auth = tuned_digest.requests.TunedDigestAuth(origin, signer, **options)
    with requests.Session() as session:
        yield _Requests(session, auth, transport)


CLIENTS: dict[str, Connect] = {
    "httpx": connect_httpx,
    "httpx-asyncio": connect_asyncio,
    "httpx-trio": connect_trio,
    "requests": connect_requests,
}

UNPRIMED = {"requests"}
"""Those that send a large upload to be challenged, and prime when they are told to."""

PRIMING: dict[str, Connect] = {name: connect for name, connect in CLIENTS.items() if name not in UNPRIMED}
"""Those that prime by themselves before a large upload."""

ASYNC: dict[str, Connect] = {name: connect for name, connect in CLIENTS.items() if name.startswith("httpx-")}
"""Those that run on an event loop."""
