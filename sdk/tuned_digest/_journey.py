"""One request's way, with its challenges and redirects, from origin to origin.

An adapter adds how its library's messages are read and sent (`Messages`), and nothing else.

A large body is not sent just to be challenged. Where no nonce is held for it, a request without a body
goes first, its own challenge is answered, and its success brings nonces for every scope: priming.
"""

from __future__ import annotations

__all__ = ["Head", "Journey", "Messages", "first_origin", "merge_cookies"]

import time
from collections.abc import Awaitable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from ._auth import AuthBase
from ._steps import Call, Step, ask
from .bodies import Body
from .challenge import REASON_LIMIT, read_reason
from .errors import ArgumentError
from .events import Report
from .exchange import Exchange, Remember, ResponseFields, Target
from .origins import Origin

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResponseT_contra = TypeVar("ResponseT_contra", contravariant=True)


# The body of a 401 may come byte by byte, each in time for the client library's timeout.
_HEAD_SECONDS = 5.0


class Messages(Protocol[RequestT, ResponseT_contra]):
    """Read and write one client library's requests and responses."""

    def target(self, request: RequestT) -> Target:
        """Name a request's method, origin and target on the wire; ArgumentError where it has no origin."""
        ...

    def authorization(self, request: RequestT) -> str | None:
        """Give a request's Authorization field."""
        ...

    def body(self, request: RequestT, *, was_sent: bool) -> Body:
        """Give a request's body, made so that it can be sent again; a `LostBody` where it is too late."""
        ...

    def authorize(self, request: RequestT, value: str | None) -> RequestT:
        """Give the request with an Authorization field, or without ours, once its body was digested."""
        ...

    def request(self, response: ResponseT_contra) -> RequestT:
        """Give the request a response answers, redirects followed."""
        ...

    def status(self, response: ResponseT_contra) -> int:
        """Give a response's status code."""
        ...

    def fields(self, response: ResponseT_contra) -> ResponseFields:
        """Give a response's header fields."""
        ...

    def head(self, response: ResponseT_contra) -> bytes | Awaitable[bytes]:
        """Read the first 64 KiB of a response's body at most, and leave it readable."""
        ...

    def again(self, response: ResponseT_contra) -> RequestT | Awaitable[RequestT]:
        """Release a response's connection, 64 KiB read at most, and give its request to be sent again."""
        ...

    def priming(self, request: RequestT, method: str, path: str) -> RequestT | None:
        """Make a request without a body to the same origin; None where this library cannot send one."""
        ...

    def release(self, response: ResponseT_contra, *, keep_cookies: bool) -> Awaitable[None] | None:
        """Let go of the response to a priming request, unread, and keep its cookies for the next request."""
        ...

    def attach(self, response: ResponseT_contra, report: Report) -> None:
        """Put a report where users find it."""
        ...


class Head:
    """Collect the beginning of a 401's body: as much as is ever looked at, and as it comes in time."""

    def __init__(self) -> None:
        self.content = bytearray()
        self._until = time.monotonic() + _HEAD_SECONDS

    def is_full(self, chunk: bytes) -> bool:
        """Add a chunk, and tell whether no more is wanted."""
        self.content += chunk
        return len(self.content) >= REASON_LIMIT or time.monotonic() >= self._until


@dataclass(slots=True)
class _Upload(Generic[RequestT]):
    """A request with a large body that waits until its origin was primed."""

    request: RequestT
    exchange: Exchange
    methods: list[str]
    """The methods to prime with, the next one last."""


