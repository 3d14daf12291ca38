"""Bodies of every kind: what is sent twice is the same twice, and verifies."""

import hashlib
import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tuned_digest import BodyError, Ed25519Signer, Resources
from tuned_digest.server.asgi import Application, Message, Receive, Scope, Send

from .clients import ASYNC, CLIENTS, Client, Connect
from .field_server import read, verified
from .serving import Served, serve

CHUNKS = [b"one ", b"two ", b"three"]
WHOLE = b"".join(CHUNKS)


@pytest.fixture
def received() -> list[bytes]:
    """The body of each request to the server."""
    return []


@pytest.fixture
def server(received: list[bytes]) -> Iterator[Served]:
    """The verified application behind what keeps every body."""
    with serve(_keeping(verified(), received)) as served:
        yield served


class TestInMemory:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            pytest.param({"body": WHOLE}, WHOLE, id="bytes"),
            pytest.param({"body": "na\u00efve \u2713"}, "na\u00efve \u2713".encode(), id="text"),
            pytest.param({"form": {"a": "1", "b": "x y"}}, b"a=1&b=x+y", id="form"),
            pytest.param({}, b"", id="none"),
        ],
    )
    def test_bodies_in_memory_are_sent_twice_alike(
        self,
        client: Client,
        server: Served,
        received: list[bytes],
        options: dict[str, Any],
        expected: bytes,
    ) -> None:
        """A body in memory arrives whole after a challenge, and verifies."""
        _check(client, server, received, options, expected)

    def test_json_is_sent_twice_alike(self, client: Client, server: Served, received: list[bytes]) -> None:
        """What a library makes of JSON is what is digested, and both sends have it."""
        _send(client, server, {"json": {"a": [1, 2]}})
        assert [json.loads(body) for body in received] == [{"a": [1, 2]}] * 2
        assert received[0] == received[1]

    def test_a_multipart_form_is_sent_twice_alike(
        self, client: Client, server: Served, received: list[bytes]
    ) -> None:
        """A multipart form keeps its boundary from one send to the next."""
        _check_multipart(client, server, received, {"part": ("name.txt", WHOLE)})
        assert b'filename="name.txt"' in received[0]


class TestFiles:
    def test_an_open_file_is_sent_from_where_it_stands(
        self, client: Client, server: Served, received: list[bytes], tmp_path: Path
    ) -> None:
        """A file opened and read in part is sent from there, with the right length, twice."""
        (tmp_path / "file").write_bytes(b"skipped " + WHOLE)
        with (tmp_path / "file").open("rb") as file:
            file.seek(8)
            echo = _check(client, server, received, {"body": file}, WHOLE)
        assert echo["length"] == str(len(WHOLE))
        assert echo["coding"] is None

    def test_a_file_part_is_sent_twice_alike(
        self, client: Client, server: Served, received: list[bytes], tmp_path: Path
    ) -> None:
        """A multipart upload of an open file arrives whole after a challenge."""
        (tmp_path / "file").write_bytes(WHOLE)
        with (tmp_path / "file").open("rb") as file:
            _check_multipart(client, server, received, {"part": file})

    def test_an_unseekable_file_part_is_sent_twice_alike(
        self, client: Client, server: Served, received: list[bytes]
    ) -> None:
        """A part that can be read once is not lost on the second send."""

        class Unseekable(io.BytesIO):
            def seekable(self) -> bool:
                return False

            def seek(self, *args: Any) -> int:
                raise io.UnsupportedOperation

            def tell(self) -> int:
                raise io.UnsupportedOperation

        _check_multipart(client, server, received, {"part": ("f", Unseekable(WHOLE))})


