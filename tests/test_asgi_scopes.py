"""The middleware driven by hand, with scopes and messages that servers in the field make."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import anyio
import httpx
import pytest

from tuned_digest import ArgumentError, Ed25519Signer
from tuned_digest._wire.challenge import NextNonceReader
from tuned_digest.httpx import TunedDigestAuth
from tuned_digest.server import MemoryNonceStore, Verifier
from tuned_digest.server.asgi import Message, Receive, Scope, Send, TunedDigestMiddleware

from .field_server import POLICY, answer, read, verified

Lines = list[tuple[bytes, bytes]]

EMPTY: Message = {"type": "http.request", "body": b""}


def scope(method: str = "GET", path: str = "/", **others: Any) -> dict[str, Any]:
    """Make the scope of a request."""
    made = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode("utf-8", "surrogateescape"),
        "query_string": b"",
        "headers": [],
    }
    return {name: value for name, value in {**made, **others}.items() if value is not None}


async def unreachable(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand for an application that must not be called."""
    raise AssertionError("the application was called")


async def called(app: Any, scope: Scope, *messages: Message) -> list[Message]:
    """Call an application, and give what it has sent."""
    incoming, sent = iter(messages), list[Message]()

    async def receive() -> Message:
        return next(incoming)

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def called_signed(app: Any, made: dict[str, Any], *messages: Message, content: bytes = b"") -> list[Message]:
    """Call an application twice, for its challenge and signed, and give what it has sent to the second."""

    async def run() -> list[Message]:
        start, _ = await called(app, made, *messages)
        assert start["status"] == 401
        challenges = [(key, value) for key, value in start["headers"] if key == b"www-authenticate"]
        url = f"http://localhost{made['path']}"
        request = httpx.Request(made["method"], url, content=content)
        flow = TunedDigestAuth("http://localhost", Ed25519Signer.generate()).sync_auth_flow(request)
        next(flow)
        request = flow.send(httpx.Response(401, headers=challenges, request=request))
        credentials = (b"authorization", request.headers["Authorization"].encode())
        return await called(app, {**made, "headers": [*made["headers"], credentials]}, *messages)

    return anyio.run(run)


def status_of(sent: list[Message]) -> int:
    """Give the status of what was sent."""
    status: int = sent[0]["status"]
    return status


class TestTargets:
    """What the middleware takes for the path on the wire."""

    def test_a_path_that_is_no_utf_8_is_a_bad_request(self) -> None:
        """Bytes that a server could not decode and left as surrogates cannot be told from others: 400."""
        app = verified(unreachable)
        sent = anyio.run(called, app, scope(path="/caf\udce9", raw_path=None), EMPTY)
        assert status_of(sent) == 400
        assert {key for key, _ in sent[0]["headers"]} == {
            b"cache-control",
            b"content-type",
            b"content-length",
        }
        assert b"not UTF-8" in sent[1]["body"]

    def test_with_raw_path_it_does_not_matter(self) -> None:
        """Where a server gives the bytes, the decoded path is not looked at."""
        made = scope(path="/caf\udce9", raw_path=b"/caf%E9")
        assert status_of(anyio.run(called, verified(unreachable), made, EMPTY)) == 401

    @pytest.mark.parametrize("raw_path", [None, b""])
    def test_an_empty_path_is_a_slash(self, raw_path: bytes | None) -> None:
        """A request without a path, as in ``OPTIONS http://host``, is signed under ``/`` (section 3)."""
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["tuned_digest"].action)
            await answer(send, 200, [], b"")

        made = scope(path="", raw_path=raw_path)
        assert status_of(called_signed(verified(app), made, EMPTY)) == 200
        assert seen == ["read"]

    @pytest.mark.parametrize("path", ["*", "a", "http://localhost/a"])
    def test_a_target_that_is_no_path_is_a_bad_request(self, path: str) -> None:
        """Other forms of a request target are refused."""
        assert status_of(anyio.run(called, verified(unreachable), scope(path=path), EMPTY)) == 400


