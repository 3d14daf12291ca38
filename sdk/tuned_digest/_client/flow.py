"""One call's way from its first send to its last answer: the client's order, whole.

A leaf sends what it is handed, and hands in what comes back. It begins with `start`, calls `on_redirect` for
each redirect that its library followed by itself and `on_response` for each answer, and ends with `close`.

1. **start.** A request to an origin that is not served, or with an Authorization field of its own, goes as it
   is. Any other is digested, and signed if a nonce is held for it. If none is, and its body is large, priming
   goes first (5); else it goes unsigned, to be challenged.
2. **on_redirect.** The next nonces of the redirect are remembered.
3. **on_response.** The next nonces are remembered first, whatever else the response is. Then, if it is a 401
   with a challenge that is to be answered, its connection is released and the same request is signed again.
   If it is a challenge that cannot be answered, that is raised. Anything else goes to the caller, with a
   report. The target that counts is the response's own: after a redirect it has an exchange of its own.
4. **An origin that keeps refusing answers** is answered after growing pauses, and in the end not at all.
5. **Priming.** A request without a body is sent in place of a large one, HEAD and then GET. Its challenge is
   answered like any other; once a nonce has come, or neither has brought one, the large request follows. What
   goes wrong with priming is no failure of the call: the large request is sent without.

The work of all of it, pauses included, is drawn from one budget. What is on the way to a server is never
waited for here: a flow is suspended between its moves, not in them.
"""

from __future__ import annotations

__all__ = ["Flow", "Messages", "Primer", "prime"]

import functools
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from .._runtime.steps import Here, Pause, Steps
from .._wire.challenge import CHALLENGE_FIELDS, read_reason
from .._wire.credentials import is_ours, nonce_of
from .._wire.origins import Origin
from .._wire.request import FieldValues, is_signable
from .._wire.work import names_our_scheme
from ..errors import ArgumentError
from ..events import Report
from .bodies import Body
from .exchange import Exchange, Fields, Target
from .settings import Budget, Settings, check_priming, guess_action

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResponseT_contra = TypeVar("ResponseT_contra", contravariant=True)

_logger = logging.getLogger("tuned_digest")


class Messages(Protocol[RequestT, ResponseT_contra]):
    """Read and write one client library's requests and responses."""

    def target(self, request: RequestT) -> Target | None:
        """Name a request's method and URL; None where it goes to no http or https origin."""
        ...

    def authorization(self, request: RequestT) -> str | None:
        """Give a request's Authorization field."""
        ...

    def request_fields(self, request: RequestT) -> FieldValues:
        """Give a request's header fields."""
        ...

    def body(self, request: RequestT, *, was_sent: bool) -> Body:
        """Give a request's body, made so that it can be sent again; a `LostBody` where it is too late."""
        ...

    def authorize(self, request: RequestT, fields: Fields | None) -> RequestT:
        """Give the request with the fields that carry credentials, or without ours; its body was digested."""
        ...

    def request(self, response: ResponseT_contra) -> RequestT:
        """Give the request a response answers, redirects followed."""
        ...

    def status(self, response: ResponseT_contra) -> int:
        """Give a response's status code."""
        ...

    def fields(self, response: ResponseT_contra) -> FieldValues:
        """Give a response's header fields."""
        ...

    def head(self, response: ResponseT_contra) -> bytes | Awaitable[bytes]:
        """Read the first 64 KiB of a response's body at most, and leave it readable."""
        ...

    def again(self, response: ResponseT_contra) -> RequestT | Awaitable[RequestT]:
        """Release a response's connection, 64 KiB read at most, and give its request to be sent again."""
        ...

    def attach(self, response: ResponseT_contra, report: Report) -> None:
        """Put a report where users find it."""
        ...


class Primer(Protocol[RequestT, ResponseT_contra]):
    """Make priming requests, in a library that lets an auth object send one."""

    def priming(self, request: RequestT, method: str, path: str) -> RequestT:
        """Make a request without a body to the same origin."""
        ...

    def release(self, response: ResponseT_contra, *, keep_cookies: bool) -> Awaitable[None] | None:
        """Let go of the response to a priming request, unread, and keep its cookies for the next request."""
        ...


@dataclass(slots=True)
class _Upload(Generic[RequestT]):
    """A request with a large body that waits until its origin was primed."""

    request: RequestT
    exchange: Exchange
    methods: list[str]
    """The methods to prime with, the next one last."""