class Journey(Generic[RequestT, ResponseT]):
    """Take one request of a client library through challenges and redirects.

    Args:
        auth: The auth object.
        messages: How the library's messages are read and written.
        since: The origin of the first request, see `first_origin`.
    """

    def __init__(self, auth: AuthBase, messages: Messages[RequestT, ResponseT], since: Origin) -> None:
        self._auth = auth
        self._messages = messages
        self._since = since
        self._exchanges: dict[Target, Exchange | None] = {}
        self._upload: _Upload[RequestT] | None = None

    def depart(self, request: RequestT) -> Generator[Step[object], object, RequestT]:
        """Sign a request that is about to be sent for the first time, if there is a nonce for it.

        Args:
            request: The request.

        Returns:
            The request to send.

        Raises:
            BodyError: If its body cannot be digested and sent again.
        """
        exchange = self._exchange(request, was_sent=False)
        if exchange is None:
            return request
        value = yield from exchange.authorize()
        if value is None and self._is_to_be_primed(exchange):
            upload = _Upload(request, exchange, ["GET", self._auth._resources.prime_method])
            priming = yield from self._prime(upload)
            if priming is not None:
                self._upload = upload
                return priming
        return self._messages.authorize(request, value)

    def _is_to_be_primed(self, exchange: Exchange) -> bool:
        limit = self._auth._resources.prime_above_kib
        is_large = limit is not None and exchange.body_size > limit * 1024
        return is_large and exchange.target.origin not in self._auth._unprimed

    def harvest(self, response: ResponseT) -> Generator[Step[object], object, None]:
        """Remember the next nonces of a redirect.

        Args:
            response: The redirect.
        """
        exchange = self._exchange(self._messages.request(response))
        if exchange is not None:
            received = exchange.receive(self._messages.status(response), self._messages.fields(response))
            yield from ask(Remember(exchange.target.origin, received.nonces))

    def arrive(self, response: ResponseT) -> Generator[Step[object], object, RequestT | None]:
        """Read a response, and sign its request again where that is called for.

        Args:
            response: The response.

        Returns:
            The request to send, None when the response goes to the caller.

        Raises:
            TunedDigestError: If there is a challenge that cannot be answered.
        """
        if self._upload is not None:
            return (yield from self._go_on(self._upload, response))
        return (yield from self._answer(response))

    def close(self) -> None:
        """Note that no more comes: priming that was never answered is not tried again."""
        if self._upload is not None:
            self._auth._note_priming(self._upload.exchange.target.origin, is_primed=False)

    def _answer(self, response: ResponseT) -> Generator[Step[object], object, RequestT | None]:
        messages = self._messages
        status, fields = messages.status(response), messages.fields(response)
        exchange = self._exchange(messages.request(response))
        if exchange is None:
            self._note_unanswered(messages.request(response), status, fields)
            return None
        reason = ""
        if status == 401 and exchange.wants_reason:
            reason = read_reason((yield from ask(Call(lambda: messages.head(response)))))
        received = exchange.receive(status, fields, reason)
        if received.nonces:
            self._auth._note_priming(exchange.target.origin, is_primed=True)
            yield from ask(Remember(exchange.target.origin, received.nonces))
        if received.challenge is None:
            messages.attach(response, exchange.report)
            self._auth._log_rejection(exchange, status)
            if received.problem is not None:
                raise received.problem
            return None
        again = yield from ask(Call(lambda: messages.again(response)))
        value = yield from exchange.authorize(received.challenge)
        return messages.authorize(again, value)

    def _go_on(
        self, upload: _Upload[RequestT], response: ResponseT
    ) -> Generator[Step[object], object, RequestT]:
        """Sign the large request once there is a nonce for it, and send it in any case in the end."""
        with suppress(Exception):  # of priming: the upload can do without it
            again = yield from self._answer(response)
            if again is not None:
                return again
        messages, origin = self._messages, upload.exchange.target.origin
        is_at_origin = messages.target(messages.request(response)).origin == origin
        yield from ask(Call(lambda: messages.release(response, keep_cookies=is_at_origin)))
        value = yield from upload.exchange.authorize()
        if value is None and (priming := (yield from self._prime(upload))) is not None:
            return priming
        brought = any(exchange and exchange.report.next_nonces for exchange in self._exchanges.values())
        self._auth._note_priming(origin, is_primed=brought)
        self._upload = None
        self._exchanges = {upload.exchange.target: upload.exchange}
        return self._messages.authorize(upload.request, value)

    def _prime(self, upload: _Upload[RequestT]) -> Generator[Step[object], object, RequestT | None]:
        while upload.methods:
            method, path = upload.methods.pop(), self._auth._resources.prime_path
            priming = self._messages.priming(upload.request, method, path)
            if priming is None or self._messages.target(priming) in self._exchanges:
                continue
            with suppress(Exception):  # of priming: the upload can do without it
                exchange = self._exchange(priming, was_sent=False, auth=self._auth._for_priming())
                value = (yield from exchange.authorize()) if exchange else None
                return self._messages.authorize(priming, value)
        return None

    def _exchange(
        self, request: RequestT, *, was_sent: bool = True, auth: AuthBase | None = None
    ) -> Exchange | None:
        """Find the exchange of a request's target: a redirect back to it does not start over."""
        try:
            target = self._messages.target(request)
        except ArgumentError:  # a transport of its own, such as a socket file: no origin, not ours
            return None
        if target not in self._exchanges:
            self._exchanges[target] = (auth or self._auth)._exchange(
                target,
                self._since,
                self._messages.authorization(request),
                lambda: self._messages.body(request, was_sent=was_sent),
            )
        return self._exchanges[target]

    def _note_unanswered(self, request: RequestT, status: int, fields: ResponseFields) -> None:
        try:
            origin = self._messages.target(request).origin
        except ArgumentError:
            return
        self._auth._warn_unanswered(origin, self._since, status, fields)


def first_origin(messages: Messages[RequestT, ResponseT], request: RequestT) -> Origin:
    """Name a request's origin; one that no other equals where it goes through a transport of its own."""
    try:
        return messages.target(request).origin
    except ArgumentError:
        return Origin("", "", 0)


def merge_cookies(existing: str | None, fresh: str | None) -> str:
    """Put fresh cookies in the place of those of the same names, and leave the others as they are written."""
    if not fresh:
        return existing or ""
    replaced = {pair.partition("=")[0].strip() for pair in fresh.split(";")}
    pairs = [pair.strip() for pair in (existing or "").split(";")]
    return "; ".join([*(pair for pair in pairs if pair and pair.partition("=")[0] not in replaced), fresh])
