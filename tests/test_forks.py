"""What is shared with a forked process: the key and the settings, never a nonce, for every adapter."""

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tuned_digest import Ed25519Signer, Resources, Tuning, events
from tuned_digest.server import Policy

from .clients import Client, Connect
from .field_server import verified
from .ledger import Ledger
from .serving import serve

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no fork here"),
    # What the warning is about is what these tests are about.
    pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning"),
]

SLOW = Tuning("argon2d", 16384, 2, 1)
"""Work that goes to the limiter, and is still running when a test forks."""


@contextmanager
def forked(run: Callable[[], None]) -> Iterator[None]:
    """Run a function in a forked process beside the block; it ends well, and in time."""
    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    try:
        yield
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()


def sending(client: Client, auth: object, url: str, number: int) -> None:
    """Send so many requests, all of which succeed."""
    assert [client.send("GET", url, auth=auth).status for _ in range(number)] == [200] * number


def test_no_nonce_is_used_in_two_processes(connect: Connect, ledger: Ledger, signer: Ed25519Signer) -> None:
    """Two children and their parent, sharing one auth object with nonces in it, never send one twice."""
    with ledger.watch(serve(verified())) as server, connect(server.url, signer) as client:

        def child() -> None:
            with connect(server.url, signer) as own:  # connections cannot be shared, an auth object can
                sending(own, client.auth, server.url, 5)

        threads = [
            threading.Thread(target=sending, args=(client, client.auth, server.url, 1)) for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        before = len(server.requests)
        with forked(child), forked(child):
            sending(client, client.auth, server.url, 5)
        assert server.statuses[before:].count(200) == 15
        assert server.statuses[before:].count(401) == 2


def test_a_client_is_shared_where_its_connections_are_not_kept(
    connect: Connect, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """A blocking client with its auth object goes on in a child, with a challenge of its own."""
    with ledger.watch(serve(verified())) as server, connect(server.url, signer) as client:
        if hasattr(client, "portal"):
            pytest.skip("an event loop does not survive a fork")

        def send() -> None:
            for _ in range(3):
                assert client.send("GET", server.url, headers={"Connection": "close"}).status == 200

        send()
        with forked(send):
            send()
        assert sorted(server.statuses) == [200] * 9 + [401] * 2


def test_a_child_forked_while_its_parent_hashes_can_send(
    connect: Connect, ledger: Ledger, signer: Ed25519Signer
) -> None:
    """A fork in the middle of the work leaves neither parent nor child waiting."""
    hashing = threading.Event()

    def note(event: events.Event) -> None:
        if isinstance(event, events.WorkStarted):
            hashing.set()

    policy = Policy(access=SLOW, create=SLOW, exists=lambda path: True)
    options = {"on_event": note, "resources": Resources(max_concurrent=1)}
    with (
        ledger.watch(serve(verified(policy=policy))) as server,
        connect(server.url, signer, **options) as client,
    ):

        def child() -> None:
            with connect(server.url, signer) as own:
                sending(own, client.auth, server.url, 1)

        worker = threading.Thread(target=sending, args=(client, client.auth, server.url, 1))
        worker.start()
        assert hashing.wait(30)
        with forked(child):
            worker.join(60)
        assert sorted(server.statuses) == [200] * 2 + [401] * 2
