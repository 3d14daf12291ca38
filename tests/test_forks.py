"""What is shared with a forked process: the key and the settings, never a nonce, for every adapter."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tuned_digest import Ed25519Signer, Resources, Tuning, events
from tuned_digest._runtime.forks import generation
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


def test_each_fork_is_counted() -> None:
    """A child and its child have numbers that none of their parents has."""
    number = generation()
    assert generation() == number

    def grandchild() -> None:
        assert generation() == number + 2

    def child() -> None:
        assert generation() == number + 1
        with forked(grandchild):
            pass

    with forked(child), forked(child):
        pass
    assert generation() == number


SAME_PROCESS_ID = """
import ctypes, json, os, sys
from tests.working import HASH, in_one_piece
from tuned_digest import MemoryNonceCache, NextNonce, Origin, Terms
from tuned_digest._runtime.limiter import process_limiter

A, TERMS = Origin.parse("https://a"), Terms({}, frozenset({"read"}))
CLONE_NEWPID = 0x20000000
how, cache, parents_limiter = sys.argv[1], MemoryNonceCache(), None

def leave_the_namespace():  # children do, and the first of them has the number 1
    if how == "constant":
        os.getpid = lambda: 7
    elif ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWPID):
        print("not permitted")
        sys.exit()

def take():
    found = cache.take(A, "read")
    return found and found.nonce

def remember(*nonces):
    cache.remember(A, [NextNonce(nonce, TERMS) for nonce in nonces])

def tell(**facts):
    limiter = process_limiter()
    facts["worked"] = limiter.submit(in_one_piece(lambda: True), HASH).result(60)
    facts["has_its_own_limiter"] = limiter is not parents_limiter
    print(json.dumps({"pid": os.getpid(), **facts}), flush=True)

def in_a_child(run):
    global parents_limiter
    parents_limiter = process_limiter()
    child = os.fork()
    if not child:
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0

def parent():
    remember("a", "b", "c")
    first = take()
    tell(taken=[first])
    leave_the_namespace()
    in_a_child(child)
    print(json.dumps({"pid": os.getpid(), "taken": [take(), take(), take()]}), flush=True)

def child():
    before = take()
    remember("own")
    tell(taken=[before, take(), take()])

leave_the_namespace()
in_a_child(parent)
"""


@pytest.mark.parametrize("how", ["namespace", "constant"])
def test_a_child_may_have_its_parents_process_id(how: str) -> None:
    """In a namespace of its own a child has its parent's number, and still none of its nonces or threads."""
    if how == "namespace" and not (sys.platform == "linux" and os.geteuid() == 0):
        pytest.skip("a process needs root for a namespace of process ids")
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SAME_PROCESS_ID, how],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if "not permitted" in run.stdout:
        pytest.skip("this system lets nobody make a namespace of process ids")
    told = [json.loads(line) for line in run.stdout.splitlines()]
    pid = 1 if how == "namespace" else 7
    done = {"worked": True, "has_its_own_limiter": True}
    assert told == [
        {"pid": pid, "taken": ["c"], **done},
        {"pid": pid, "taken": [None, "own", None], **done},
        {"pid": pid, "taken": ["b", "a", None]},
    ], run.stderr
