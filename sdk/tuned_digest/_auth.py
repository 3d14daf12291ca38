"""What every adapter's auth object is made of.

`AuthBase` holds the settings and the state shared by all requests, and says what the steps of an
exchange mean. A `Journey` is one request's way, with its redirects, from origin to origin. An adapter
adds how its library's messages are read and sent (`Messages`), and nothing else.
"""

from __future__ import annotations

__all__ = [
    "AuthBase",
    "Call",
    "Journey",
    "Messages",
    "as_library_error",
    "first_origin",
    "merge_cookies",
    "nonce_of",
]

import copy
import functools
import inspect
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, Self, TypeVar, cast

from . import events
from ._drivers import Inline, Job, Threaded, Worked
from ._grammar import ACTIONS, SCHEMES, names_our_scheme
from ._work import Resources
from .authorization import is_ours, read_authorization
from .bodies import Body
from .canonical import is_signable, path_of
from .challenge import CHALLENGE_FIELDS, read_reason
from .errors import ArgumentError, MalformedFieldError, TunedDigestError
from .exchange import (
    Digest,
    Exchange,
    Prove,
    Remember,
    ResponseFields,
    Settings,
    Sign,
    Spend,
    Step,
    Take,
    Target,
    ask,
    guess_action,
)
from .nonces import MemoryNonceCache, NonceCache
from .origins import Origin, ServedOrigins
from .proof import prove
from .signers import AsyncSigner, Ed25519Signer, Signer
from .tuning import Limits

T = TypeVar("T")
RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResponseT_contra = TypeVar("ResponseT_contra", contravariant=True)

_logger = logging.getLogger("tuned_digest")

_WARNED_ORIGINS = 256  # origins that warnings are counted for; beyond it none is logged


