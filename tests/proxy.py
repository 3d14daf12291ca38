"""A proxy on a real socket that takes names to test servers, so that names and default ports are real."""

import selectors
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_REFUSAL = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=proxy\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Proxy:
    """A proxy that is accepting connections."""

    url: str
    heads: list[bytes] = field(default_factory=list)
    """The head of each request made to it, CONNECT included."""
    refuses: bool = False
    """Whether it answers everything with 407."""

    @property
    def targets(self) -> list[str]:
        """The method and target of each request made to it."""
        return [head.partition(b" HTTP/")[0].decode() for head in self.heads]


@contextmanager
def proxy(names: Mapping[str, str]) -> Iterator[Proxy]:
    """Run a proxy for the block: `names` maps each ``host:port`` to a server's URL."""
    running = Proxy("")
    clients: list[socket.socket] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            client: socket.socket = self.request
            clients.append(client)
            with suppress(ConnectionError):
                head = _head(client)
                if not head:
                    return
                running.heads.append(head)
                if running.refuses:
                    client.sendall(_REFUSAL)
                    return
                method, target, version = head.split(b"\r\n", 1)[0].decode().split(" ")
                url = urlsplit(f"//{target}" if method == "CONNECT" else target)
                upstream = urlsplit(names[f"{url.hostname}:{url.port or 80}"])
                with socket.create_connection((upstream.hostname, upstream.port)) as server:
                    if method == "CONNECT":
                        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                    else:
                        path = target.partition("//")[2].partition("/")[2]
                        server.sendall(_forwarded(f"{method} /{path} {version}", head))
                    _pump(client, server)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        running.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield running
        finally:
            server.shutdown()
            thread.join(30)
            # A library may keep a tunnel open, and so the server behind it, until it is garbage.
            for client in clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)


def _head(client: socket.socket) -> bytes:
    """Read up to the empty line, byte by byte: what follows belongs to the server."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        octet = client.recv(1)
        if not octet:
            return b""
        head += octet
    return head


def _forwarded(request_line: str, head: bytes) -> bytes:
    """Write a head as it goes to the server: one request a connection, so that each can be routed."""
    fields = [line for line in head.split(b"\r\n")[1:-2] if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([request_line.encode(), *fields, b"Connection: close", b"", b""])


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                octets = key.fileobj.recv(65536)
                if not octets:
                    return
                key.data.sendall(octets)