class TestBodies:
    """What the middleware takes for a body."""

    @pytest.mark.parametrize("value", [b"0" * 5000, b"\xb2", b"-1", b"1, 1"])
    def test_a_content_length_that_is_none_is_refused(self, value: bytes) -> None:
        """What a server lets through as Content-Length and is no number is answered 413, not an error."""
        app = TunedDigestMiddleware(unreachable, Verifier(MemoryNonceStore(), policy=POLICY))
        made = scope(headers=[(b"content-length", value)])
        assert status_of(called_signed(app, made, EMPTY)) == 413

    def test_a_body_comes_in_any_number_of_messages(self) -> None:
        """Messages without a body, and empty ones, are no end of it."""
        bodies: list[bytes] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            bodies.append(await read(receive))
            await answer(send, 200, [], b"")

        messages: list[Message] = [
            {"type": "http.request", "more_body": True},
            {"type": "http.request", "body": b"one", "more_body": True},
            {"type": "http.request", "body": b"", "more_body": True},
            {"type": "http.request", "body": b"two"},
        ]
        made = scope("PATCH")
        assert status_of(called_signed(verified(app), made, *messages, content=b"onetwo")) == 200
        assert bodies == [b"onetwo"]

    def test_a_client_that_leaves_is_not_answered(self) -> None:
        """When the connection goes while the body is read, nothing is called and nothing is sent."""
        messages: list[Message] = [
            {"type": "http.request", "body": b"x", "more_body": True},
            {"type": "http.disconnect"},
        ]
        assert called_signed(verified(unreachable), scope("PATCH"), *messages, content=b"x") == []


class TestOtherScopes:
    """What is no request."""

    def test_a_websocket_is_refused(self) -> None:
        """A WebSocket handshake is closed before the application sees it."""
        made: Scope = {"type": "websocket", "headers": []}
        sent = anyio.run(called, verified(unreachable), made, {"type": "websocket.connect"})
        assert [message["type"] for message in sent] == ["websocket.close"]

    def test_a_verifier_is_needed(self) -> None:
        """What is passed in its place is refused at once, and the error says what to pass."""
        with pytest.raises(ArgumentError, match="verifier is a Verifier"):
            TunedDigestMiddleware(unreachable, MemoryNonceStore())  # type: ignore[arg-type]

    def test_a_negative_limit_is_refused(self) -> None:
        """Limits of bodies are an object of their own."""
        with pytest.raises(ArgumentError, match="bodies is a BodyLimits"):
            TunedDigestMiddleware(unreachable, Verifier(MemoryNonceStore()), bodies=1000)  # type: ignore[arg-type]


class Turned(Sequence[tuple[bytes, bytes]]):
    """A sequence that is no list, as some frameworks keep their header fields."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    def __getitem__(self, index: Any) -> Any:
        return self._lines[index]

    def __len__(self) -> int:
        return len(self._lines)


def generated(lines: Lines) -> Iterator[tuple[bytes, bytes]]:
    """Give header fields that can be read once."""
    yield from lines


SHAPES: dict[str, Callable[[Lines], Iterable[Any]]] = {
    "list": list,
    "tuple": tuple,
    "generator": generated,
    "iterator": iter,
    "lists": lambda lines: [list(line) for line in lines],
    "sequence": Turned,
}


@pytest.mark.parametrize("shape", SHAPES)
class TestResponseHeaders:
    """ASGI lets an application give its header fields as any iterable."""

    def respond(self, shape: str, lines: Lines) -> Lines:
        """Give the header fields of a response that an application has given in one shape."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers: Iterable[Any] = SHAPES[shape](lines)
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        start, _ = called_signed(verified(app), scope(), EMPTY)
        return [(bytes(key), bytes(value)) for key, value in start["headers"]]

    def test_they_are_kept(self, shape: str) -> None:
        """Every field is sent, in order, repeated ones too, and the next nonces come after them."""
        lines = [(b"set-cookie", b"a=1"), (b"X-Other", b"y"), (b"set-cookie", b"b=2")]
        sent = self.respond(shape, lines)
        assert sent[:3] == lines
        values = [value.decode() for key, value in sent if key == b"authentication-info"]
        found, dropped = NextNonceReader().read(values)
        assert (len(found), dropped) == (2, [])

    @pytest.mark.parametrize("name", [b"Cache-Control", b"cdn-cache-control", b"Surrogate-Control"])
    def test_what_a_cache_may_keep_brings_no_nonce(self, shape: str, name: bytes) -> None:
        """Fields for caches among them count, and are sent."""
        lines = [(b"set-cookie", b"a=1"), (name, b"public, max-age=60")]
        assert self.respond(shape, lines) == lines


def test_a_response_may_have_no_header_fields() -> None:
    """An application that gives none gets the next nonces added all the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    start, body = called_signed(verified(app), scope(), EMPTY)
    assert {key for key, _ in start["headers"]} == {b"authentication-info", b"uno-authn-info"}
    assert body == {"type": "http.response.body"}
