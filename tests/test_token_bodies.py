"""Bodies: digested before they are sent where a token is bound to them, and left alone where none is."""

import hashlib
import io
import json
import os
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import requests

from tuned_digest import BodyError, Ed25519Signer, Resources, events

from .clients import ASYNC
from .raw_server import record
from .token_serving import every_client, serving_tokens, signed_in

LARGE = bytes(range(251)) * 8000
CHUNKS = [LARGE[start : start + 100_000] for start in range(0, len(LARGE), 100_000)]


def sha256(content: bytes) -> str:
    """Digest a body as the server's echo does."""
    return hashlib.sha256(content).hexdigest()


class Unseekable(io.BytesIO):
    """A file that can be read once."""

    def _refuse(self, *args: Any) -> int:
        raise io.UnsupportedOperation

    seek = tell = _refuse


async def async_chunks() -> AsyncIterator[bytes]:
    """Give a body to an async client."""
    for chunk in CHUNKS:
        yield chunk


BODIES: dict[str, Callable[[Any, IO[bytes]], Any]] = {
    "none": lambda client, file: {},
    "bytes": lambda client, file: {"body": LARGE},
    "text": lambda client, file: {"body": "na\u00efve \u2713"},
    "json": lambda client, file: {"json": {"a": "\u2713"}},
    "form": lambda client, file: {"form": {"a": "b c", "d": "\u2713"}},
    "file": lambda client, file: {"body": file},
    "unseekable": lambda client, file: {"body": Unseekable(LARGE)},
    "generator": lambda client, file: {"body": async_chunks() if client.is_async else iter(CHUNKS)},
    "multipart": lambda client, file: {"files": {"f": ("name", file), "g": b"part"}, "form": {"t": "v"}},
    "multipart read once": lambda client, file: {"files": {"f": ("name", Unseekable(LARGE))}},
}


@pytest.fixture
def large_file(tmp_path: Path) -> Iterator[IO[bytes]]:
    """An open file of 2 MB."""
    (tmp_path / "large").write_bytes(LARGE)
    with (tmp_path / "large").open("rb") as file:
        yield file


class TestBound:
    @every_client
    @pytest.mark.parametrize("kind", BODIES)
    def test_every_kind_of_body_is_bound(
        self, name: str, kind: str, signer: Ed25519Signer, large_file: IO[bytes], tmp_path: Path
    ) -> None:
        """Each arrives whole, in one round trip, with its digest in the field and in the token."""
        resources = Resources(spool_kib=1, spool_dir=tmp_path)
        with (
            serving_tokens(signer) as (server, served),
            signed_in(name, served.url, signer, resources=resources) as client,
        ):
            result = client.send("PUT", f"{served.url}/up", **BODIES[kind](client, large_file))
        assert result.status == 200
        assert served.statuses == [200]
        digest = served.requests[0].field("Content-Digest")
        assert digest == [server.claims[0]["content_digest"]]
        assert (
            len(served.requests[0].field("Content-Length") + served.requests[0].field("Transfer-Encoding"))
            <= 1
        )
        sizes = {"bytes": LARGE, "file": LARGE, "unseekable": LARGE, "generator": LARGE, "none": b""}
        if kind in sizes:
            assert json.loads(result.content)["sha256"] == sha256(sizes[kind])
        assert [path.name for path in tmp_path.iterdir()] == ["large"]

    @every_client
    def test_64_mib_of_a_generator_take_no_memory(
        self, name: str, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A body that is read once goes to a file on its way, and never whole into memory."""
        chunk = bytes(range(256)) * 4096

        def chunks() -> Iterator[bytes]:
            for _ in range(64):
                yield chunk

        async def achunks() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield chunk

        resources = Resources(spool_kib=64, spool_dir=tmp_path)
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer, resources=resources) as client,
        ):
            client.send("GET", served.url)
            tracemalloc.start()
            try:
                result = client.send("PUT", served.url, body=achunks() if client.is_async else chunks())
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert json.loads(result.content)["size"] == 64 * 2**20
        assert peak < 16 * 2**20

    @every_client
    @pytest.mark.parametrize("size", [0, 1000, len(LARGE) + 1], ids=["empty", "shorter", "longer"])
    def test_a_file_that_changes_on_the_way_is_our_error(
        self, name: str, size: int, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A file that is cut or grows after it was signed is an error, and is not sent."""
        path = tmp_path / "large"
        path.write_bytes(LARGE)

        def change(event: events.Event) -> None:
            if isinstance(event, events.RequestSigned):
                os.truncate(path, size)

        with (
            serving_tokens(signer, is_lent=False) as (_, served),
            signed_in(name, served.url, signer, on_event=change) as client,
            path.open("rb", buffering=0) as file,
        ):
            with pytest.raises(BodyError, match="has changed since it was digested") as raised:
                client.send("PUT", f"{served.url}/up", body=file)
            # requests sends it by itself, and urllib3 would make others of its own errors.
            assert isinstance(raised.value, client.library_error) != (name == "requests")
        assert 200 not in served.statuses

    @every_client
    def test_a_clock_that_is_off_costs_no_one_shot_body(self, name: str, signer: Ed25519Signer) -> None:
        """What was spooled for its digest is sent a second time."""
        with (
            serving_tokens(signer, clock=lambda: 1_000_600.0) as (_, served),
            signed_in(name, served.url, signer, _clock=lambda: 1_000_000.0) as client,
        ):
            body = async_chunks() if client.is_async else iter(CHUNKS)
            result = client.send("PUT", served.url, body=body)
        assert json.loads(result.content)["sha256"] == sha256(LARGE)
        assert served.statuses == [401, 200]

    @pytest.mark.parametrize("name", ["httpx", "requests"])
    def test_an_async_body_needs_an_async_client(self, name: str, signer: Ed25519Signer) -> None:
        """An async generator in a blocking client is an error, and nothing is sent."""
        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer) as client,
            pytest.raises((BodyError, TypeError, RuntimeError)),
        ):
            client.send("PUT", served.url, body=async_chunks())
        assert served.requests == []

    @every_client
    def test_a_body_that_fails_is_the_callers_error(self, name: str, signer: Ed25519Signer) -> None:
        """What a generator raises while it is digested reaches the caller as it is."""

        class OwnError(Exception):
            pass

        def failing() -> Iterator[bytes]:
            yield b"x"
            raise OwnError

        async def afailing() -> AsyncIterator[bytes]:
            yield b"x"
            raise OwnError

        with (
            serving_tokens(signer) as (_, served),
            signed_in(name, served.url, signer) as client,
            pytest.raises(OwnError),
        ):
            client.send("PUT", served.url, body=afailing() if client.is_async else failing())
        assert served.requests == []


