"""What the steps of a verifier mean, once for every framework: policy, store, accounts, body and work."""

from __future__ import annotations

__all__ = ["Effects", "Gone", "ReadBody"]

import functools
import inspect
from collections.abc import Awaitable, Callable, Sequence

import anyio

from .._runtime.loops import PerLoop
from .._runtime.steps import Here, InThread, Step, Steps
from .._wire.credentials import Credentials
from ..errors import ProofError
from ..proof import Job, Work
from .checks import Check, CheckQueue
from .counters import Counters, Tally
from .grants import Grant
from .policy import Policy
from .stores import AsyncNonceStore, NonceStore
from .stores._places import acquired

ReadBody = Callable[[], bytes | Awaitable[bytes]]
"""Reads a request's body and gives BLAKE3-256 of it; raises a `RequestRejectedError` where it cannot.

Each kind of server has its own, blocking or async.
"""

Gone = Callable[[], Awaitable[object]]
"""Waits until the client has closed its connection."""


_STORE_THREADS = 16  # for each event loop: a store that hangs takes none of the application's own
_STORE_PATIENCE = 5.0  # seconds to wait for one of them


class _InStoreThread(InThread):
    """Call a store that may block, in one of a few threads; whoever waits too long for one is refused."""

    __slots__ = ()

    async def awaited(self) -> object:
        """Call in a thread."""
        places = _store_places.get()
        await acquired(places, _STORE_PATIENCE)
        try:
            return await super().awaited()
        finally:
            places.release()


_store_places = PerLoop("tuned_digest_store_places", lambda: anyio.Semaphore(_STORE_THREADS))


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
        self._take_step = _InStoreThread if blocks else Here
        self._issue_step = _InStoreThread if blocks and getattr(store, "issue_blocks", True) else Here
        self._store_holds = getattr(store, "holds", True)

    def start(self) -> Steps[None]:
        """Ask the store whether it can serve."""
        start = getattr(self._store, "start", lambda: None)
        yield (Here if inspect.iscoroutinefunction(start) else InThread)(start)

    def awaited(self, answer: object) -> Step:
        """Await what an async policy answered."""
        return Here(lambda: answer)

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
