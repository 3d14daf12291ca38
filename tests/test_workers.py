"""``tuned-digest serve --workers 2``: real processes with one store of nonces, killed and ended."""

import os
import signal
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import httpx
import pytest
import uvicorn

from tuned_digest import Ed25519Signer
from tuned_digest._cli.demo_workers import show_workers
from tuned_digest._cli.service import Service
from tuned_digest.httpx import TunedDigestAuth
from tuned_digest.server.asgi import Receive, Scope, Send

from .commands import commanded
from .redis_servers import RedisServer
from .redis_servers import redis_server as redis_server  # noqa: PLC0414  # a fixture
from .serving import QUICK, QUICK_CREATE, Served, serve

TUNINGS = ("--access", str(QUICK), "--create", str(QUICK_CREATE))
TWO = (*TUNINGS, "--workers", "2")
DEADLINE = 60  # seconds

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are sent so on POSIX alone")


def worker_of(response: httpx.Response) -> int:
    """The process that answered."""
    return int(response.headers["Server-Worker"])


def seen_workers(url: str, count: int, *, without: frozenset[int] = frozenset()) -> set[int]:
    """Open connections until so many workers have answered, those in `without` not counted."""
    workers: set[int] = set()
    deadline = time.monotonic() + DEADLINE
    while len(workers) < count:
        assert time.monotonic() < deadline
        workers |= {worker_of(httpx.get(f"{url}/blobs/welcome", timeout=DEADLINE))} - without
    return workers


def signed(url: str) -> httpx.Request:
    """Answer a challenge, and keep the answer back."""
    request = httpx.Request("GET", f"{url}/blobs/welcome")
    flow = TunedDigestAuth(url, Ed25519Signer.generate()).sync_auth_flow(request)
    with httpx.Client(timeout=DEADLINE) as client:
        challenge = client.send(next(flow))
    answer: httpx.Request = flow.send(challenge)
    return answer


def test_one_request_sent_at_once_to_both_workers_is_accepted_once() -> None:
    """Of fifty copies of one signed request over as many connections exactly one is accepted."""
    with commanded(*TWO) as command, ThreadPoolExecutor(16) as threads:
        seen_workers(command.url, 2)
        request = signed(command.url)

        def send(number: int) -> httpx.Response:
            with httpx.Client(timeout=DEADLINE) as client:
                return client.send(request)

        responses = list(threads.map(send, range(50)))
    accepted = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 401]
    assert (len(accepted), len(refused)) == (1, 49)
    assert {response.json()["reason"] for response in refused} == {"unknown nonce"}


def call_until(over: Event, url: str) -> list[str]:
    """Send signed requests over new connections, and list what was accepted: the Authorization fields."""
    auth, accepted = TunedDigestAuth(url, Ed25519Signer.generate()), []
    while not over.is_set():
        try:
            response = httpx.get(f"{url}/blobs/welcome", auth=auth, timeout=DEADLINE)
        except httpx.TransportError:  # the worker was killed with this request in its hands
            continue
        assert response.status_code == 200
        accepted.append(response.request.headers["Authorization"])
    return accepted


def test_a_killed_worker_is_replaced() -> None:
    """After ``kill -9`` of a worker under requests the service goes on, and nothing is accepted twice."""
    with commanded(*TWO) as command, ThreadPoolExecutor(2) as threads:
        before, over = seen_workers(command.url, 2), Event()
        known = frozenset(before)
        calls = [threads.submit(call_until, over, command.url) for _ in range(2)]
        try:
            for worker in before:
                os.kill(worker, signal.SIGKILL)
                known |= seen_workers(command.url, 1, without=known)
        finally:
            over.set()
        accepted = [field for call in calls for field in call.result(DEADLINE)]
        assert accepted
        for field in accepted:
            again = httpx.get(
                f"{command.url}/blobs/welcome", headers={"Authorization": field}, timeout=DEADLINE
            )
            assert again.json()["reason"] == "unknown nonce"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("early", [True, False], ids=["at once", "once both serve"])
