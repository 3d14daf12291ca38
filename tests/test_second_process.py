"""A memory store beside other workers of the same server: it refuses to serve, where the system tells."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tuned_digest import ArgumentError
from tuned_digest._runtime.siblings import has_sibling
from tuned_digest.server import MemoryNonceStore
from tuned_digest.server.stores import memory
from tuned_digest.server.stores._alone import require_alone

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="there are no groups of processes to end here"
)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")

REFUSAL = "MemoryNonceStore serves only one"
ROOT = Path(__file__).parents[1]

COMMANDS = {
    "uvicorn": "-m uvicorn tests.worker_app:app --workers {workers} --port {port}",
    "uvicorn uds": "-m uvicorn tests.worker_app:app --workers {workers} --uds {path}",
    "uvicorn reload": "-m uvicorn tests.worker_app:app --reload --reload-dir tests --port {port}",
    "uvicorn.run": "-m tests.worker_app {port}",
    "hypercorn": "-m hypercorn tests.worker_app:app --workers {workers} -b 127.0.0.1:{port}",
    "gunicorn": "-m gunicorn -k asgi -w {workers} -b 127.0.0.1:{port} tests.worker_app:app",
    "gunicorn preload": "-m gunicorn -k asgi -w {workers} -b 127.0.0.1:{port} --preload tests.worker_app:app",
    "gunicorn wsgi": "-m gunicorn -w {workers} -b 127.0.0.1:{port} --preload tests.worker_app:wsgi",
    "granian": "-m granian --interface asgi --workers {workers} --port {port} tests.worker_app:app",
}
"""How to run one application in so many workers at a port."""

SERVERS = ["uvicorn", "hypercorn", "gunicorn", "granian"]


@contextmanager
def running(name: str, path: Path, *, workers: int = 2, **settings: str) -> Iterator["Running"]:
    """Run a server until the block ends."""
    if importlib.util.find_spec(name.split(maxsplit=1)[0].partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = COMMANDS[name].format(workers=workers, port=port, path=path / "socket").split()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "HOME": str(path), **settings},  # gunicorn puts a socket there,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    # Not by asking: granian may not end when it is asked to while it starts.
    deadline = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    deadline.start()
    try:
        yield Running(process, port)
    finally:
        deadline.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@dataclass
class Running:
    """A server, its output and its port."""

    process: subprocess.Popen[str]
    port: int

    def line_with(self, text: str) -> str:
        """Read what the server writes up to a line with that text; that it ends before is a failure."""
        assert self.process.stdout is not None
        seen: list[str] = []
        for line in self.process.stdout:
            seen.append(line)
            if text in line:
                return line
        raise AssertionError("".join(seen))


@linux_only
@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.run", "uvicorn uds", *SERVERS, "gunicorn preload"])
def test_two_workers_are_refused(name: str, tmp_path: Path) -> None:
    """Every server that is told to run two workers says why one of them, at least, does not start."""
    with running(name, tmp_path) as server:
        assert "several_processes=True" in server.line_with(REFUSAL)


@linux_only
@pytest.mark.parametrize("name", SERVERS)
def test_two_workers_are_still_refused_when_the_store_has_waited(name: str, tmp_path: Path) -> None:
    """Called at startup, the store gives the other worker time to end, and then refuses."""
    with running(name, tmp_path, PATIENT="1") as server:
        server.line_with(REFUSAL)


@pytest.mark.parametrize("name", [*SERVERS, "uvicorn reload"])
def test_one_worker_serves(name: str, tmp_path: Path) -> None:
    """A worker that is alone starts, also under a parent process that holds the same socket."""
    with running(name, tmp_path, workers=1) as server:
        server.line_with("has started")


@linux_only
@pytest.mark.parametrize("name", ["gunicorn", "granian"])
def test_a_reload_replaces_the_one_worker(name: str, tmp_path: Path) -> None:
    """The successor of a worker waits until that has ended, and serves."""
    with running(name, tmp_path, workers=1, PATIENT="1") as server:
        first = server.line_with("has started")
        with httpx.Client(transport=httpx.HTTPTransport(retries=5)) as client:
            assert client.get(f"http://127.0.0.1:{server.port}/").status_code == 200
        server.process.send_signal(signal.SIGHUP)
        assert server.line_with("has started") != first


@linux_only
@pytest.mark.parametrize("name", SERVERS)
def test_two_workers_serve_where_that_is_allowed(name: str, tmp_path: Path) -> None:
    """A store that is told of several processes starts in each of them."""
    with running(name, tmp_path, SEVERAL="1", PATIENT="1") as server:
        assert server.line_with("has started") != server.line_with("has started")


@linux_only
def test_the_first_use_refuses_where_nothing_is_called_at_startup(tmp_path: Path) -> None:
    """A forked worker of a preloaded application, without a startup, answers every request with an error."""
    with running("gunicorn wsgi", tmp_path) as server:
        for _ in range(2):
            server.line_with("Booting worker")
        for _ in range(4):
            answer = httpx.get(f"http://127.0.0.1:{server.port}/")
            assert (answer.status_code, REFUSAL in answer.text) == (500, True)


def test_a_worker_that_ends_in_time_is_no_other() -> None:
    """The store waits as long as it was told to, looking again and again."""
    looks = [True, True, False]
    waits: list[float] = []
    require_alone("It", patience=5, has_sibling=lambda: looks.pop(0), sleep=waits.append)
    assert len(waits) == 2


def test_a_worker_that_stays_is_refused_in_the_end() -> None:
    """What waits has a deadline."""
    waits: list[float] = []
    with pytest.raises(ArgumentError, match="SQLiteNonceStore, RedisNonceStore"):
        require_alone("It", patience=5, has_sibling=lambda: True, sleep=waits.append)
    assert sum(waits) == pytest.approx(5, abs=0.2)


def test_the_store_asks_at_the_start_and_at_the_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside another worker a store does nothing at all, unless it was told of several processes."""

    def refuse(store: str, *, patience: float = 0.0) -> None:
        raise ArgumentError(f"{store} is not alone after {patience}")

    monkeypatch.setattr(memory, "require_alone", refuse)
    with pytest.raises(ArgumentError, match=r"after 5\.0"):
        MemoryNonceStore().start()
    store = MemoryNonceStore()
    for _ in range(2):
        with pytest.raises(ArgumentError, match=r"after 0\.0"):
            store.take("A")
    store = MemoryNonceStore(several_processes=True)
    store.start()
    assert store.take("A") is None


