"""What the steps of a verifier mean, once for every framework: policy, store, accounts, body and work."""

from __future__ import annotations

__all__ = ["Effects", "Gone", "InRegistryThread", "InStoreThread", "ReadBody", "action_of", "started"]

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import ClassVar

import anyio

from .._runtime.loops import PerLoop
from .._runtime.steps import Here, InThread, Step, Steps
from .._wire.credentials import Credentials
from .._wire.grammar import ACTIONS
from ..errors import ArgumentError, ProofError
from ..proof import Job, Work
from .checks import Check, CheckQueue
from .counters import Counters, Tally
from .grants import Grant
from .incoming import IncomingRequest
from .policy import Policy
from .stores import AsyncNonceStore, NonceStore
from .stores._places import acquired

ReadBody = Callable[[], bytes | Awaitable[bytes]]
"""Reads a request's body and gives the digest of it that the verifier's `new_digest` makes; raises a
`RequestRejectedError` where it cannot.

Each kind of server has its own, blocking or async.
"""

Gone = Callable[[], Awaitable[object]]
"""Waits until the client has closed its connection."""


# Of the 40 threads that anyio has for each event loop: if all of these hang, the application has the others.
_STORE_THREADS = 16
_REGISTRY_THREADS = 8
_STORE_PATIENCE = 5.0  # seconds to wait for one of them


class InStoreThread(InThread):
    """Call a store that may block, in one of a few threads; whoever waits too long for one is refused."""

    __slots__ = ()

    _places: ClassVar = PerLoop("tuned_digest_store_places", lambda: anyio.Semaphore(_STORE_THREADS))
    _what: ClassVar = "nonce store"

    async def awaited(self) -> object:
        """Call in a thread."""
        places = self._places.get()
        await acquired(places, _STORE_PATIENCE, self._what)
        try:
            return await super().awaited()
        finally:
            places.release()


class InRegistryThread(InStoreThread):
    """Call a key registry that may block, in the same way."""

    __slots__ = ()

    _places: ClassVar = PerLoop("tuned_digest_registry_places", lambda: anyio.Semaphore(_REGISTRY_THREADS))
    _what: ClassVar = "key registry"


def started(service: object) -> Steps[None]:
    """Ask a store or a registry whether it can serve, where it has a `start`.

    Args:
        service: The store or registry.
    """
    start = getattr(service, "start", lambda: None)
    yield (Here if inspect.iscoroutinefunction(start) else InThread)(start)


def action_of(policy: Policy, request: IncomingRequest) -> Steps[str]:
    """Ask a policy which action a request is.

    Args:
        policy: The policy.
        request: The request.

    Returns:
        The action.

    Raises:
        ArgumentError: If the policy answers with something else.
    """
    action = policy.action(request.method, request.path)
    if not isinstance(action, str):
        action = yield Here(lambda: action)
    if action not in ACTIONS:
        raise ArgumentError(f"the policy's action is one of {', '.join(ACTIONS)}, not {action!r}")
    return action


class Effects:
    """Make the steps that a verifier yields.

    Args:
        store: Where nonces are issued.
        policy: Which action a request is.
        accounts: Identity to account, None where there are none.
        checks: Where checks of work wait for their turn.
        tally: Counts what is done.
    """

    def __init__(
        self,
        store: NonceStore | AsyncNonceStore,
        policy: Policy,
        accounts: Callable[[str], object | Awaitable[object]] | None,
        checks: CheckQueue,
        tally: Tally,
    ) -> None:
        self._store = store
        self._policy = policy
        self._accounts = accounts
        self._checks = checks
        self._tally = tally
        blocks = not inspect.iscoroutinefunction(store.take) and getattr(store, "blocks", True)
        self._take_step = InStoreThread if blocks else Here
        self._issue_step = InStoreThread if blocks and getattr(store, "issue_blocks", True) else Here
        self._store_holds = getattr(store, "holds", True)

    def start(self) -> Steps[None]:
        """Ask the store whether it can serve."""
        yield from started(self._store)

    def issue(self, grants: Sequence[Grant]) -> Step:
        """Ask the store for nonces, one for each grant."""
        self._tally.issue(len(grants))
        return self._issue_step(functools.partial(self._store.issue, *grants))

    def take(self, nonce: str) -> Step:
        """Ask the store for what a nonce is good for, burning it."""
        return self._take_step(functools.partial(self._store.take, nonce))

    def discard(self, nonce: str) -> Steps[None]:
        """Burn the nonce of a request that is refused, where the store holds it (section 10, step 4)."""
        if self._store_holds:
            yield self.take(nonce)

    def find_account(self, identity: str) -> Step:
        """Ask for the account of an identity."""
        assert self._accounts is not None
        return Here(functools.partial(self._accounts, identity))

    def read(self, read_body: ReadBody) -> Step:
        """Ask for the body's digest."""
        return Here(read_body)

    def check(
        self,
        string: bytes,
        work: Work,
        credentials: Credentials,
        *,
        identity: str,
        peer: str,
        is_registered: bool,
        gone: Gone | None,
    ) -> Step:
        """Ask for the work to be checked; a `ProofError` where it does not hold."""
        job = Job()
        verify = functools.partial(
            work.verify, string, credentials.response, nonce=credentials.nonce, job=job
        )
        if work.checks_at_once or work.is_quick:
            return Here(verify)
        is_known = is_registered or self._checks.has_proved(identity)
        self._policy.demanded(work, is_known=is_known)

        def run() -> None:
            try:
                verify()
            except ProofError:
                self._policy.failed(work, is_known=is_known)
                raise

        def checked(work: Work, seconds: float) -> None:
            self._tally.check(seconds)
            self._policy.checked(work, seconds, is_known=is_known)

        return self._checks.step(Check(run, work, identity, peer, is_registered, job, checked), gone)

    def counters(self) -> Counters:
        """Give the counters."""
        price = getattr(self._policy, "level", 1.0)
        return self._tally.counters(running=self._checks.running, waiting=self._checks.waiting, price=price)
