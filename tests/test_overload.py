"""A server with more checks of work than it can do: whom it refuses, and what a client that leaves costs."""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar
from urllib.parse import urlsplit

import httpx
import pytest

from tuned_digest import Ed25519Signer, Tuning, Work
from tuned_digest._wire.challenge import read_challenges
from tuned_digest.proof import Job
from tuned_digest.server import CheckQueue, MemoryNonceStore, Policy, StatelessNonceStore, Verifier
from tuned_digest.server.asgi import TunedDigestMiddleware
from tuned_digest.server.policy import Prices

from .clients import Connect
from .driving import Server
from .field_server import field
from .serving import Served, serve
from .verifying import is_held, issued, written

PATIENCE = 30  # seconds


class Held(Tuning):
    """Work whose check takes until the test says so."""

    __slots__ = ()
    released: ClassVar[threading.Event] = threading.Event()
    checked: ClassVar[list[str]] = []

    def verify(self, string: bytes, response: str, *, nonce: str, job: Job) -> None:
        """Wait, and check."""
        Held.checked.append(nonce)
        assert Held.released.wait(PATIENCE)
        super().verify(string, response, nonce=nonce, job=job)


WORK = Held("argon2d", 64, 1, 2)
"""Two lanes: checked in its turn, and not at once."""


class HeldPolicy(Policy):
    """Ask for that work."""

    def price(self, action: str) -> Prices:
        """Give its price."""
        return {WORK.scheme: WORK}


@pytest.fixture
def queue() -> CheckQueue:
    """A queue with one place, in which one check can wait."""
    return CheckQueue(capacity=1, places=1)


@pytest.fixture
def server(queue: CheckQueue) -> Iterator[Served]:
    """A server whose checks take until they are released."""
    Held.released.clear()
    Held.checked.clear()
    verifier = Verifier(MemoryNonceStore(), policy=HeldPolicy(exists=lambda path: True), checks=queue)
    with serve(TunedDigestMiddleware(field, verifier)) as served:
        yield served
        Held.released.set()


def authorization(server: Served) -> str:
    """Sign a request under a key of its own, after a challenge."""
    challenged = httpx.get(f"{server.url}/a")
    (challenge,) = read_challenges([challenged.headers["WWW-Authenticate"]])
    return written(challenge.nonce, Tuning("argon2d", 64, 1, 2))


def wait_for(queue: CheckQueue, running: int, waiting: int) -> None:
    """Wait until so many checks run and wait."""
    deadline = time.monotonic() + PATIENCE
    while (queue.running, queue.waiting) != (running, waiting):
        assert time.monotonic() < deadline, (queue.running, queue.waiting)


def send(server: Served, value: str) -> httpx.Response:
    """Send a signed request."""
    return httpx.get(f"{server.url}/a", headers={"Authorization": value}, timeout=PATIENCE)


def test_what_is_too_much_is_refused_with_503(server: Served, queue: CheckQueue) -> None:
    """Beyond the queue's capacity a request is answered at once, and told when to try again."""
    values = [authorization(server) for _ in range(3)]
    with ThreadPoolExecutor(2) as threads:
        kept = []
        for count, value in enumerate(values[:2]):
            kept.append(threads.submit(send, server, value))
            wait_for(queue, 1, count)
        refused = send(server, values[2])
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json() == {"message": "too many requests wait to be checked: try again in 1 s"}
        Held.released.set()
        assert [response.result(PATIENCE).status_code for response in kept] == [200, 200]


def test_the_check_of_a_client_that_left_is_given_up(server: Served, queue: CheckQueue) -> None:
    """A connection that is reset while its check waits takes the check out of the queue, never done."""
    values = [authorization(server) for _ in range(2)]
    address = urlsplit(server.url)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(send, server, values[0])
        wait_for(queue, 1, 0)
        with socket.create_connection((address.hostname or "", address.port or 0), PATIENCE) as leaving:
            head = f"GET /a HTTP/1.1\r\nHost: localhost\r\nAuthorization: {values[1]}\r\n\r\n"
            leaving.sendall(head.encode())
            wait_for(queue, 1, 1)
            leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(queue, 1, 0)
        Held.released.set()
        assert first.result(PATIENCE).status_code == 200
    wait_for(queue, 0, 0)
    assert len(Held.checked) == 1


def test_a_wrong_hash_is_refused_and_told_to_the_policy() -> None:
    """A check that takes its turn and fails is a 401; the policy learns of it, and of whom it knew."""
    told: list[tuple[str, bool]] = []

    class Told(Policy):
        def demanded(self, work: Work, *, is_known: bool = True) -> None:
            told.append(("demanded", is_known))

        def checked(self, work: Work, seconds: float, *, is_known: bool = True) -> None:
            told.append(("checked", is_known))

        def failed(self, work: Work, *, is_known: bool = True) -> None:
            told.append(("failed", is_known))

    large = Tuning("argon2d", 64, 1, 2)
    to = Server(policy=Told(access=large, create=large))
    signer = Ed25519Signer.generate()
    prices = {large.scheme: large}
    assert to.verify("GET", "/a", [written(issued(to, prices), large, signer=signer)]).action == "read"
    wrong = written(issued(to, prices), large, signer=signer, body=b"other")
    assert str(to.refusal("GET", "/a", [wrong])) == "challenge verification failed"
    assert told == [
        *(("demanded", False), ("checked", False)),
        *(("demanded", True), ("failed", True), ("checked", True)),
    ]


def test_clients_wait_for_their_turn(server: Served, connect: Connect, signer: Ed25519Signer) -> None:
    """A request whose client stays is checked and answered, and its connection goes on to be used."""
    Held.released.set()
    with connect(server.url, signer) as client:
        for _ in range(3):
            assert client.send("GET", f"{server.url}/a").status == 200


def test_a_bad_signature_spends_no_sealed_nonce() -> None:
    """Where nothing is kept of a nonce, a request that anybody could send leaves no trace."""
    to = Server(StatelessNonceStore([bytes(32)]))
    nonce = issued(to)
    forged = written(nonce)[:-6] + "AAAAAA"
    assert str(to.refusal("GET", "/a", [forged])) == "signature verification failed"
    assert "take" not in to.story
    assert is_held(to, nonce)


def test_few_forms_of_next_nonces_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often prices change, a server remembers few of them, and writes them right."""

    class Rising(Policy):
        passes = 1

        def price(self, action: str) -> Prices:
            tuning = Tuning("argon2d", 8, self.passes, 1)
            return {tuning.scheme: tuning}

    monkeypatch.setattr("tuned_digest.server.verifier._MOST_FORMS", 2)
    policy = Rising()
    to = Server(policy=policy)
    for passes in (1, 2, 3, 1):
        policy.passes = passes
        (_, value), *_ = to.grant_next()
        assert f"argon=$argon2d$v=19$m=8,t={passes},p=1;" in value
