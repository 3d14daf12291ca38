"""The constructor of every leaf's auth object, and its views."""

from __future__ import annotations

__all__ = ["AuthBase"]

import copy
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Self

from .. import events
from .._wire.credentials import is_ours
from .._wire.grammar import ACTIONS
from .._wire.origins import ServedOrigins
from .._wire.profiles import PROFILES, Profile
from .._wire.work import Limits
from ..errors import ArgumentError
from ..keys import AsyncSigner, Signer
from .carriage import Carriage
from .flow import Flow, Messages, Primer
from .nonces import MemoryNonceCache, NonceCache
from .records import Records
from .settings import Resources, Settings, check_signer, guess_action


class AuthBase:
    """Sign every request to the served origins, answering challenges and chaining next nonces.

    An object is safe to share between threads, tasks, event loops and forks.

    Args:
        origin: The origins to sign for, each a scheme and host; ``"*"`` for any.
        signer: The key; async clients take an `AsyncSigner` too.
        limits: The most work a server may ask for.
        resources: What this process spends on it.
        nonces: Where next nonces are kept, None for a `MemoryNonceCache`.
        schemes: The schemes answered, in order of preference. None answers Argon2 alone: a hostile server
            can fit other requests to the signature of a search, see the threat model.
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
        schemes: Sequence[str] | None = None,
        action: Callable[[str, str], str] | None = None,
        signed_path: Callable[[str], str] | None = None,
        allow_http: bool = False,
        on_event: Callable[[events.Event], None] | None = None,
        _randomness: Callable[[int], bytes] = os.urandom,
        _clock: Callable[[], float] = time.perf_counter,
        _profiles: tuple[Profile, ...] = PROFILES,
    ) -> None:
        check_signer(signer)
        if isinstance(nonces, type) or not (nonces is None or hasattr(nonces, "take")):
            raise ArgumentError("nonces is a cache: pass MemoryNonceCache(), an object")
        if not isinstance(limits, Limits):
            raise ArgumentError("limits are Limits: pass Limits(max_memory_kib=...), for instance")
        if not isinstance(resources, Resources):
            raise ArgumentError("resources are Resources: pass Resources(work_timeout=...), for instance")
        functions: dict[str, object] = {"action": action, "signed_path": signed_path, "on_event": on_event}
        for name, function in functions.items():
            if function is not None and not callable(function):
                hint = "; for one action, call auth.for_action(...)" if name == "action" else ""
                raise ArgumentError(f"{name} is a function, unlike {function!r}{hint}")
        if isinstance(schemes, str):
            raise ArgumentError(f"schemes is a sequence: pass [{schemes!r}]")
        self._settings = Settings(
            origins=ServedOrigins(origin, allow_http=allow_http),
            signer=signer,
            records=Records(),
            nonces=MemoryNonceCache() if nonces is None else nonces,
            limits=limits,
            resources=resources,
            schemes=None if schemes is None else tuple(schemes),
            action=action or guess_action,
            signed_path=signed_path,
            on_event=on_event,
            randomness=_randomness,
            clock=_clock,
            profiles=_profiles,
        )

    def _carriage(self) -> Carriage:
        """Make what the messages of one call need to know."""
        return Carriage(self._settings.resources, self._settings.clock, is_ours)

    def _flow(
        self, carriage: Carriage, messages: Messages[Any, Any], primer: Primer[Any, Any] | None = None
    ) -> Flow[Any, Any]:
        """Make the flow of one call."""
        return Flow(self._settings, messages, primer)

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
        return self._viewed(lambda method, path: action)

    def _viewed(self, action: Callable[[str, str], str]) -> Self:
        view = copy.copy(self)
        view._settings = replace(self._settings, action=action)
        return view

    def _for_priming(self) -> Self:
        """Make a view that takes each request for what it is."""
        return self._viewed(guess_action)