class Flow(Generic[RequestT, ResponseT]):
    """Take one call of a client library through challenges and redirects.

    Args:
        settings: What the auth object was told.
        messages: How the library's messages are read and written.
        primer: How priming requests are made, None where the library cannot send one.
    """

    _since: Origin | None = None
    _upload: _Upload[RequestT] | None = None

    def __init__(
        self,
        settings: Settings,
        messages: Messages[RequestT, ResponseT],
        primer: Primer[RequestT, ResponseT] | None = None,
    ) -> None:
        self._settings = settings
        self._messages = messages
        self._primer = primer
        self._budget = Budget(settings.resources.work_timeout)
        self._exchanges: dict[Target, Exchange | None] = {}

    def start(self, request: RequestT) -> Steps[RequestT]:
        """Sign a request that is about to be sent for the first time, if there is a nonce for it.

        Args:
            request: The request.

        Returns:
            The request to send.

        Raises:
            BodyError: If its body cannot be digested and sent again.
        """
        target = self._messages.target(request)
        if target is None:
            return request
        self._since = target.origin
        exchange = self._exchange(request, target, was_sent=False)
        if exchange is None:
            return request
        fields = yield from exchange.authorize()
        if fields is None and self._is_to_be_primed(exchange):
            upload = _Upload(request, exchange, ["GET", self._settings.resources.prime_method])
            priming = yield from self._prime(upload)
            if priming is not None:
                self._upload = upload
                return priming
        return self._messages.authorize(request, fields)

    def resume(self, request: RequestT) -> None:
        """Go on with a call whose first request was sent without this flow.

        Args:
            request: That request.
        """
        target = self._messages.target(request)
        self._since = target.origin if target else None

    def on_redirect(self, response: ResponseT) -> Steps[None]:
        """Remember the next nonces of a redirect that the library has followed.

        Args:
            response: The redirect.
        """
        _, exchange = self._answered_by(response)
        if exchange is not None:
            received = exchange.receive(self._messages.status(response), self._messages.fields(response))
            if remembering := self._settings.remember(exchange.target.origin, received.nonces):
                yield remembering

    def on_response(self, response: ResponseT) -> Steps[RequestT | None]:
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
            self._settings.records.note_priming(self._upload.exchange.target.origin, is_primed=False)

    def _answer(self, response: ResponseT) -> Steps[RequestT | None]:
        messages, settings = self._messages, self._settings
        status, fields = messages.status(response), messages.fields(response)
        target, exchange = self._answered_by(response)
        if exchange is None:
            self._note_unanswered(target, status, fields)
            return None
        # A redirect back to a target may come without credentials: what is refused then is no answer.
        is_rejected = status == 401 and exchange.was_sent and self._was_signed(response)
        reason = ""
        if is_rejected:
            reason = read_reason((yield Here(functools.partial(messages.head, response))))
        received = exchange.receive(status, fields, reason, was_signed=is_rejected)
        origin = exchange.target.origin
        if received.nonces:
            settings.records.note_priming(origin, is_primed=True)
            if remembering := settings.remember(origin, received.nonces):
                yield remembering
        is_refused = is_rejected and exchange.is_refused_by(reason) and _has_our_challenge(fields)
        if is_refused or (status != 401 and exchange.was_sent):
            now = settings.clock()
            settings.records.note_answer(origin, now, is_refused=is_refused, reason=reason)
        if received.challenge is None:
            messages.attach(response, exchange.report)
            if is_rejected:
                _log_rejection(exchange, reason)
            if received.problem is not None:
                raise received.problem
            return None
        allowed, left = settings.resources.refusals_allowed, self._budget.left
        seconds = settings.records.pause(origin, settings.clock(), allowed, left)
        again: RequestT = yield Here(functools.partial(messages.again, response))
        if seconds:  # not before: others may be waiting for the connection
            settings.records.warn(origin, "answers are slowed down: this origin keeps refusing them")
            yield Pause(seconds)
            self._budget.spend(seconds)
        return messages.authorize(again, (yield from exchange.authorize(received.challenge)))

    def _was_signed(self, response: ResponseT) -> bool:
        return self._messages.authorization(self._messages.request(response)) is not None

    def _answered_by(self, response: ResponseT) -> tuple[Target | None, Exchange | None]:
        """Find the exchange of a response's request: a redirect back to a target does not start over."""
        request = self._messages.request(response)
        target = self._messages.target(request)  # anew: a hook of the caller's may have changed the request
        if target is None:  # a transport of its own, such as a socket file: no origin, not ours
            return None, None
        return target, self._exchange(request, target, was_sent=True)

    def _exchange(
        self, request: RequestT, target: Target, *, was_sent: bool, settings: Settings | None = None
    ) -> Exchange | None:
        if target not in self._exchanges:
            self._exchanges[target] = self._begin(request, target, was_sent, settings or self._settings)
        return self._exchanges[target]

    def _begin(
        self, request: RequestT, target: Target, was_sent: bool, settings: Settings
    ) -> Exchange | None:
        """Begin an exchange, or say with None that this request is not ours to sign."""
        if not settings.origins.serves(target.origin, since=self._since):
            return None
        if not is_signable(target.method, target.path):
            return None
        messages, authorization = self._messages, self._messages.authorization(request)
        if authorization is not None and not is_ours(authorization):
            settings.records.warn(
                target.origin,
                "a request has an Authorization field of its own: it is kept, and the request not signed",
            )
            return None
        body, values = messages.body(request, was_sent=was_sent), messages.request_fields(request)
        sent = nonce_of(authorization) if authorization else ""
        return Exchange(target, body, values, settings, self._budget, sent)

    def _is_to_be_primed(self, exchange: Exchange) -> bool:
        limit = self._settings.resources.prime_above_kib
        is_large = limit is not None and exchange.body_size > limit * 1024
        return is_large and not self._settings.records.brings_no_nonce(exchange.target.origin)

    def _go_on(self, upload: _Upload[RequestT], response: ResponseT) -> Steps[RequestT]:
        """Sign the large request once there is a nonce for it, and send it in any case in the end."""
        messages, primer, origin = self._messages, self._primer, upload.exchange.target.origin
        assert primer is not None
        with suppress(Exception):  # of priming: the upload can do without it
            again = yield from self._answer(response)
            if again is not None:
                return again
        answered = messages.target(messages.request(response))
        is_at_origin = answered is not None and answered.origin == origin
        with suppress(Exception):
            yield Here(functools.partial(primer.release, response, keep_cookies=is_at_origin))
        fields = yield from upload.exchange.authorize()
        if fields is None and (priming := (yield from self._prime(upload))) is not None:
            return priming
        brought = any(exchange and exchange.report.next_nonces for exchange in self._exchanges.values())
        self._settings.records.note_priming(origin, is_primed=brought)
        self._upload = None
        self._exchanges = {upload.exchange.target: upload.exchange}
        return messages.authorize(upload.request, fields)

    def _prime(self, upload: _Upload[RequestT]) -> Steps[RequestT | None]:
        while self._primer is not None and upload.methods:
            method, path = upload.methods.pop(), self._settings.resources.prime_path
            with suppress(Exception):  # of priming: the upload can do without it
                priming = self._primer.priming(upload.request, method, path)
                target = self._messages.target(priming)
                if target is None or target in self._exchanges:
                    continue
                settings = _for_priming(self._settings)
                exchange = self._exchange(priming, target, was_sent=False, settings=settings)
                fields = (yield from exchange.authorize()) if exchange else None
                return self._messages.authorize(priming, fields)
        return None

    def _note_unanswered(self, target: Target | None, status: int, fields: FieldValues) -> None:
        origins = self._settings.origins
        if target is None or status != 401 or origins.serves(target.origin, since=self._since):
            return
        if _has_our_challenge(fields):
            self._settings.records.warn(
                target.origin, f"a challenge is left unanswered: the auth object serves {origins}"
            )