class AuthBase:
    """Sign every request to the served origins, answering challenges and chaining next nonces.

    An object is safe to share between threads, tasks, event loops and forks.

    Args:
        origin: The origins to sign for, each a scheme and host; ``"*"`` for any.
        signer: The key; async clients take an `AsyncSigner` too.
        limits: The most work a server may ask for.
        resources: What this process spends on it.
        nonces: Where next nonces are kept, None for a `MemoryNonceCache`.
        schemes: The schemes answered, in order of preference.
        action: Method and path on the wire to action, in place of the default guess.
        signed_path: Path on the wire to the path the server verifies, where it is mounted behind a prefix.
        allow_http: Also serve plain http beyond loopback.
        on_event: Called with each event.

    Raises:
        ArgumentError: If an origin is not one or is plain http beyond loopback, or a scheme is unknown.
    """

    def __init__(
        self,
        origin: str | Iterable[str],
        signer: Signer | AsyncSigner,
        *,
        limits: Limits = Limits(),
        resources: Resources = Resources(),
        nonces: NonceCache | None = None,
        schemes: Sequence[str] = SCHEMES,
        action: Callable[[str, str], str] | None = None,
        signed_path: Callable[[str], str] | None = None,
        allow_http: bool = False,
        on_event: Callable[[events.Event], None] | None = None,
        _randomness: Callable[[int], bytes] = secrets.token_bytes,
        _clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if isinstance(signer, type) or not callable(getattr(signer, "sign", None)):
            raise ArgumentError("signer is a key: pass Ed25519Signer.from_file(...), or a Signer of your own")
        if isinstance(nonces, type):
            raise ArgumentError("nonces is a cache: pass MemoryNonceCache(), an object")
        if isinstance(schemes, str):
            raise ArgumentError(f"schemes is a sequence: pass [{schemes!r}]")
        self._origins = ServedOrigins(origin, allow_http=allow_http)
        self._signer = signer
        self._resources = resources
        self._nonces: NonceCache = MemoryNonceCache() if nonces is None else nonces
        self._settings = Settings(
            public_key=signer.public_key,
            limits=limits,
            schemes=tuple(schemes),
            action=action or guess_action,
            signed_path=signed_path,
            on_event=on_event,
            randomness=_randomness,
            clock=_clock,
        )
        self._warned: set[tuple[str, Origin]] = set()

    def for_action(self, action: str) -> Self:
        """Make a view on the same state that takes every request for one action.

        Args:
            action: ``create``, ``read``, ``update``, ``delete``, ``debug`` or ``proxy``.

        Returns:
            An auth object that shares this one's nonces.

        Raises:
            ArgumentError: If there is no such action.
        """
        if action not in ACTIONS:
            raise ArgumentError(f"an action is one of {', '.join(ACTIONS)}, not {action!r}")
        view = copy.copy(self)
        view._settings = replace(self._settings, action=lambda method, path: action)
        return view

    def _exchange(
        self, target: Target, since: Origin, authorization: str | None, body: Callable[[], Body]
    ) -> Exchange | None:
        """Begin an exchange, or say with None that this request is not ours to sign."""
        if not self._origins.serves(target.origin, since=since):
            return None
        if not is_signable(target.method, path_of(target.path)):
            return None
        if authorization is not None and not is_ours(authorization):
            self._warn(
                target.origin, "a request has an Authorization field of its own: it is kept, and not signed"
            )
            return None
        return Exchange(target, body(), self._settings, sent=nonce_of(authorization))

    def _warn_unanswered(self, origin: Origin, since: Origin, status: int, fields: ResponseFields) -> None:
        if status != 401 or self._origins.serves(origin, since=since):
            return
        if any(names_our_scheme(value) for name in CHALLENGE_FIELDS for value in fields(name)):
            self._warn(origin, f"a challenge is left unanswered: the auth object serves {self._origins}")

    def _warn(self, origin: Origin, message: str) -> None:
        if (message, origin) not in self._warned and len(self._warned) < _WARNED_ORIGINS:
            self._warned.add((message, origin))
            _logger.warning("%s: %s", origin, message)

    def _job(self, step: Step[object]) -> Job:
        """Say what a step means in a blocking client."""
        match step:
            case Digest():
                return Inline(step.body.digest)
            case Take():
                return self._cached(lambda: self._nonces.take(step.origin, step.action))
            case Spend():
                return self._cached(lambda: self._nonces.spend(step.origin, step.nonce))
            case Remember():
                return self._cached(lambda: self._nonces.remember(step.origin, step.nonces))
            case Prove():
                call = functools.partial(
                    prove, step.request_string, step.work, nonce=step.nonce, salt=step.salt
                )
                return Worked(call, step.work, self._resources.max_concurrent)
            case Sign():
                return self._signing(step.message)
            case Call():
                return Inline(step.call)
        raise AssertionError(step)

    def _async_job(self, step: Step[object]) -> Job:
        """Say what a step means in an async client."""
        return Inline(step.body.adigest) if isinstance(step, Digest) else self._job(step)

    def _cached(self, call: Callable[[], object]) -> Job:
        # A cache of the caller's own may block on a file or a network.
        return Inline(call) if type(self._nonces) is MemoryNonceCache else Threaded(call)

    def _signing(self, message: bytes) -> Job:
        call = functools.partial(self._signer.sign, message)
        at_once = type(self._signer) is Ed25519Signer or inspect.iscoroutinefunction(self._signer.sign)
        return Inline(call) if at_once else Threaded(call)


@dataclass(slots=True)
class Call(Step[T]):
    """Ask for a call into the client library, awaited where it is async."""

    call: Callable[[], T | Awaitable[T]]


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
        request = self._messages.request(response)
        exchange = self._exchange(request)
        if exchange is not None:
            received = exchange.receive(self._messages.status(response), self._messages.fields(response))
            yield from ask(Remember(self._messages.target(request).origin, received.nonces))

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
        request, status, fields = (
            messages.request(response),
            messages.status(response),
            messages.fields(response),
        )
        exchange = self._exchange(request)
        if exchange is None:
            self._note_unanswered(request, status, fields)
            return None
        reason = ""
        if status == 401 and exchange.wants_reason:
            reason = read_reason((yield from ask(Call(lambda: messages.head(response)))))
        received = exchange.receive(status, fields, reason)
        if received.nonces:
            yield from ask(Remember(messages.target(request).origin, received.nonces))
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


def nonce_of(authorization: str | None) -> str:
    """Give the nonce of a credential of ours, empty where there is none."""
    try:
        credential = read_authorization([authorization] if authorization else [])
    except MalformedFieldError:
        return ""
    return credential.nonce if credential else ""


def merge_cookies(existing: str | None, fresh: str | None) -> str:
    """Merge two Cookie fields, the fresh one's values winning (RFC 6265 section 5.4)."""
    pairs: dict[str, str] = {}
    for value in (existing, fresh):
        for pair in (value or "").split(";"):
            name, equals, content = pair.strip().partition("=")
            if name or equals:
                pairs[name] = content
    return "; ".join(f"{name}={content}" for name, content in pairs.items())


class _LibraryError(TunedDigestError):
    """Make a core error one of a client library's own as well; see `as_library_error`."""

    _core: type[TunedDigestError]
    _family: type[Exception]

    def __reduce__(self) -> tuple[Callable[..., Exception], tuple[object, ...]]:
        evidence = {name: value for name, value in vars(self).items() if name not in _EXCHANGED}
        return _restore, (self._core, self._family, str(self), evidence)


# What a client library hangs on its errors: its requests hold streams and hooks, and are not pickled.
_EXCHANGED = frozenset({"request", "response", "_request"})


def as_library_error(error: TunedDigestError, family: type[Exception], **exchanged: object) -> Exception:
    """Make an error that ``except`` clauses for a client library catch as well.

    Args:
        error: A core error.
        family: The library's own class of request errors.
        exchanged: The ``request`` and, where there is one, the ``response`` it is about.

    Returns:
        An error of a class with the core error's name, of both families.
    """
    joined = _restore(type(error), family, str(error), vars(error))
    for name, value in exchanged.items():
        setattr(joined, name, value)
    return joined


def _restore(
    core: type[TunedDigestError], family: type[Exception], message: str, evidence: dict[str, Any]
) -> Exception:
    error = _joined_class(core, family)(message)  # type: ignore[arg-type]  # a class is hashable
    vars(error).update(evidence)
    return error


@functools.cache
def _joined_class(core: type[TunedDigestError], family: type[Exception]) -> type[Exception]:
    namespace = {"_core": core, "_family": family, "__module__": core.__module__, "__doc__": core.__doc__}
    return cast("type[Exception]", type(core.__name__, (_LibraryError, core, family), namespace))
