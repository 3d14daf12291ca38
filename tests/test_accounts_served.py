"""The accounts application behind real servers, ASGI and WSGI, mounted below a path; and driven by hand."""

import io
import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.util import shift_path_info

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from tuned_digest.errors import ArgumentError
from tuned_digest.server import BodyLimits, MemoryNonceStore
from tuned_digest.server.accounts import MemoryKeyRegistry, asgi, codes, one_time, wsgi
from tuned_digest.server.accounts.enrolment import Enrolment
from tuned_digest.server.accounts.sql import SQLKeyRegistry

from .enrolling import ORIGIN, Call, Device, Reply, quick_hashes
from .serving import serve

PREFIX = "/account"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quick_hashes(monkeypatch)


@dataclass
class Place:
    """Where an application is served.

    Args:
        url: Its origin.
        rules: The rules it goes by.
        client: A client of it.
    """

    url: str
    rules: Enrolment
    client: httpx.Client

    def call(self, method: str, path: str, body: bytes, fields: Mapping[str, str]) -> Reply:
        """Send a request below the place where the application is mounted."""
        content = body or None
        response = self.client.request(method, PREFIX + path, content=content, headers=dict(fields))
        return Reply(response.status_code, list(response.headers.items()), response.content)

    def device(self, account: str = "acme", **options: Any) -> Device:
        """Make a device that nobody knows."""
        return Device(self.call, account, **{"prefix": PREFIX, "clock": time.time, **options})

    def enrolled(self) -> Device:
        """Make a device whose key is enrolled by an invitation."""
        device = self.device()
        assert device.enrol(invitation=self.rules.invite("acme")).status == 201
        return device


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Silent(WSGIRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def mounted(app: Any) -> Any:
    """Mount a WSGI application below the prefix."""

    def mounting(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        assert shift_path_info(environ) == PREFIX.removeprefix("/")
        answer: Iterable[bytes] = app(environ, start_response)
        return answer

    return mounting


@contextmanager
def serve_wsgi(app: Any) -> Iterator[str]:
    """Serve a WSGI application from threads until the block ends."""
    server = make_server("127.0.0.1", 0, app, server_class=_Threads, handler_class=_Silent)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


@contextmanager
def served(kind: str, registry: Any = None) -> Iterator[Place]:
    """Serve the application by a real server, until the block ends."""
    rules = Enrolment(MemoryKeyRegistry() if registry is None else registry)
    store = MemoryNonceStore()
    if kind == "asgi":
        app = Starlette(routes=[Mount(PREFIX, asgi.AccountsApplication(rules, ORIGIN, single_use=store))])
        with serve(app) as running, httpx.Client(base_url=running.url, timeout=60) as client:
            yield Place(running.url, rules, client)
    else:
        application = wsgi.AccountsApplication(rules, ORIGIN, single_use=store)
        with serve_wsgi(mounted(application)) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield Place(url, rules, client)


@pytest.fixture(params=["asgi", "wsgi", "asgi over sql", "wsgi over sql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """The application behind one server after the other, its registry in memory or in a file."""
    kind, _, is_sql = request.param.partition(" over ")
    registry = SQLKeyRegistry(str(tmp_path / "accounts.db")) if is_sql else MemoryKeyRegistry()
    registry.start()
    with served(kind, registry) as place:
        yield place
    if isinstance(registry, SQLKeyRegistry):
        registry.close()


class TestServed:
    def test_life_of_an_account(self, place: Place) -> None:
        """Two devices are enrolled, one by the other, and the first one is revoked and recovered."""
        first, second, third = place.device(label="laptop"), place.device(label="phone"), place.device()
        recovery = first.enrol(invitation=place.rules.invite("acme")).json["recovery_codes"]
        waiting = second.enrol()
        assert waiting.status == 202
        (candidate,) = first.send("GET", "/candidates").json["candidates"]
        assert first.approve(second, candidate["nonce"]).status == 204
        assert second.enrol(nonce=waiting.json["nonce"]).status == 201
        assert second.send("DELETE", f"/keys/{first.thumbprint}").status == 204
        assert first.send("GET", "/keys").status == 401
        assert third.enrol(recovery_code=recovery[0]).status == 201
        assert len(second.send("GET", "/keys").json["keys"]) == 3
        assert len(second.send("GET", "/audit?after=2").json["entries"]) == 5
        assert place.call("GET", "/openapi.json", b"", {}).json["openapi"] == "3.1.0"

    def test_path_on_the_wire(self, place: Place) -> None:
        """A token is bound to the path on the wire: with the prefix, and not without it."""
        device = place.enrolled()
        assert device.send("GET", "/keys").status == 200
        device.prefix = ""
        assert device.send("GET", "/keys").status == 401

    @pytest.mark.parametrize("path", ["/", "/keys/", "/account/keys", "/%C3%A9", "/%FF"])
    def test_no_such_path(self, place: Place, path: str) -> None:
        """Other paths below the prefix are answered with 404, whatever their bytes."""
        assert place.call("GET", path, b"", {}).status == 404

    def test_large_body(self, place: Place) -> None:
        """A body of more than 16 KiB is answered with 413, one of exactly that size is read."""
        for size, status in ((16 * 1024, 400), (16 * 1024 + 1, 413)):
            reply = place.device().send("POST", "/keys", bytes(size))
            assert reply.status == (415 if status == 400 else status)
            assert set(reply.json) == {"message", "reason"}

    def test_address(self, place: Place) -> None:
        """Wrong codes are counted for the address that they came from."""
        statuses = [place.device().enrol(invitation="0" * 28).status for _ in range(6)]
        assert statuses == [403] * 5 + [429]

    def test_race(self, place: Place) -> None:
        """Of devices that use one invitation at once, one is enrolled."""
        invitation = place.rules.invite("acme")
        devices = [place.device() for _ in range(5)]  # as many as one address may try
        with ThreadPoolExecutor(len(devices)) as pool:
            replies = list(pool.map(lambda device: device.enrol(invitation=invitation), devices))
        assert sorted(reply.status for reply in replies) == [201] + [403] * 4
        assert len(place.rules.registry.keys()) == 1

    def test_kept_connections(self, place: Place) -> None:
        """A connection is good for the next request after every answer."""
        device = place.enrolled()
        for _ in range(3):
            assert device.send("GET", "/keys").status == 200
            assert device.send("DELETE", "/keys/" + "x" * 43).status == 404
            assert device.send("POST", "/approvals", b"x").status == 415


class _Slow(MemoryKeyRegistry):
    """A registry that answers when it is let."""

    blocks = True

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answers = threading.Event(), threading.Event()

    def candidates(self, account: str, now: float, /) -> Any:
        self.asked.set()
        assert self.answers.wait(60)
        return super().candidates(account, now)


class TestEventLoop:
    def test_registry(self) -> None:
        """While the registry blocks, the event loop goes on serving."""
        registry = _Slow()
        with served("asgi", registry) as place, ThreadPoolExecutor(1) as pool:
            device = place.enrolled()
            waiting = pool.submit(device.send, "GET", "/candidates")
            assert registry.asked.wait(60)
            assert place.call("GET", "/openapi.json", b"", {}).status == 200
            assert not waiting.done()
            registry.answers.set()
            assert waiting.result(60).status == 200

    def test_hashes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """While secrets are hashed, the event loop goes on serving, and few hashes run at once."""
        running: list[str] = []
        most: list[int] = []
        asked, answers = threading.Event(), threading.Event()
        original = codes.check_secret

        def slowly(hashed: str, secret: str) -> None:
            running.append(secret)
            most.append(len(running))
            asked.set()
            assert answers.wait(60)
            running.remove(secret)
            original(hashed, secret)

        monkeypatch.setattr(one_time, "check_secret", slowly)
        with served("asgi") as place, ThreadPoolExecutor(5) as pool:
            waiting = [pool.submit(place.device().enrol, invitation=f"{number}" * 28) for number in range(5)]
            assert asked.wait(60)
            assert place.call("GET", "/openapi.json", b"", {}).status == 200
            answers.set()
            assert [one.result(60).status for one in waiting] == [403] * 5
        assert max(most) <= 2


async def called(app: Any, scope: Mapping[str, Any], *messages: Mapping[str, Any]) -> list[Any]:
    """Call an ASGI application; after the messages the client says no more."""
    incoming, sent = iter(messages), list[Any]()

    async def receive() -> Any:
        message = next(incoming, None)
        if message is None:
            await anyio.sleep_forever()
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


@dataclass
class ByHand:
    """An application that is called by hand."""

    rules: Enrolment
    app: Any

    def device(self, call: Call) -> Device:
        """Make a device that calls it in some way."""
        return Device(call, clock=time.time)


@pytest.fixture
def by_hand() -> ByHand:
    """The ASGI application."""
    rules = Enrolment(MemoryKeyRegistry())
    return ByHand(rules, asgi.AccountsApplication(rules, ORIGIN, single_use=MemoryNonceStore()))


def scope_of(method: str, target: str, fields: Mapping[str, str], **others: Any) -> dict[str, Any]:
    """Make the scope of a request."""
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
        **others,
    }


def asgi_call(app: Any, *, backend: str = "asyncio", **others: Any) -> Call:
    """Make the way to an ASGI application that is called by hand, its body in two messages."""

    def call(method: str, path: str, body: bytes, fields: Mapping[str, str]) -> Reply:
        length = {"Content-Length": str(len(body))} if body else {}
        messages: list[dict[str, Any]] = [
            {"type": "http.request", "body": body[:5], "more_body": True},
            {"type": "http.request", "body": body[5:]},
        ]
        scope = scope_of(method, path, {**fields, **length}, **others)
        start, content = anyio.run(lambda: called(app, scope, *messages), backend=backend)
        headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
        return Reply(start["status"], headers, content["body"])

    return call


class TestASGI:
    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_event_loops(self, by_hand: ByHand, backend: str) -> None:
        """It is served by any event loop."""
        device = by_hand.device(asgi_call(by_hand.app, backend=backend))
        assert device.enrol(invitation=by_hand.rules.invite("acme")).status == 201
        assert device.send("GET", "/keys").status == 200

    @pytest.mark.parametrize(
        ("root", "path", "status"),
        [
            ("/v1", "/v1/keys", 200),
            ("/v1/", "/v1/keys", 200),
            ("/v1", "/keys", 200),  # a server or framework that takes the prefix off
            ("/ke", "/keys", 200),
            ("/v1", "/v1", 404),
            ("", "/keys", 200),
        ],
    )
    def test_mounted(self, by_hand: ByHand, root: str, path: str, status: int) -> None:
        """The path is found below the prefix, whether the server's path has it or not."""
        enrolling = by_hand.device(asgi_call(by_hand.app))
        enrolling.enrol(invitation=by_hand.rules.invite("acme"))
        enrolling.call = asgi_call(by_hand.app, root_path=root)
        assert enrolling.send("GET", path).status == status

    def test_encoded(self, by_hand: ByHand) -> None:
        """A path in another encoding is the same path, and the token is bound to it as on the wire."""
        device = by_hand.device(asgi_call(by_hand.app))
        device.enrol(invitation=by_hand.rules.invite("acme"))
        device.call = asgi_call(by_hand.app, path="/keys")
        assert device.send("GET", "/k%65ys").status == 200

    def test_lifespan(self, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
        """Served alone it starts once its registry can serve, and else says why not."""
        messages = ({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
        sent = anyio.run(lambda: called(by_hand.app, {"type": "lifespan"}, *messages))
        assert [message["type"] for message in sent] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]

        def fail() -> None:
            raise ArgumentError("the schema is newer")

        monkeypatch.setattr(by_hand.rules.registry, "start", fail)
        sent = anyio.run(lambda: called(by_hand.app, {"type": "lifespan"}, *messages))
        assert sent == [{"type": "lifespan.startup.failed", "message": "the schema is newer"}]

    def test_body_in_a_file(self, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
        """A body of which a part went to a file is read whole."""
        device = by_hand.device(asgi_call(by_hand.app))
        device.enrol(invitation=by_hand.rules.invite("acme"))
        monkeypatch.setattr(asgi, "_BODIES", BodyLimits(max_body=16384, memory=4))
        assert device.send("POST", "/recovery-codes", b"01234567").status == 201

    @pytest.mark.parametrize("path", ["", "//keys", "/keys?"])
    def test_no_such_path(self, by_hand: ByHand, path: str) -> None:
        """A path is compared as it is."""
        scope = scope_of("GET", "/x", {}, path=path)
        start, _ = anyio.run(lambda: called(by_hand.app, scope, {"type": "http.request"}))
        assert start["status"] == 404

    def test_no_content(self, by_hand: ByHand) -> None:
        """An answer without content announces no length (RFC 9110 section 8.6), all others do."""
        device = by_hand.device(asgi_call(by_hand.app))
        device.enrol(invitation=by_hand.rules.invite("acme"))
        new = by_hand.device(device.call)
        nonce = new.enrol().json["nonce"]
        assert device.approve(new, nonce).field("Content-Length") == ""
        reply = device.approve(new, nonce)
        assert reply.field("Content-Length") == str(len(reply.body))

    def test_websocket(self, by_hand: ByHand) -> None:
        """A WebSocket connection is refused."""
        sent = anyio.run(lambda: called(by_hand.app, {"type": "websocket"}))
        assert [message["type"] for message in sent] == ["websocket.close"]

    def test_slow_body(self, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
        """A body that does not come in time is answered with 408."""
        monkeypatch.setattr(asgi, "_BODIES", BodyLimits(max_body=16384, grace=0.01))
        scope = scope_of("POST", "/keys", {"Content-Length": "5"})
        start, content = anyio.run(lambda: called(by_hand.app, scope))
        assert (start["status"], set(json.loads(content["body"]))) == (408, {"message", "reason"})

    def test_client_gone(self, by_hand: ByHand) -> None:
        """A client that goes before its body was whole is not answered."""
        scope = scope_of("POST", "/keys", {"Content-Length": "5"})
        assert anyio.run(lambda: called(by_hand.app, scope, {"type": "http.disconnect"})) == []

    def test_client_gone_meanwhile(self, by_hand: ByHand, monkeypatch: pytest.MonkeyPatch) -> None:
        """A client that goes while its code is checked is not answered, and no key is enrolled."""
        answers, done = threading.Event(), threading.Event()

        def slowly(hashed: str, secret: str) -> None:
            assert answers.wait(60)
            done.set()

        invitation = by_hand.rules.invite("acme")
        monkeypatch.setattr(one_time, "check_secret", slowly)
        sent: list[Any] = []

        def call(method: str, path: str, body: bytes, fields: Mapping[str, str]) -> Reply:
            messages = ({"type": "http.request", "body": body}, {"type": "http.disconnect"})
            scope = scope_of(method, path, {**fields, "Content-Length": str(len(body))})
            sent.extend(anyio.run(lambda: called(by_hand.app, scope, *messages)))
            return Reply(0, [], b"")

        by_hand.device(call).enrol(invitation=invitation)
        answers.set()
        assert done.wait(60)
        assert sent == []
        assert by_hand.rules.registry.keys() == []

    def test_undecoded_path(self, by_hand: ByHand) -> None:
        """A path that a server could not decode is answered with 400."""
        scope = scope_of("GET", "/x", {}, path="/\udc80", raw_path=None)
        start, _ = anyio.run(lambda: called(by_hand.app, scope, {"type": "http.request"}))
        assert start["status"] == 400


def wsgi_call(app: Any, **others: Any) -> Call:
    """Make the way to a WSGI application that is called by hand."""

    def call(method: str, path: str, body: bytes, fields: Mapping[str, str]) -> Reply:
        target, _, query = path.partition("?")
        environ = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": target,
            "QUERY_STRING": query,
            "CONTENT_LENGTH": str(len(body)),
            "CONTENT_TYPE": fields.get("Content-Type", ""),
            "HTTP_AUTHORIZATION": fields.get("Authorization", ""),
            "REMOTE_ADDR": "192.0.2.1",
            "wsgi.input": io.BytesIO(body),
            **others,
        }
        begun: list[Any] = []
        content = b"".join(app(environ, lambda status, headers: begun.extend((status, headers))))
        return Reply(int(begun[0].split()[0]), begun[1], content)

    return call


class _Broken(io.BytesIO):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, size: int | None = -1, /) -> bytes:
        """Fail as a server's input does when the client is gone, or its chunks are broken."""
        raise self.error


class _Trickle(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        """Give one byte at a time."""
        return super().read(1)


class TestWSGI:
    @pytest.fixture
    def by_hand(self) -> ByHand:
        """The WSGI application."""
        rules = Enrolment(MemoryKeyRegistry())
        return ByHand(rules, wsgi.AccountsApplication(rules, ORIGIN, single_use=MemoryNonceStore()))

    def enrolled(self, by_hand: ByHand) -> Device:
        """Make a device whose key is enrolled."""
        device = by_hand.device(wsgi_call(by_hand.app))
        assert device.enrol(invitation=by_hand.rules.invite("acme")).status == 201
        return device

    @pytest.mark.parametrize("name", ["RAW_URI", "REQUEST_URI"])
    def test_target_on_the_wire(self, by_hand: ByHand, name: str) -> None:
        """Where the server tells the target on the wire, the token is bound to that."""
        device = self.enrolled(by_hand)
        environ = {name: "/x%2Fy/k%65ys?a=%31", "PATH_INFO": "/keys", "QUERY_STRING": "a=%31"}
        device.call = wsgi_call(by_hand.app, SCRIPT_NAME="/x/y", **environ)
        assert device.send("GET", "/x%2Fy/k%65ys?a=%31").status == 200
        assert device.send("GET", "/x/y/keys?a=%31").status == 401

    @pytest.mark.parametrize("name", ["RAW_URI", "REQUEST_URI"])
    def test_no_path_on_the_wire(self, by_hand: ByHand, name: str) -> None:
        """A target that is no path tells nothing."""
        device = self.enrolled(by_hand)
        device.call = wsgi_call(by_hand.app, **{name: f"{ORIGIN}/keys"})
        assert device.send("GET", "/keys").status == 200

    def test_prefix_is_encoded(self, by_hand: ByHand) -> None:
        """Else the target is what the usual encoding makes of the decoded path."""
        device = self.enrolled(by_hand)
        device.call = wsgi_call(by_hand.app, SCRIPT_NAME="/b\xc3\xbcro", PATH_INFO="/keys")
        assert device.send("GET", "/b%C3%BCro/keys").status == 200

    def test_root(self, by_hand: ByHand) -> None:
        """An empty path is answered with 404."""
        assert wsgi_call(by_hand.app)("GET", "", b"", {}).status == 404

    @pytest.mark.parametrize(
        ("length", "status"),
        [("x", 400), ("-1", 400), ("99", 400), ("16385", 413), ("9" * 30, 400), ("", 401)],
    )
    def test_lengths(self, by_hand: ByHand, length: str, status: int) -> None:
        """A length that is no number, wrong or too large is refused; none means that there is no body."""
        device = self.enrolled(by_hand)
        device.call = wsgi_call(by_hand.app, CONTENT_LENGTH=length)
        assert device.send("POST", "/recovery-codes", b"0123456789").status == status

    @pytest.mark.parametrize(("size", "status"), [(0, 201), (10, 201), (16384, 201), (16385, 413)])
    def test_without_length(self, by_hand: ByHand, size: int, status: int) -> None:
        """Where the server says that the body ends by itself, it is read to its end."""
        device = self.enrolled(by_hand)
        body = bytes(size)
        device.call = wsgi_call(by_hand.app, CONTENT_LENGTH="", **{"wsgi.input_terminated": True})
        assert device.send("POST", "/recovery-codes", body).status == status

    def test_trickled_body(self, by_hand: ByHand) -> None:
        """A body that is read in pieces is read whole."""
        device = self.enrolled(by_hand)
        body = b"0123456789"
        device.call = wsgi_call(by_hand.app, **{"wsgi.input": _Trickle(body)})
        assert device.send("POST", "/recovery-codes", body).status == 201

    @pytest.mark.parametrize(
        "error", [OSError("timed out"), ValueError("Invalid chunk header"), EOFError()], ids=repr
    )
    def test_broken_body(self, by_hand: ByHand, error: Exception) -> None:
        """A body that the server cannot read is answered with 400."""
        device = by_hand.device(wsgi_call(by_hand.app, **{"wsgi.input": _Broken(error)}))
        assert device.enrol().status == 400