UNBOUND: dict[str, dict[str, Any]] = {"fresh": {"bind": False}, "reused": {"bind": False, "reuse": True}}


class TestUnbound:
    @every_client
    @pytest.mark.parametrize("how", UNBOUND)
    def test_a_body_is_streamed_as_it_is_read(self, name: str, how: str, signer: Ed25519Signer) -> None:
        """The first bytes have arrived before the last are made: nothing is digested, nothing spooled."""
        arrived = threading.Event()

        def chunks() -> Iterator[bytes]:
            yield b"first"
            assert arrived.wait(30)
            yield b"last"

        async def achunks() -> AsyncIterator[bytes]:
            for chunk in chunks():
                yield chunk

        resources = Resources(spool_dir=Path("/missing"))
        with (
            record(
                lambda wire, recorded: wire.answer(200), early=lambda wire, recorded: arrived.set()
            ) as raw,
            signed_in(name, raw.url, signer, resources=resources, **UNBOUND[how]) as client,
        ):
            body = achunks() if client.is_async else chunks()
            assert client.send("PUT", raw.url, body=body).status == 200
        (sent,) = raw.requests
        assert (sent.body, sent.framing) == (b"firstlast", ["transfer-encoding: chunked"])
        assert sent.field("Content-Digest") == []

    @every_client
    @pytest.mark.parametrize("how", UNBOUND)
    @pytest.mark.parametrize("kind", BODIES)
    def test_every_kind_of_body_arrives(
        self, name: str, how: str, kind: str, signer: Ed25519Signer, large_file: IO[bytes]
    ) -> None:
        """Each arrives as it would without us."""
        with (
            serving_tokens(signer, is_bound=False, is_single_use=how == "fresh") as (_, served),
            signed_in(name, served.url, signer, **UNBOUND[how]) as client,
        ):
            if client.is_async and kind in ("file", "unseekable"):
                pytest.skip("httpx sends no plain file on an async client")
            result = client.send("PUT", f"{served.url}/up", **BODIES[kind](client, large_file))
        assert (result.status, served.statuses) == (200, [200])
        assert served.requests[0].field("Content-Digest") == []

    @every_client
    @pytest.mark.parametrize("how", UNBOUND)
    @pytest.mark.parametrize("kind", ["bytes", "generator"])
    def test_a_401_for_a_body_that_is_gone_is_the_callers(
        self, name: str, how: str, kind: str, signer: Ed25519Signer, large_file: IO[bytes]
    ) -> None:
        """Bytes are sent again when the clock was off; of a one-shot body there is nothing left to send."""
        ahead = {"clock": lambda: 1_000_600.0, "is_bound": False, "is_single_use": how == "fresh"}
        with (
            serving_tokens(signer, **ahead) as (_, served),
            signed_in(name, served.url, signer, _clock=lambda: 1_000_000.0, **UNBOUND[how]) as client,
        ):
            result = client.send("PUT", served.url, **BODIES[kind](client, large_file))
        assert served.statuses == ([401, 200] if kind == "bytes" else [401])
        if kind == "generator":
            assert result.status == 401
            assert "expired" in result.report.reason or "not valid" in result.report.reason


def test_async_clients_take_async_bodies() -> None:
    """Both async kinds are among those that the tests above have tried."""
    assert set(ASYNC) == {"httpx-asyncio", "httpx-trio"}
    assert issubclass(requests.RequestException, OSError)
