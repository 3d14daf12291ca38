"""What an auth object was told, and what this process spends on it."""

from __future__ import annotations

__all__ = [
    "Assessment",
    "Budget",
    "Resources",
    "Settings",
    "check_priming",
    "check_signer",
    "guess_action",
    "signed_by",
]

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .. import events
from .._runtime.limiter import Allowance, default_memory_kib
from .._runtime.steps import Here, InThread, Step
from .._wire.challenge import NextNonce, NextNonceReader, Terms
from .._wire.origins import Origin, ServedOrigins
from .._wire.profiles import Profile
from .._wire.request import is_method, is_signable
from .._wire.work import SCHEMES, Limits
from ..errors import ArgumentError, LimitExceededError, WorkTimeoutError
from ..keys import AsyncSigner, Ed25519Signer, Signer
from ..proof import Work
from .nonces import MemoryNonceCache, NonceCache
from .records import Records

_PUBLIC_KEY_SIZE = 32  # bytes, RFC 8032 section 5.1.5

_GUESSES = {"GET": "read", "HEAD": "read", "OPTIONS": "read", "QUERY": "read", "DELETE": "delete"}

# What RFC 3986 section 3.3 allows, and a query.
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*")


@dataclass(frozen=True, slots=True)
class Resources:
    """Say what this process spends on requests.

    Args:
        max_concurrent: Pieces of work done at once in the whole process, None for one per usable core.
        memory_kib: Memory of all work at once in the whole process, KiB; a request that alone needs more is
            refused. None for a quarter of what the machine or the control group has, and at least 320 MiB.
        work_timeout: Seconds that the work of one call may take in all: its redirects and second answers,
            the waits for a turn and the pauses included; None for no limit. Timeouts of client libraries
            begin when a request is sent, after its work.
        refusals_allowed: Answers to challenges that an origin may refuse in a row. After the third each
            further answer waits longer, 1 to 8 seconds; after the last, calls fail for a minute with
            `RefusedError`. None for no limit and no pauses.
        spool_kib: How much of a body that can be read only once is kept in memory, KiB; more goes to
            a temporary file.
        spool_dir: Where temporary files go, None for ``TMPDIR``, else ``/var/tmp``, else the system's choice.
        prime_above_kib: An httpx client that holds no nonce asks for one before it sends a body larger than
            this, KiB, so that the body is not sent just to be challenged. None never asks; requests cannot.
        prime_method: The method of the request that asks; a GET follows where it brings nothing.
        prime_path: The path of that request.

    Raises:
        ArgumentError: If a number is not positive, the method is never signed, or the path has no slash.
    """

    max_concurrent: int | None = None
    memory_kib: int | None = None
    work_timeout: float | None = None
    refusals_allowed: int | None = 10
    spool_kib: int = 8192
    spool_dir: str | os.PathLike[str] | None = None
    prime_above_kib: int | None = 1024
    prime_method: str = "HEAD"
    prime_path: str = "/"

    def __post_init__(self) -> None:
        for name in ("max_concurrent", "memory_kib", "refusals_allowed", "spool_kib", "prime_above_kib"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ArgumentError(f"{name} is at least 1")
        if self.work_timeout is not None and self.work_timeout <= 0:
            raise ArgumentError("work_timeout is more than 0 seconds")
        check_priming(self.prime_method, self.prime_path)

    def memory_limit_kib(self) -> int:
        """Find how much memory all work at once may take.

        Returns:
            KiB.
        """
        return self.memory_kib or default_memory_kib()


def check_priming(method: str, path: str) -> None:
    """Refuse a priming request that could not be sent, or not be signed.

    Args:
        method: Its method.
        path: The path it goes to, as on the wire.

    Raises:
        ArgumentError: If it is.
    """
    if not is_method(method) or not is_signable(method, path):
        raise ArgumentError(f"a priming request has a method that is signed, unlike {method!r}")
    if not _PATH.fullmatch(path):
        raise ArgumentError(f"a priming request has a path as on the wire, percent-encoded, unlike {path!r}")


def guess_action(method: str, path: str) -> str:
    """Guess which action a request is (section 7): a wrong guess costs a tenth of a second or a resend.

    Args:
        method: The request's method.
        path: The path on the wire.

    Returns:
        ``read``, ``delete`` or ``update``.
    """
    return _GUESSES.get(method, "update")


def check_signer(signer: object) -> None:
    """Refuse what is no key.

    Args:
        signer: What a caller passed for one.

    Raises:
        ArgumentError: If it is a class, or does not sign.
    """
    if isinstance(signer, type) or not callable(getattr(signer, "sign", None)):
        raise ArgumentError("signer is a key: pass Ed25519Signer.from_file(...), or a Signer of your own")


def signed_by(signer: Signer | AsyncSigner, message: bytes) -> bytes | Step:
    """Ask a key for a signature, at once where that is quick.

    Args:
        signer: The key.
        message: The bytes to sign.

    Returns:
        The signature, or a step that is answered with it.
    """
    if type(signer) is Ed25519Signer:
        return signer.sign(message)
    call = functools.partial(signer.sign, message)
    return Here(call) if inspect.iscoroutinefunction(signer.sign) else InThread(call)


class Budget:
    """Count the seconds that the work of one call may still take.

    Args:
        seconds: How many in all, None for no limit.
    """

    __slots__ = ("_allowed", "_left")

    def __init__(self, seconds: float | None) -> None:
        self._allowed = seconds
        self._left = seconds

    @property
    def left(self) -> float | None:
        """Give the seconds left, None for no limit."""
        return self._left

    def draw(self) -> float | None:
        """Give the seconds left for work that is about to begin.

        Returns:
            More than 0 seconds, None for no limit.

        Raises:
            WorkTimeoutError: If there are none left.
        """
        if self._left is not None and self._left <= 0:
            raise WorkTimeoutError(
                f"this call has spent the {self._allowed:.3g} s that its work may take, on redirects and "
                "refused answers; allow more with Resources(work_timeout=...)",
                seconds=self._allowed or 0,
            )
        return self._left

    def spend(self, seconds: float) -> None:
        """Count seconds that were spent.

        Args:
            seconds: How many.
        """
        if self._left is not None:
            self._left -= seconds


@dataclass(frozen=True, slots=True)
class Assessment:
    """Say whether requests can be signed under terms.

    Args:
        work: The work that is done, None where the terms are of no use.
        problem: Which limit they exceed; empty where this client answers none of their schemes.
    """

    work: Work | None
    problem: str = ""


@dataclass(frozen=True)
class Settings:
    """Hold what an auth object was told, and what it remembers.

    Args:
        origins: The origins it signs for.
        signer: The key.
        records: What it remembers of each origin.
        nonces: Where next nonces are kept.
        limits: The most work a server may ask for.
        resources: What this process spends.
        schemes: The schemes answered, in order of preference; None for those a profile answers by itself.
        action: Method and path on the wire to action.
        signed_path: Path on the wire to the path the server verifies, None for the same.
        on_event: Called with each event, None where nobody listens.
        randomness: Gives that many random bytes.
        clock: Gives seconds, never going back.
        profiles: The profiles spoken.

    Raises:
        ArgumentError: If a scheme is unknown or there is none, or the public key has not 32 bytes.
    """

    origins: ServedOrigins
    signer: Signer | AsyncSigner
    records: Records
    nonces: NonceCache
    limits: Limits
    resources: Resources
    schemes: tuple[str, ...] | None
    action: Callable[[str, str], str]
    signed_path: Callable[[str], str] | None
    on_event: Callable[[events.Event], None] | None
    randomness: Callable[[int], bytes]
    clock: Callable[[], float]
    profiles: tuple[Profile, ...]
    reader: NextNonceReader = field(init=False, repr=False, compare=False)
    public_key: bytes = field(init=False)
    allowance: Allowance = field(init=False)
    caches_at_once: bool = field(init=False)
    """Whether the cache never blocks; a caller's own may, on a file or a network."""

    assess: Callable[[Terms], Assessment] = field(init=False, repr=False, compare=False)
    """Says whether requests can be signed under terms; remembers its answers."""

    def __post_init__(self) -> None:
        public_key = self.signer.public_key
        if not isinstance(public_key, bytes) or len(public_key) != _PUBLIC_KEY_SIZE:
            raise ArgumentError(f"a signer's public_key is {_PUBLIC_KEY_SIZE} bytes, unencoded")
        if self.schemes is not None and not (self.schemes and set(self.schemes) <= set(SCHEMES)):
            raise ArgumentError(f"schemes are some of {SCHEMES}, not {self.schemes!r}")
        resources = self.resources
        for name, value in (
            ("public_key", public_key),
            ("reader", NextNonceReader(self.profiles)),
            ("caches_at_once", type(self.nonces) is MemoryNonceCache),
            ("allowance", Allowance(resources.max_concurrent, resources.memory_limit_kib())),
            ("assess", functools.lru_cache(maxsize=64)(self._assess)),
        ):
            object.__setattr__(self, name, value)

    def emit(self, event: events.Event) -> None:
        """Report an event; where it takes time to make one, see first whether anybody listens."""
        if self.on_event is not None:
            self.on_event(event)

    def schemes_for(self, profile: Profile) -> tuple[str, ...]:
        """List the schemes answered under a profile, in order of preference.

        Args:
            profile: The profile.

        Returns:
            The schemes.
        """
        return profile.schemes if self.schemes is None else self.schemes

    def check(self, work: Work) -> None:
        """Refuse work beyond the limits, or beyond this process's memory, before any of it is done.

        Args:
            work: What a server asks for.

        Raises:
            LimitExceededError: If it is.
        """
        self.limits.check(work)
        allowed = self.resources.memory_limit_kib()
        if work.footprint_kib > allowed:
            raise LimitExceededError(
                f"the server asks for {work}: {work.footprint_kib} KiB, and this process spends at most "
                f"{allowed}; to allow more, pass resources=Resources(memory_kib={work.footprint_kib})",
                limit="memory_kib",
                asked=work.footprint_kib,
                allowed=allowed,
            )

    def take(self, origin: Origin, action: str) -> NextNonce | Step | None:
        """Ask the cache for a nonce.

        Args:
            origin: The origin the request goes to.
            action: The action it is for.

        Returns:
            The nonce or None, or a step that is answered with it.
        """
        if self.caches_at_once:
            return self.nonces.take(origin, action)
        return InThread(functools.partial(self.nonces.take, origin, action))

    def spend(self, origin: Origin, nonce: str) -> bool | Step:
        """Ask the cache whether the nonce of a challenge may be sent.

        Args:
            origin: The origin that issued it.
            nonce: The nonce.

        Returns:
            True when it may, or a step that is answered with it.
        """
        if self.caches_at_once:
            return self.nonces.spend(origin, nonce)
        return InThread(functools.partial(self.nonces.spend, origin, nonce))

    def remember(self, origin: Origin, nonces: Iterable[NextNonce]) -> Step | None:
        """Ask the cache to keep next nonces.

        Args:
            origin: The origin that issued them.
            nonces: The nonces.

        Returns:
            None when it does, or a step.
        """
        if self.caches_at_once:
            self.nonces.remember(origin, nonces)
            return None
        return InThread(functools.partial(self.nonces.remember, origin, nonces))

    def sign(self, message: bytes) -> bytes | Step:
        """Ask the key for a signature.

        Args:
            message: The bytes to sign.

        Returns:
            The signature, or a step that is answered with it.
        """
        return signed_by(self.signer, message)

    def _assess(self, terms: Terms) -> Assessment:
        schemes = [scheme for scheme in self.schemes_for(terms.profile) if scheme in terms.works]
        if not schemes or not terms.scopes:
            return Assessment(None)
        work = terms.works[schemes[0]]
        try:
            self.check(work)
        except LimitExceededError as error:
            return Assessment(None, str(error))
        return Assessment(work)