def test_nothing_is_left_behind(number: signal.Signals, early: bool, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM end every process, quietly and with status 0, and remove the private directory."""
    with commanded(*TWO, environment={**os.environ, "TMPDIR": str(tmp_path)}) as command:
        if not early:
            seen_workers(command.url, 2)
        (private,) = tmp_path.iterdir()
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        command.process.send_signal(number)
        printed = command.process.communicate(timeout=DEADLINE)  # until no process holds its end
    assert (command.process.returncode, *printed) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


def test_a_client_goes_on_after_a_restart(tmp_path: Path, signer: Ed25519Signer) -> None:
    """With a file that stays, a next nonce from before a restart is accepted after it."""
    store = ("--store", str(tmp_path / "nonces"))
    with commanded(*TWO, *store) as command:
        auth = TunedDigestAuth(command.url, signer)
        first = httpx.get(f"{command.url}/blobs/welcome", auth=auth, timeout=DEADLINE)
    port = command.url.rpartition(":")[2]
    with commanded(*TWO, *store, "--port", port) as command:
        second = httpx.get(f"{command.url}/blobs/welcome", auth=auth, timeout=DEADLINE)
    assert [first.status_code, second.status_code] == [200, 200]
    assert [len(first.history), len(second.history)] == [1, 0]


def test_workers_end_with_their_supervisor(tmp_path: Path) -> None:
    """When the first process is killed, the workers end by themselves."""
    with commanded(*TWO, environment={**os.environ, "TMPDIR": str(tmp_path)}) as command:
        seen_workers(command.url, 2)
        command.process.kill()
        assert command.process.stdout is not None
        assert command.process.stdout.read() == ""  # which ends when no worker holds the other end


def test_workers_that_cannot_start_end_the_service(tmp_path: Path) -> None:
    """A worker that fails is not replaced for ever: the command ends in 1 and says so."""
    store = tmp_path / "nonces"
    with commanded(*TWO, "--store", str(store)) as command:
        worker = seen_workers(command.url, 2).pop()
        for file in tmp_path.iterdir():
            file.unlink()
        store.mkdir()
        os.kill(worker, signal.SIGKILL)
        _, printed = command.process.communicate(timeout=DEADLINE)
    assert command.process.returncode == 1
    assert "a worker process failed with status 3" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize("version", ["later", "0.35"])
def test_an_application_that_cannot_start_ends_its_process(
    version: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process whose application fails to start says nothing of serving and exits with status 3."""
    if version == "0.35":  # which returns where later versions exit

        async def returning(self: uvicorn.Server, sockets: object) -> None:
            self.should_exit = True

        monkeypatch.setattr(uvicorn.Server, "startup", returning)
    service = Service(QUICK, QUICK_CREATE, cost=None, store=str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(SystemExit) as raised:
        service.run(listening, pytest.fail)
    assert raised.value.code == 3


def test_workers_share_a_redis(redis_server: RedisServer, signer: Ed25519Signer) -> None:
    """With a ``redis://`` store a nonce that one worker issued is taken by another."""
    with commanded(*TWO, "--store", f"redis://127.0.0.1:{redis_server.port}/0") as command:
        auth, issuer = TunedDigestAuth(command.url, signer), 0
        deadline = time.monotonic() + DEADLINE
        while True:
            assert time.monotonic() < deadline
            response = httpx.get(f"{command.url}/blobs/welcome", auth=auth, timeout=DEADLINE)
            assert response.status_code == 200
            if issuer:
                assert response.history == []
                if worker_of(response) != issuer:
                    break
            issuer = worker_of(response)


class TestDemo:
    @pytest.mark.parametrize("connections", [0, 2])
    def test_a_worker_that_never_answers_is_noticed(self, blobs: Served, connections: int) -> None:
        """Where fewer workers answer than there should be, the demo says so."""
        said: list[bool] = []
        clock = iter([0, *[0] * connections, 1000]).__next__
        show_workers(blobs.url, 2, lambda held, text: said.append(held), clock=clock)
        assert not said[0]

    def test_a_replay_that_is_accepted_is_noticed(self) -> None:
        """Where a server accepts what it should refuse, the demo says so."""

        async def accepting(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"anything"})

        said: list[tuple[bool, str]] = []
        with serve(accepting) as server:
            show_workers(server.url, 1, lambda *seen: said.append(seen))
        assert (False, "200, not refused, from worker unnamed") in said