class TestIterables:
    def test_a_generator_is_sent_twice_alike(
        self, client: Client, server: Served, received: list[bytes]
    ) -> None:
        """A generator is read once, and sent twice, chunked."""
        echo = _check(client, server, received, {"body": (chunk for chunk in CHUNKS)}, WHOLE)
        assert (echo["length"], echo["coding"]) == (None, "chunked")

    def test_an_iterator_that_is_no_generator_is_sent_twice_alike(
        self, client: Client, server: Served, received: list[bytes]
    ) -> None:
        """A plain iterator, which libraries send empty the second time, is sent whole."""
        _check(client, server, received, {"body": iter(CHUNKS)}, WHOLE)

    def test_the_second_request_sends_a_body_once(
        self, client: Client, server: Served, received: list[bytes]
    ) -> None:
        """Under a chained nonce a generator is sent once."""
        client.send("GET", server.url)
        _send(client, server, {"body": iter(CHUNKS)}, method="PATCH")
        assert received == [b"", b"", WHOLE]
        assert server.statuses == [401, 200, 200]

    @pytest.mark.parametrize("name", ASYNC)
    def test_an_async_generator_is_sent_twice_alike(
        self, name: str, server: Served, received: list[bytes], signer: Ed25519Signer
    ) -> None:
        """An async generator is read once, and sent twice."""
        with CLIENTS[name](server.url, signer) as client:
            _check(client, server, received, {"body": _async_chunks()}, WHOLE)

    def test_an_async_body_in_a_blocking_client_is_our_error(
        self, server: Served, signer: Ed25519Signer
    ) -> None:
        """A blocking client refuses an async generator before anything is sent."""
        with CLIENTS["httpx"](server.url, signer) as client:
            with pytest.raises(BodyError, match="async client") as raised:
                client.send("PATCH", server.url, body=_async_chunks())
            assert isinstance(raised.value, client.library_error)
        assert server.requests == []


class TestSpool:
    def test_a_body_beyond_the_spool_goes_to_a_file(
        self, connect: Connect, server: Served, received: list[bytes], signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A generator larger than the spool is sent whole, twice, and leaves no file behind."""
        resources = Resources(spool_kib=64, spool_dir=str(tmp_path), prime_above_kib=None)
        chunks = [bytes([number]) * 50_000 for number in range(40)]
        with connect(server.url, signer, resources=resources) as client:
            _check(client, server, received, {"body": iter(chunks)}, b"".join(chunks))
        assert list(tmp_path.iterdir()) == []

    def test_a_spool_that_cannot_be_written_is_our_error(
        self, connect: Connect, server: Served, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A missing spool directory is reported before anything is sent."""
        resources = Resources(spool_kib=1, spool_dir=str(tmp_path / "missing"))
        with connect(server.url, signer, resources=resources) as client:
            with pytest.raises(BodyError, match="spool_dir") as raised:
                client.send("POST", server.url, body=iter([b"x" * 4096]))
            assert isinstance(raised.value, client.library_error)
        assert server.requests == []


def _send(client: Client, server: Served, options: dict[str, Any], method: str = "POST") -> Any:
    result = client.send(method, f"{server.url}/echo", **options)
    assert result.status == 200
    return json.loads(result.content)


def _check(
    client: Client, server: Served, received: list[bytes], options: dict[str, Any], expected: bytes
) -> Any:
    """Send a body that is challenged, and see that it came whole both times, to be digested and verified."""
    echo = _send(client, server, options)
    assert received == [expected] * 2
    assert echo["sha256"] == hashlib.sha256(expected).hexdigest()
    assert server.statuses == [401, 200]
    return echo


def _check_multipart(client: Client, server: Served, received: list[bytes], files: dict[str, Any]) -> None:
    _send(client, server, {"files": files})
    first, second = received
    assert first == second
    assert b"\r\n\r\n" + WHOLE + b"\r\n--" in first
    assert server.statuses == [401, 200]


def _async_chunks() -> AsyncIterator[bytes]:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk

    return chunks()


def _keeping(app: Application, received: list[bytes]) -> Application:
    """Note every body before an application sees it."""

    async def keeping(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        body = await read(receive)
        received.append(body)
        messages: list[Message] = [{"type": "http.request", "body": body}]

        async def replaying() -> Message:
            return messages.pop() if messages else await receive()

        await app(scope, replaying, send)

    return keeping
