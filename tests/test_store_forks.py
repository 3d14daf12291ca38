"""A forked worker of a server, and the nonces that its parent issued."""

import multiprocessing

import pytest

from tuned_digest.server import Grant, MemoryNonceStore

from .driving import ACCESS

GRANT = Grant({ACCESS.scheme: ACCESS}, frozenset({"read"}), chained=True)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_does_not_accept_what_its_parent_issued() -> None:
    """A nonce from before a fork is good in the parent alone, and the child issues its own."""
    store = MemoryNonceStore()
    (nonce,) = store.issue(GRANT)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()

    def serve() -> None:
        answers.put(store.take(nonce))
        answers.put(store.take(store.issue(GRANT)[0]))

    worker = fork.Process(target=serve)
    worker.start()
    worker.join(30)
    assert answers.get() is None
    assert answers.get() == GRANT
    assert store.take(nonce) == GRANT


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_worker_has_an_epoch_of_its_own() -> None:
    """A child does not know what its parent spends, and says so with another epoch."""
    store = MemoryNonceStore()
    epoch = store.spend("a", 60)
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    worker = fork.Process(target=lambda: answers.put(store.spend("a", 60)))
    worker.start()
    worker.join(30)
    assert answers.get() not in {None, epoch}
