"""Requests that ordinary clients do not send, byte for byte, to a real server on h11."""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from tuned_digest.server import Grant, MemoryNonceStore, Policy, Verifier
from tuned_digest.server.asgi import Receive, Scope, Send, TunedDigestMiddleware

from .field_server import answer
from .serving import QUICK, QUICK_CREATE, Served, serve
from .verifying import written


@dataclass
class Watched:
    """A server, and what its policy and its store were asked."""

    served: Served
    asked: list[str] = field(default_factory=list)

    def response(self, request_line: bytes, *lines: bytes) -> tuple[int, dict[str, str], dict[str, str]]:
        """Send the head of a request, and read status, header fields and JSON of the response."""
        address = urlsplit(self.served.url)
        assert address.hostname is not None
        head = [request_line, b"Host: localhost", b"Connection: close", *lines, b"", b""]
        with socket.create_connection((address.hostname, address.port or 80), timeout=30) as connection:
            connection.sendall(b"\r\n".join(head))
            received = b"".join(iter(lambda: connection.recv(65536), b""))
        head_received, _, body = received.partition(b"\r\n\r\n")
        status_line, *named = head_received.decode("ascii").split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in named)}
        return int(status_line.split(" ")[1]), fields, json.loads(body)


@pytest.fixture(scope="module")
def running() -> Iterator[Watched]:
    """A verified application on h11."""
    asked: list[str] = []

    class NotedPolicy(Policy):
        def action(self, method: str, path: str) -> str:
            asked.append(f"action of {method} {path}")
            return "read"

    class NotedStore(MemoryNonceStore):
        def issue(self, *grants: Grant) -> list[str]:
            asked.append("issue")
            return super().issue(*grants)

        def take(self, nonce: str, /) -> Grant | None:
            asked.append("take")
            return super().take(nonce)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked.append("application")
            await answer(send, 200, [], b"{}")

    policy = NotedPolicy(access=QUICK, create=QUICK_CREATE)
    with serve(TunedDigestMiddleware(app, Verifier(NotedStore(), policy=policy)), http="h11") as served:
        yield Watched(served, asked)


@pytest.fixture
def watched(running: Watched) -> Watched:
    """That application, which nobody has asked anything yet."""
    running.asked.clear()
    running.served.requests.clear()
    return running


@pytest.mark.parametrize("method", ["post", "Post", "get", "options", "pOST"])
@pytest.mark.parametrize("credential", ["none", "malformed", "signed"])
def test_a_lower_case_method_is_a_bad_request(watched: Watched, method: str, credential: str) -> None:
    """The server hands it on as sent, and it is 400: no nonce is issued or taken, the policy not asked."""
    value = written("AAAA", method=method) if credential == "signed" else "tuned-digest-signature nonce="
    lines = [] if credential == "none" else [f"Authorization: {value}".encode()]
    status, fields, body = watched.response(f"{method} /blobs HTTP/1.1".encode(), *lines)
    assert (status, body) == (400, {"message": "the method is not an upper-case token"})
    assert {"www-authenticate", "uno-www-authn", "authentication-info"}.isdisjoint(fields)
    assert fields["cache-control"] == "no-store"
    assert [seen.method for seen in watched.served.requests] == [method]
    assert watched.asked == []


def test_an_upper_case_method_is_challenged(watched: Watched) -> None:
    """The same request in upper case is classified as it was sent."""
    status, fields, body = watched.response(b"POST /blobs HTTP/1.1")
    assert (status, body["reason"]) == (401, "authorization required")
    assert "www-authenticate" in fields
    assert watched.asked == ["action of POST /blobs", "issue"]


@pytest.mark.parametrize("size", [8193, 30_000])
def test_credentials_over_8_kib_are_a_bad_request(watched: Watched, size: int) -> None:
    """The server takes larger fields, and they are refused before anything is done for them."""
    value = f"{written('AAAA')};x="
    value += "x" * (size - len(value))
    status, fields, body = watched.response(b"GET / HTTP/1.1", f"Authorization: {value}".encode())
    assert (status, body) == (400, {"message": "Authorization: over 8192 characters"})
    assert "www-authenticate" not in fields
    assert watched.asked == []


def test_credentials_of_8_kib_are_read(watched: Watched) -> None:
    """The largest credential there can be gets an answer of its own."""
    value = f"{written('AAAA')};x="
    value += "x" * (8192 - len(value))
    status, _, body = watched.response(b"GET / HTTP/1.1", f"Authorization: {value}".encode())
    assert (status, body["reason"]) == (401, "unknown nonce")


@pytest.mark.parametrize("piece", [b",", b"a=,", b'"', b";", b'="', b"a;", b"x1=1;"], ids=bytes.decode)
def test_8_kib_of_one_piece_are_a_bad_request(watched: Watched, piece: bytes) -> None:
    """Credentials made of one piece again and again are 400, and bring nothing."""
    scheme = b"tuned-digest-signature "
    value = scheme + piece * ((8192 - len(scheme)) // len(piece))
    status, fields, body = watched.response(b"GET / HTTP/1.1", b"Authorization: " + value)
    assert (status, set(body)) == (400, {"message"})
    assert "www-authenticate" not in fields
    assert watched.asked == []


@pytest.mark.parametrize("target", ["?a=b", "/?a=b"])
def test_an_empty_path_is_a_slash(watched: Watched, target: str) -> None:
    """A target without a path is classified as ``/``."""
    status, _, _ = watched.response(f"GET {target} HTTP/1.1".encode())
    assert status == 401
    assert watched.asked == ["action of GET /", "issue"]


@pytest.mark.parametrize(
    "line", [b"OPTIONS * HTTP/1.1", b"CONNECT localhost:80 HTTP/1.1", b"TRACE / HTTP/1.1", b"GET a HTTP/1.1"]
)
def test_what_is_never_signed_is_a_bad_request(watched: Watched, line: bytes) -> None:
    """What clients never sign is 400, and brings nothing."""
    status, fields, _ = watched.response(line)
    assert (status, "www-authenticate" in fields) == (400, False)
    assert watched.asked == []


@pytest.mark.parametrize("path", [b"/a/../b", b"/.", b"/..", b"/a/%2e%2E/b", b"/a%2f..%2fb", b"/./a"])
def test_dot_segments_are_a_bad_request(watched: Watched, path: bytes) -> None:
    """A path that servers read in different ways is 400, and brings nothing."""
    status, fields, body = watched.response(b"GET %b HTTP/1.1" % path)
    assert (status, "www-authenticate" in fields) == (400, False)
    assert body["message"].startswith("the path has dot segments")
    assert watched.asked == []


@pytest.mark.parametrize("path", [b"/a..b", b"/...", b"/.well-known/x", b"/a/b..", b"/%2e.x"])
def test_dots_in_names_are_no_dot_segments(watched: Watched, path: bytes) -> None:
    """A segment that has other characters as well is a name."""
    status, _, _ = watched.response(b"GET %b HTTP/1.1" % path)
    assert status == 401


def test_two_authorization_fields_are_a_bad_request(watched: Watched) -> None:
    """A good credential beside another one is 400, and its nonce is not taken."""
    ours = f"Authorization: {written('AAAA')}".encode()
    for lines in ([ours, ours], [b"Authorization: Basic YTpi", ours]):
        status, _, body = watched.response(b"GET / HTTP/1.1", *lines)
        assert (status, body) == (400, {"message": "Authorization: more than one credential"})
    assert watched.asked == []
