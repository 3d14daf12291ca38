"""Large bodies: sent twice from where they are, and kept from being sent as something else."""

import gzip
import hashlib
import io
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import requests

from tuned_digest import BodyError, Ed25519Signer, Resources, events

from .clients import ASYNC, CLIENTS, Client, Connect
from .serving import Served

LARGE = bytes(range(251)) * 4000


def sha256(content: bytes) -> str:
    """Digest a body as the server's echo does."""
    return hashlib.sha256(content).hexdigest()


class Unseekable(io.BytesIO):
    """A file that can be read once."""

    def _refuse(self, *args: Any) -> int:
        raise io.UnsupportedOperation

    seek = tell = _refuse


FILES: dict[str, Callable[[Path], IO[bytes]]] = {
    "buffered": lambda path: path.open("rb"),
    "unbuffered": lambda path: path.open("rb", buffering=0),
    "memory": lambda path: io.BytesIO(path.read_bytes()),
    "gzip": lambda path: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(path.read_bytes()))),  # type: ignore[dict-item,return-value]
}


@pytest.fixture
def unspooled(connect: Connect, server: Served, signer: Ed25519Signer, tmp_path: Path) -> Iterator[Client]:
    """A client that has nowhere to spool a body to."""
    resources = Resources(spool_kib=1, spool_dir=tmp_path / "missing", prime_above_kib=None)
    with connect(server.url, signer, resources=resources) as client:
        yield client


@pytest.fixture
def large_file(tmp_path: Path) -> Path:
    """A file of 1 MB."""
    (tmp_path / "large").write_bytes(LARGE)
    return tmp_path / "large"


class TestLargeBodies:
    @pytest.mark.parametrize("start", [0, 1000])
    @pytest.mark.parametrize("opened", FILES.values(), ids=list(FILES))
    def test_a_file_is_sent_from_where_it_stands_and_not_spooled(
        self,
        unspooled: Client,
        server: Served,
        large_file: Path,
        opened: Callable[[Path], IO[bytes]],
        start: int,
    ) -> None:
        """A file of any make goes out twice from its place, under the length of what is left of it."""
        with opened(large_file) as file:
            file.seek(start)
            result = unspooled.send("PATCH", server.url, body=file)
        echo = json.loads(result.content)
        assert echo["sha256"] == sha256(LARGE[start:])
        assert (echo["length"], echo["coding"]) == (str(len(LARGE) - start), None)
        assert server.statuses == [401, 200]

    @pytest.mark.filterwarnings("ignore::requests.exceptions.FileModeWarning")
    def test_a_text_file_is_sent_as_its_bytes(self, client: Client, server: Served, large_file: Path) -> None:
        """A file that is open as text is read once, and its length is that of what is sent."""
        large_file.write_text("na\u00efve \u2713" * 1000, encoding="utf-8")
        with large_file.open(encoding="utf-8") as file:
            echo = json.loads(client.send("PATCH", server.url, body=file).content)
        assert echo["sha256"] == sha256(large_file.read_bytes())
        assert (echo["length"], echo["coding"]) == (str(large_file.stat().st_size), None)
        assert server.statuses == [401, 200]

    def test_large_parts_that_can_be_rewound_are_not_spooled(
        self, unspooled: Client, server: Served, large_file: Path
    ) -> None:
        """A form with large files in it goes out twice from the files, or from memory, alike."""
        with large_file.open("rb") as first, io.BytesIO(LARGE) as second:
            files = {"first": first, "second": ("name", second), "third": ("small", b"part")}
            result = unspooled.send("PATCH", server.url, files=files, form={"text": "value"})
        echo = json.loads(result.content)
        assert echo["size"] > 2 * len(LARGE)
        assert echo["length"] == str(echo["size"])
        assert server.statuses == [401, 200]

    def test_a_large_part_that_can_be_read_once_is_spooled(
        self, connect: Connect, server: Served, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """A form with a part that cannot be rewound goes out twice, and leaves no file behind."""
        resources = Resources(spool_kib=1, spool_dir=tmp_path, prime_above_kib=None)
        with connect(server.url, signer, resources=resources) as client:
            files = {"part": ("name", Unseekable(LARGE))}
            echo = json.loads(client.send("PATCH", server.url, files=files).content)
        assert echo["size"] > len(LARGE)
        assert server.statuses == [401, 200]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("name", ASYNC)
    def test_an_async_body_beyond_the_spool_is_sent_twice(
        self, name: str, server: Served, signer: Ed25519Signer, tmp_path: Path
    ) -> None:
        """An async generator larger than the memory it may take goes to a file and arrives whole."""

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(0, len(LARGE), 10_000):
                yield LARGE[start : start + 10_000]

        resources = Resources(spool_kib=1, spool_dir=tmp_path, prime_above_kib=None)
        with CLIENTS[name](server.url, signer, resources=resources) as client:
            echo = json.loads(client.send("PATCH", server.url, body=chunks()).content)
        assert echo["sha256"] == sha256(LARGE)
        assert server.statuses == [401, 200]
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("size", [0, 1000, len(LARGE) + 1], ids=["empty", "shorter", "longer"])
    @pytest.mark.parametrize("is_primed", [False, True], ids=["challenged", "chained"])
    def test_a_file_that_changes_on_the_way_is_our_error(
        self,
        *,
        connect: Connect,
        server: Served,
        signer: Ed25519Signer,
        large_file: Path,
        size: int,
        is_primed: bool,
    ) -> None:
        """A file that is cut or grows after it was signed is an error of both families, and nothing hangs."""

        def change(event: events.Event) -> None:
            if isinstance(event, events.RequestSigned) and event.method == "PATCH":
                os.truncate(large_file, size)

        resources = Resources(prime_above_kib=None)
        with (
            connect(server.url, signer, resources=resources, on_event=change) as client,
            large_file.open("rb", buffering=0) as file,
        ):
            if is_primed:
                client.prime()
            with pytest.raises(BodyError, match="has changed since it was digested") as raised:
                client.send("PATCH", f"{server.url}/up", body=file)
            # requests sends it by itself the first time, and urllib3 would make others of its own errors.
            if client.library_error is not requests.RequestException or not is_primed:
                assert isinstance(raised.value, client.library_error)
                error: Any = raised.value
                assert str(error.request.url) == f"{server.url}/up"
        assert 200 not in [seen.status for seen in server.requests if seen.method == "PATCH"]
