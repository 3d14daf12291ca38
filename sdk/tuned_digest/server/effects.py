"""What the steps of a verifier mean, once for every framework: policy, store, accounts, body and work."""

from __future__ import annotations

__all__ = ["Effects", "ReadBody"]

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator, Iterable

from .._runtime.steps import Here, InThread, Limited, Step
from ..proof import Job, Work
from .grants import Grant
from .policy import Policy
from .stores import AsyncNonceStore, NonceStore

ReadBody = Callable[[], bytes | Awaitable[bytes | None] | None]
"""Reads a request's body and gives BLAKE3-256 of it, None when it is over the limit.

Each kind of server has its own, blocking or async.
"""


class Effects:
    """Make the steps that a verifier yields.

    Args:
        store: Where nonces are issued.
        policy: Which action a request is.
        accounts: Identity to account, None where identities are not registered.
    """

    def __init__(
        self,
        store: NonceStore | AsyncNonceStore,
        policy: Policy,
        accounts: Callable[[str], object | Awaitable[object]] | None,
    ) -> None:
        self._store = store
        self._policy = policy
        self._accounts = accounts
        is_async = inspect.iscoroutinefunction(store.take)
        self._store_blocks = not is_async and getattr(store, "blocks", True)

    def classify(self, method: str, path: str) -> Step:
        """Ask the policy which action a request is."""
        return Here(functools.partial(self._policy.action, method, path))

    def issue(self, grants: Iterable[Grant]) -> Step:
        """Ask the store for nonces, one for each grant."""
        return self._stored(functools.partial(self._store.issue, *grants))

    def take(self, nonce: str) -> Step:
        """Ask the store for what a nonce is good for, burning it."""
        return self._stored(functools.partial(self._store.take, nonce))

    def find_account(self, identity: str) -> Step:
        """Ask for the account of an identity."""
        assert self._accounts is not None
        return Here(functools.partial(self._accounts, identity))

    def read(self, read_body: ReadBody) -> Step:
        """Ask for the body's digest, None when it is over the limit."""
        return Here(read_body)

    def check(self, string: bytes, work: Work, response: str, nonce: str) -> Step:
        """Ask for the work to be checked; a `ProofError` where it does not hold."""
        job = Job()
        check = functools.partial(work.verify, string, response, nonce=nonce, job=job)
        if work.checks_at_once or work.is_quick:
            return Here(check)
        return Limited(_in_one_piece(check), work, share=self, abandon=job.cancel)

    def _stored(self, call: Callable[[], object]) -> Step:
        return InThread(call) if self._store_blocks else Here(call)


def _in_one_piece(check: Callable[[], None]) -> Generator[None, None, None]:
    yield from ()
    check()