def test_a_system_that_does_not_tell_is_believed(tmp_path: Path) -> None:
    """Without proc there is no check."""
    assert not has_sibling(tmp_path / "proc")


class Proc:
    """A system's processes as files: this process is number 7, its parent 1."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.add("7", parent="1")
        (path / "self").symlink_to("7")
        (path / "meminfo").touch()

    def add(self, number: str, *, parent: str) -> Path:
        """Add a process, and give the directory of its descriptors."""
        (self.path / number / "fd").mkdir(parents=True)
        (self.path / number / "stat").write_text(f"{number} (a) b (c) S {parent} 7 7 0 -1")
        return self.path / number / "fd"

    def hold(self, number: str, descriptor: int, link: str = "socket:[42]") -> None:
        """Have a process hold a descriptor."""
        (self.path / number / "fd" / str(descriptor)).symlink_to(link)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    """A system of one process."""
    return Proc(tmp_path / "proc")


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    """A socket that is bound and does not listen yet."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound


def test_a_sibling_with_the_same_bound_socket_is_another_worker(proc: Proc, bound: socket.socket) -> None:
    """It takes the same parent and the same socket, whatever the process is called."""
    proc.hold("7", bound.fileno())
    proc.add("8", parent="1")
    assert not has_sibling(proc.path)
    proc.hold("8", 3, "socket:[41]")
    proc.hold("8", 4, "pipe:[42]")
    assert not has_sibling(proc.path)
    proc.hold("8", 5)
    assert has_sibling(proc.path)


def test_parents_and_strangers_are_no_workers(proc: Proc, bound: socket.socket) -> None:
    """A parent, a child and a process of another parent may hold the socket."""
    proc.hold("7", bound.fileno())
    for number, parent in (("1", "0"), ("9", "7"), ("10", "2")):
        proc.add(number, parent=parent)
        proc.hold(number, 3)
    assert not has_sibling(proc.path)


def test_what_a_process_may_not_show_is_left_out(proc: Proc, bound: socket.socket) -> None:
    """A sibling that has ended, or is another user's, is passed over."""
    proc.hold("7", bound.fileno())
    proc.add("8", parent="1").rmdir()
    proc.add("9", parent="1")
    (proc.path / "9" / "fd" / "3").touch()
    (proc.path / "10").mkdir()
    (proc.path / "11").mkdir()
    (proc.path / "11" / "stat").write_text("")
    assert not has_sibling(proc.path)


def test_only_a_socket_that_takes_connections_counts(proc: Proc, bound: socket.socket) -> None:
    """Connections, pairs, datagrams and what is bound to nothing may be shared with a sibling."""
    bound.listen()
    one, two = socket.socketpair()
    with (
        socket.create_connection(bound.getsockname()) as connection,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
        socket.socket() as unbound,
        one,
        two,
    ):
        datagrams.bind(("127.0.0.1", 0))
        for number in map(socket.socket.fileno, (connection, datagrams, unbound, one, two)):
            proc.hold("7", number)
        proc.hold("7", 1_000_000)  # closed since it was listed
        proc.add("8", parent="1")
        proc.hold("8", 3)
        assert not has_sibling(proc.path)
        proc.hold("7", bound.fileno())
        assert has_sibling(proc.path)


def test_processes_of_one_parent_that_share_no_socket_serve_side_by_side() -> None:
    """A store beside any other child of the same parent, as under pytest-xdist, is used without a word."""
    with socket.create_server(("127.0.0.1", 0)):
        store = MemoryNonceStore()
        store.start()
        assert store.spend("a", 60)