def prime(
    settings: Settings,
    send: Callable[[str, str], ResponseT | Awaitable[ResponseT]],
    report: Callable[[ResponseT], Report | None],
    close: Callable[[ResponseT], Awaitable[None] | None],
    method: str | None,
    path: str | None,
) -> Steps[bool]:
    """Send each origin a signed request without a body, and a GET where that brings no next nonce.

    Args:
        settings: What the auth object was told.
        send: Sends a request, method and URL, through a client, signed under `for_priming`.
        report: Finds the report on a response.
        close: Closes a response.
        method: The first request's method, None for the settings' own.
        path: The path, None for the settings' own.

    Returns:
        True when every origin sent next nonces.

    Raises:
        ArgumentError: If no origin is named, or the method or the path is of no use.
    """
    origins = settings.origins.listed
    if not origins:
        raise ArgumentError('name the origins to prime: "*" names none')
    first, path = (method or settings.resources.prime_method).upper(), path or settings.resources.prime_path
    check_priming(first, path)
    primed = list[bool]()
    for origin in origins:
        is_primed = False
        for attempt in dict.fromkeys((first, "GET")):
            response: ResponseT = yield Here(functools.partial(send, attempt, f"{origin}{path}"))
            found = report(response)
            yield Here(functools.partial(close, response))
            is_primed = found is not None and found.next_nonces > 0
            if is_primed:
                break
        primed.append(is_primed)
    return all(primed)


def _has_our_challenge(fields: FieldValues) -> bool:
    return any(names_our_scheme(value) for name in CHALLENGE_FIELDS for value in fields(name))


def _for_priming(settings: Settings) -> Settings:
    """Take each request for what it is, whatever action the auth object was told."""
    return replace(settings, action=guess_action)


def _log_rejection(exchange: Exchange, reason: str) -> None:
    target = exchange.target
    _logger.warning(
        "%s: %s %s was rejected: %s",
        target.origin,
        target.method,
        target.path,
        reason or "the server gave no reason",
    )
