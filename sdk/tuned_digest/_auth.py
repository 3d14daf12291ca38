"""What every adapter's auth object is made of: its settings, its state, and what its steps mean."""

from __future__ import annotations

__all__ = ["AuthBase"]

import copy
import functools
import inspect
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Sequence
from dataclasses import replace
from typing import Self, TypeVar

from . import events
from ._drivers import Inline, Job, Threaded, Worked
from ._grammar import ACTIONS, SCHEMES, names_our_scheme
from ._steps import Call, Step, ask
from ._work import Resources, check_priming
from .authorization import is_ours, nonce_of
from .bodies import Body
from .canonical import is_signable, path_of
from .challenge import CHALLENGE_FIELDS
from .errors import ArgumentError
from .exchange import (
    Digest,
    Estimate,
    Exchange,
    Prove,
    Remember,
    ResponseFields,
    Settings,
    Sign,
    Spend,
    Take,
    Target,
    guess_action,
)
from .nonces import MemoryNonceCache, NonceCache
from .origins import Origin, ServedOrigins
from .proof import Job as ProofJob
from .proof import prove
from .proof.estimate import estimate_seconds
from .signers import AsyncSigner, Ed25519Signer, Signer
from .tuning import Limits

ResponseT = TypeVar("ResponseT")

_logger = logging.getLogger("tuned_digest")

_NOTED_ORIGINS = 256  # origins that warnings are counted for, and priming that brought nothing


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
            memory_kib=resources.memory_limit_kib(),
            schemes=tuple(schemes),
            action=action or guess_action,
            signed_path=signed_path,
            on_event=on_event,
            randomness=_randomness,
            clock=_clock,
        )
        self._warned: set[tuple[str, Origin]] = set()
        self._unprimed: set[Origin] = set()

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

    def _for_priming(self) -> Self:
        """Make a view on the same state that takes each request for what it is."""
        view = copy.copy(self)
        view._settings = replace(self._settings, action=guess_action)
        return view

    def _priming(
        self,
        send: Callable[[str, str], ResponseT | Awaitable[ResponseT]],
        report: Callable[[ResponseT], events.Report | None],
        close: Callable[[ResponseT], Awaitable[None] | None],
        method: str | None,
        path: str | None,
    ) -> Generator[Step[object], object, bool]:
        """Send each origin a signed request without a body, and a GET where that brings no next nonce."""
        origins = self._origins.listed
        if not origins:
            raise ArgumentError('name the origins to prime: "*" names none')
        first, path = (method or self._resources.prime_method).upper(), path or self._resources.prime_path
        check_priming(first, path)
        primed = list[bool]()
        for origin in origins:
            is_primed = False
            for attempt in dict.fromkeys((first, "GET")):
                response = yield from ask(Call(functools.partial(send, attempt, f"{origin}{path}")))
                found = report(response)
                yield from ask(Call(functools.partial(close, response)))
                is_primed = found is not None and found.next_nonces > 0
                if is_primed:
                    break
            primed.append(is_primed)
        return all(primed)

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

    def _note_priming(self, origin: Origin, *, is_primed: bool) -> None:
        """Remember where priming brings nothing: it is not tried again until nonces come."""
        if is_primed:
            self._unprimed.discard(origin)
        elif len(self._unprimed) < _NOTED_ORIGINS:
            self._unprimed.add(origin)

    def _log_rejection(self, exchange: Exchange, status: int) -> None:
        if status == 401 and exchange.report.scheme:
            target, reason = exchange.target, exchange.report.reason or "no reason given"
            _logger.warning(
                "%s: %s %s was rejected: %s", target.origin, target.method, path_of(target.path), reason
            )

    def _warn_unanswered(self, origin: Origin, since: Origin, status: int, fields: ResponseFields) -> None:
        if status != 401 or self._origins.serves(origin, since=since):
            return
        if any(names_our_scheme(value) for name in CHALLENGE_FIELDS for value in fields(name)):
            self._warn(origin, f"a challenge is left unanswered: the auth object serves {self._origins}")

    def _warn(self, origin: Origin, message: str) -> None:
        if (message, origin) not in self._warned and len(self._warned) < _NOTED_ORIGINS:
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
            case Estimate():
                return Threaded(lambda: estimate_seconds(step.work))
            case Prove():
                job = ProofJob(step.on_progress)
                call = functools.partial(
                    prove, step.request_string, step.work, nonce=step.nonce, salt=step.salt, job=job
                )
                return Worked(call, step.work, self._resources, job.cancel)
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
