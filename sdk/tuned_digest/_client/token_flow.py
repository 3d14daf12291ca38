"""One call's way from its first send to its last answer, for self-signed tokens: the client's order, whole.

A leaf drives it as it drives `flow.Flow`: `start`, `on_redirect` for each redirect that its library followed,
`on_response` for each answer, `close`.

1. **start.** A request to an origin that is not served, or with credentials of its own, goes as it is. Any
   other gets a token; one that is bound to the request has the body digested first.
2. **on_redirect.** A token that is bound is good for one target: the library's own request to the next one is
   refused, and signed anew under 3. Where a library lets us know the next target, it is signed before.
3. **on_response.** A 401 is answered with a new token once after each redirect, where its request had no
   token of its own, and once in the call when the server's Date shows that this machine's clock is off
   (tokens.md section 1). All else goes to the caller, with a report.
"""

from __future__ import annotations

__all__ = ["TokenFlow"]

import functools
import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from .. import events
from .._runtime.steps import Here, Steps
from .._wire.origins import Origin
from .._wire.request import FieldValues, is_signable
from ..errors import ClockError
from ..events import Report
from .bodies import LostBody
from .carriage import DIGEST_FIELD, Carriage
from .exchange import Target
from .flow import Messages
from .token_settings import TokenSettings

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")

# Seconds: more would let a hostile edge collect tokens for later (tokens.md section 1).
_MOST_OFFSET = 15 * 60

_DATE_SIZE = 33  # characters; two that somebody has joined have more

# Of RFC 6750 section 3: what says that a token was refused, and why.
_INVALID_TOKEN = re.compile(r'\berror\s*=\s*"?invalid_token"?(?![^\s,;"])', re.ASCII)
_DESCRIPTION = re.compile(r'\berror_description\s*=\s*"((?:[^"\\]|\\.){0,256})"', re.ASCII)


