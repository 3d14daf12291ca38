"""A server that keeps every byte it is sent, and treats its connections as servers in the field do."""

import itertools
import secrets
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

from .ledger import nonce_of
from .serving import QUICK, Seen

Fields = Sequence[tuple[str, str]]


@dataclass
class Recorded(Seen):
    """One request as it came."""

    head: bytes = b""
    body: bytes = b""

    @property
    def framing(self) -> list[str]:
        """The fields that say how long the body is, in lower case: one of them, or none."""
        framing = {b"content-length", b"transfer-encoding"}
        return [f"{name.decode()}: {value.decode()}" for name, value in self.headers if name in framing]


@dataclass
class Recorder:
    """A raw server that is accepting connections."""

    url: str
    requests: list[Recorded] = field(default_factory=list)
    wires: list["Wire"] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    @property
    def statuses(self) -> list[int]:
        """The statuses of all responses so far, 0 where there was none."""
        return [recorded.status for recorded in self.requests]


class Wire:
    """One connection, in the server's hands."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.stream = connection.makefile("rb")
        self.recorded: Recorded | None = None

    def answer(self, status: int, fields: Fields = (), body: bytes = b"") -> None:
        """Send a whole response."""
        self.begin(status, [*fields, ("Content-Length", str(len(body)))], body)

    def begin(self, status: int, fields: Fields, body: bytes = b"") -> None:
        """Send the head of a response, and the beginning of its body."""
        assert self.recorded is not None
        self.recorded.status = status
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in fields), "", ""]
        self.connection.sendall("\r\n".join(lines).encode("latin-1") + body)

    def reset(self) -> None:
        """Break the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self.stream.close()
        self.connection.close()

    def wait_until_gone(self) -> None:
        """Wait until the client has closed the connection."""
        with suppress(ConnectionError):
            while self.connection.recv(65536):
                pass


Respond = Callable[[Wire, Recorded], None]


@contextmanager
def record(respond: Respond, *, early: Respond = lambda wire, recorded: None) -> Iterator[Recorder]:
    """Serve until the block ends: `early` is called with each request's head, `respond` with all of it."""
    recorder = Recorder("")

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            wire = Wire(self.request)
            recorder.wires.append(wire)
            try:
                while recorded := _read_head(wire.stream):
                    recorder.requests.append(recorded)
                    wire.recorded = recorded
                    early(wire, recorded)
                    recorded.body = _read_body(wire.stream, recorded)
                    respond(wire, recorded)
                    if len(recorded.framing) > 1 or wire.stream.closed:
                        break  # nobody can say where the next request would begin
            except ConnectionError:
                pass
            except BaseException as error:
                recorder.failures.append(error)
            finally:
                wire.close()

    with _Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join(30)
    if recorder.failures:
        raise recorder.failures[0]


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


def _read_head(stream: BinaryIO) -> Recorded | None:
    """Read the head of a request; None when the connection was closed before it."""
    lines = list(itertools.takewhile(lambda line: line.strip(), iter(stream.readline, b"")))
    if not lines:
        return None
    method, target, _ = lines[0].decode("ascii").split(" ")
    named = [line.rstrip(b"\r\n").partition(b":") for line in lines[1:]]
    fields = [(name.lower(), value.strip()) for name, _, value in named]
    return Recorded(method, target, fields, head=b"".join(lines))


def _read_body(stream: BinaryIO, recorded: Recorded) -> bytes:
    """Read a body; nothing where its end cannot be known."""
    match [framing.split(": ") for framing in recorded.framing]:
        case [["content-length", size]]:
            return stream.read(int(size))
        case [["transfer-encoding", "chunked"]]:
            return b"".join(iter(lambda: _chunk(stream), b""))
    return b""


def _chunk(stream: BinaryIO) -> bytes:
    size = int(stream.readline(), 16)
    content = stream.read(size)
    assert stream.readline() == b"\r\n"
    return content


class Issuer:
    """Issue nonces, and take each once, as a verifier does that does not look at signatures.

    Args:
        next_nonces: How many a response to an accepted request brings.
    """

    def __init__(self, *, next_nonces: int = 1) -> None:
        self._next_nonces = next_nonces
        self._good: set[str] = set()

    def takes(self, recorded: Recorded) -> bool:
        """Take a request's nonce, if it has a good one."""
        nonces = [nonce_of(value) for value in recorded.field("Authorization")]
        accepted = len(nonces) == 1 and nonces[0] in self._good
        self._good.difference_update(nonces)
        return accepted

    def challenge(self) -> tuple[str, str]:
        """Write a WWW-Authenticate field with a fresh nonce."""
        return (
            "WWW-Authenticate",
            f"tuned-digest-signature nonce={self._fresh()};algorithm={QUICK};actions=read,update",
        )

    def next(self) -> list[tuple[str, str]]:
        """Write Authentication-Info fields with fresh nonces."""
        return [
            ("Authentication-Info", f"nextnonce={self._fresh()};argon={QUICK};scopes=read,update")
            for _ in range(self._next_nonces)
        ]

    def __call__(self, wire: Wire, recorded: Recorded) -> None:
        """Challenge or accept a request."""
        if self.takes(recorded):
            wire.answer(200, self.next(), b"accepted")
        else:
            wire.answer(401, [self.challenge()], b'{"reason": "unknown nonce", "action": "read"}')

    def _fresh(self) -> str:
        nonce = secrets.token_urlsafe(32)
        self._good.add(nonce)
        return nonce
