"""One request's way, with its challenges and redirects, from origin to origin.

An adapter adds how its library's messages are read and sent (`Messages`), and nothing else.
"""

from __future__ import annotations

__all__ = ["Journey", "Messages", "first_origin", "merge_cookies"]

from collections.abc import Awaitable, Generator
from typing import Generic, Protocol, TypeVar

from ._auth import AuthBase
from ._steps import Call, Step, ask
from .bodies import Body
from .challenge import read_reason
from .errors import ArgumentError
from .exchange import Exchange, Remember, ResponseFields, Target
from .origins import Origin

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResponseT_contra = TypeVar("ResponseT_contra", contravariant=True)


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
        return self._messages.authorize(request, value)

    def harvest(self, response: ResponseT) -> Generator[Step[object], object, None]:
        """Remember the next nonces of a redirect.

        Args:
            response: The redirect.
        """
        exchange = self._exchange(self._messages.request(response))
        if exchange is not None:
            received = exchange.receive(self._messages.status(response), self._messages.fields(response))
            yield from ask(Remember(exchange.origin, received.nonces))

    def arrive(self, response: ResponseT) -> Generator[Step[object], object, RequestT | None]:
        """Read a response, and sign its request again where that is called for.

        Args:
            response: The response.

        Returns:
            The request to send, None when the response goes to the caller.

        Raises:
            TunedDigestError: If there is a challenge that cannot be answered.
        """
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
            yield from ask(Remember(exchange.origin, received.nonces))
        if received.problem is not None:
            raise received.problem
        if received.challenge is None:
            return None
        again = yield from ask(Call(lambda: messages.again(response)))
        value = yield from exchange.authorize(received.challenge)
        return messages.authorize(again, value)

    def _exchange(self, request: RequestT, *, was_sent: bool = True) -> Exchange | None:
        """Find the exchange of a request's target: a redirect back to it does not start over."""
        try:
            target = self._messages.target(request)
        except ArgumentError:  # a transport of its own, such as a socket file: no origin, not ours
            return None
        if target not in self._exchanges:
            self._exchanges[target] = self._auth._exchange(
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
    """Merge two Cookie fields, the fresh one's values winning (RFC 6265 section 5.4)."""
    pairs: dict[str, str] = {}
    for value in (existing, fresh):
        for pair in (value or "").split(";"):
            name, equals, content = pair.strip().partition("=")
            if name or equals:
                pairs[name] = content
    return "; ".join(f"{name}={content}" for name, content in pairs.items())