class TokenFlow(Generic[RequestT, ResponseT]):
    """Take one call of a client library through redirects and a wrong clock.

    Args:
        settings: What the auth object was told.
        messages: How the library's messages are read and written.
        carriage: Knows the credentials that this call has sent.
    """

    _since: Origin | None = None
    _is_corrected = False
    _round_trips = 0

    def __init__(
        self, settings: TokenSettings, messages: Messages[RequestT, ResponseT], carriage: Carriage
    ) -> None:
        self._settings = settings
        self._messages = messages
        self._carriage = carriage
        # What was signed for which target, and under which offset: None once a redirect has answered it.
        self._made: dict[tuple[Target, str], float | None] = {}
        self._may_sign_anew = True

    def start(self, request: RequestT) -> Steps[RequestT]:
        """Sign a request that is about to be sent for the first time.

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
        if not self._is_ours_to_sign(request, target):
            return request
        offset = self._settings.offsets.get(target.origin, 0.0)
        return (yield from self._signed(request, target, offset, was_sent=False))

    def resume(self, request: RequestT) -> None:
        """Go on with a call whose first request was sent without this flow.

        Args:
            request: That request.
        """
        target = self._messages.target(request)
        self._since = target.origin if target else None

    def note_sent(self, request: RequestT) -> None:
        """Go on with a call whose first request was sent with credentials that were kept.

        Args:
            request: That request.
        """
        self.resume(request)
        target, credentials = self._messages.target(request), self._messages.authorization(request)
        if target is not None and credentials is not None:
            self._carriage.sent.add(credentials)
            self._made[target, credentials] = self._settings.offsets.get(target.origin, 0.0)

    def on_redirect(self, response: ResponseT) -> Steps[None]:
        """Note a redirect that the library has followed: what it has answered is no longer new.

        Args:
            response: The redirect.
        """
        self._round_trips += 1
        self._may_sign_anew = True
        request = self._messages.request(response)
        target, credentials = self._messages.target(request), self._messages.authorization(request)
        if target is not None and credentials is not None and (target, credentials) in self._made:
            self._note_accepted(target, credentials)
            self._made[target, credentials] = None
        yield from ()

    def on_response(self, response: ResponseT) -> Steps[RequestT | None]:
        """Read a response, and sign its request again where that is called for.

        Args:
            response: The response.

        Returns:
            The request to send, None when the response goes to the caller.

        Raises:
            ClockError: If this machine's clock is too far off.
        """
        messages = self._messages
        request = messages.request(response)
        target = messages.target(request)  # anew: a hook of the caller's may have changed the request
        if target is None or not self._is_ours_to_sign(request, target):
            self._note_unsigned(target, response)
            return None
        self._round_trips += 1
        status, fields = messages.status(response), messages.fields(response)
        credentials = messages.authorization(request) or ""
        if status != 401:
            if status < 400:  # what fails may have failed before anybody looked at the token
                self._note_accepted(target, credentials)
            self._attach(response)
            return None
        self._settings.forget(target.origin, credentials)
        offset = self._made.get((target, credentials))
        next_offset: float | None = None
        if offset is not None:
            next_offset = self._corrected(target.origin, offset, fields)
        elif self._may_sign_anew:  # reached by a redirect, without a token or with one that was sent before
            self._may_sign_anew = False
            next_offset = self._settings.offsets.get(target.origin, 0.0)
        if next_offset is not None and not (
            not self._settings.digests and isinstance(messages.body(request, was_sent=True), LostBody)
        ):
            again: RequestT = yield Here(functools.partial(messages.again, response))
            return (yield from self._signed(again, target, next_offset, was_sent=True))
        self._attach(response, _description(fields))
        return None

    def close(self) -> None:
        """Note that no more comes."""

    def forward(self, request: RequestT) -> Steps[None]:
        """Sign the request that a library is about to make of a redirect, where it lets us know it.

        Args:
            request: The request.
        """
        self._may_sign_anew = True
        target = self._messages.target(request)
        if target is not None and self._is_ours_to_sign(request, target):
            offset = self._settings.offsets.get(target.origin, 0.0)
            yield from self._signed(request, target, offset, was_sent=True)

    def _note_unsigned(self, target: Target | None, response: ResponseT) -> None:
        """Warn of an origin that asks for a token, and that this auth object does not serve."""
        settings, messages = self._settings, self._messages
        if target is None or settings.origins.serves(target.origin, since=self._since):
            return
        challenges = messages.fields(response)("WWW-Authenticate") if messages.status(response) == 401 else ()
        if any(value.lower().startswith("bearer") for value in challenges):
            settings.records.warn(
                target.origin,
                f"it asks for a token, and gets none: the auth object serves {settings.origins}",
            )

    def _is_ours_to_sign(self, request: RequestT, target: Target) -> bool:
        settings = self._settings
        if not settings.origins.serves(target.origin, since=self._since):
            return False
        if not is_signable(target.method, target.path):
            return False
        credentials = self._messages.authorization(request)
        if credentials is not None and not self._carriage.is_ours(credentials):
            settings.records.warn(
                target.origin,
                f"a request has {_article(self._carriage.field)} field of its own: it is kept, and the "
                "request not signed",
            )
            return False
        return True

    def _signed(self, request: RequestT, target: Target, offset: float, *, was_sent: bool) -> Steps[RequestT]:
        body = functools.partial(self._messages.body, request, was_sent=was_sent)
        fields = yield from self._settings.credentials(target, body, offset)
        self._made[target, fields[0][1]] = offset
        sent, present = self._carriage.sent, self._messages.request_fields(request)
        own = present(DIGEST_FIELD)
        if own and own[0] not in sent:  # a caller's own may have another algorithm: it is kept
            fields = [(name, value) for name, value in fields if name != DIGEST_FIELD]
        sent.update(value for _, value in fields)
        return self._messages.authorize(request, fields)

    def _note_accepted(self, target: Target, credentials: str) -> None:
        """Keep the offset that an accepted token was signed under."""
        offset = self._made.get((target, credentials))
        if offset is not None:
            self._settings.note_offset(target.origin, offset)

    def _corrected(self, origin: Origin, used: float, fields: FieldValues) -> float | None:
        """Find the offset to sign under once more, from the Date of a 401 (tokens.md section 1)."""
        settings = self._settings
        is_trusted = origin.scheme == "https" or origin.is_loopback
        is_refused = any(_INVALID_TOKEN.search(value) for value in fields("WWW-Authenticate"))
        if not is_refused or not is_trusted or fields("Age") or self._is_corrected:
            return None
        date = _date(fields)
        if date is None:
            return None
        offset = date - settings.clock()
        if abs(offset - used) <= settings.skew:
            return None
        if abs(offset) > _MOST_OFFSET:
            raise ClockError(
                f"{origin} refused a token, and its clock is {abs(offset):.0f} s "
                f"{'ahead of' if offset > 0 else 'behind'} this machine's: set this machine's clock",
                origin=str(origin),
                seconds=offset,
            )
        self._is_corrected = True
        if settings.on_event is not None:
            settings.on_event(events.ClockAdjusted(origin, offset))
        return offset

    def _attach(self, response: ResponseT, reason: str = "") -> None:
        scheme = self._settings.scheme if self._made else ""
        self._messages.attach(response, Report(self._round_trips, scheme, reason=reason))


def _article(field: str) -> str:
    return f"an {field}" if field[:1] in "AEIOU" else f"a {field}"


def _date(fields: FieldValues) -> float | None:
    """Read the Date field of a response (RFC 9110 section 6.6.1)."""
    dates = fields("Date")
    if len(dates) != 1 or len(dates[0]) > _DATE_SIZE:
        return None
    try:
        date = parsedate_to_datetime(dates[0])
        # Without a zone it is in UTC too: the third form of RFC 9110 section 5.6.7 has none.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _description(fields: FieldValues) -> str:
    for value in fields("WWW-Authenticate"):
        if found := _DESCRIPTION.search(value):
            return found[1]
    return ""
